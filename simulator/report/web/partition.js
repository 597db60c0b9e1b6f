// Training samples by node and class.

const partitions = distinct("partition");
const partition = { place: partitions.shown.length ? partitions.shown[0][0] : null };

sections.push(function drawPartition() {
  const counts = DATA.partitions[partition.place];
  const notes = partitions.notes.slice();
  if (!counts) {
    draw("partition-plot", [], {}, "");
    byId("partition-note").textContent = notes.join(" ");
    return;
  }
  const nodeNumbers = counts.map((_, node) => node);
  const classes = counts[0].map((_, label) => label);
  const byClass = classes.map((label) => counts.map((row) => row[label] || null));
  const largest = counts.reduce((most, row) => Math.max(most, ...row), 0);
  // Counts of a skewed partition span orders of magnitude: colours follow their square roots.
  const ticks = unique([0, 0.1, 0.3, 0.6, 1].map((share) => Math.round(share * largest)));
  const total = counts.map((row) => row.reduce((sum, value) => sum + value, 0));
  const fits = counts.length <= 24 && classes.length <= 12 && largest < 10000;
  const whole = { tickformat: ",d", ...(counts.length <= 40 ? { dtick: counts.length <= 24 ? 1 : 2 } : {}) };
  draw("partition-plot", [
    { type: "bar", x: nodeNumbers, y: total, marker: { color: "#5AA2CE" }, yaxis: "y2",
      hovertemplate: "node %{x}<br>%{y:,d} training samples<extra></extra>" },
    { type: "heatmap", x: nodeNumbers, y: classes, z: byClass.map((row) => row.map((value) => value && Math.sqrt(value))),
      customdata: byClass, colorscale: [[0, css("--low")], [1, css("--high")]], zmin: 0, zmax: Math.sqrt(largest), xgap: 1, ygap: 1,
      hovertemplate: "node %{x}, class %{y}<br>%{customdata:,d} training samples<extra></extra>",
      ...(fits ? { text: byClass.map((row) => row.map((value) => value ?? "")), texttemplate: "%{text}" } : {}),
      colorbar: { title: { text: "training samples", side: "right" }, tickvals: ticks.map(Math.sqrt), ticktext: ticks.map((t) => format(t)),
        thickness: 14, len: 0.72, y: 0, yanchor: "bottom", outlinewidth: 0 } },
  ], {
    xaxis: axis("node", { ...whole, showgrid: false, zeroline: false, range: [-0.5, counts.length - 0.5] }),
    yaxis: axis("class", { domain: [0, 0.72], showgrid: false, zeroline: false, ...(classes.length <= 24 ? { dtick: 1 } : {}) }),
    yaxis2: axis("samples", { domain: [0.78, 1], rangemode: "tozero", nticks: 4 }),
    bargap: 0.25,
  }, "Training samples by node and class");
  notes.push("Computed anew from the configuration; empty cells have no samples.");
  byId("partition-note").textContent = notes.join(" ");
});

if (partitions.shown.length > 1) {
  fill(byId("partition-controls"), select("Runs", partitions.shown, partition.place, (value) => {
    partition.place = Number(value);
    redraw();
  }));
}
