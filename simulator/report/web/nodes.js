// The values of all nodes at the end of the runs: boxes, or nodes in the order of their values.

const nodeMetrics = unique(RUNS.flatMap((run) => Object.keys(run.per_node))).sort(byWords);
const nodes = {
  metric: DATA.preferred.find((name) => nodeMetrics.includes(name)) || nodeMetrics[0],
  view: RUNS.length === 1 ? "order" : "box",
};

function nodeValues(run) {
  return (run.per_node[nodes.metric] || [])
    .map((value, node) => ({ value: scaled(value, nodes.metric), node, run })).filter(({ value }) => value !== null);
}

const nodeWords = ({ value, node, run }) =>
  `${DATA.most_nodes === null ? `node ${node}` : "a node"}${RUNS.length > 1 ? `, run ${plain(run.name)}, seed ${run.seed}` : ""}<br>` +
  `${named(nodes.metric)}: ${format(value, nodes.metric)}`;

function boxTraces() {
  return visibleByGroup().flatMap((runs, group) => {
    const values = runs.flatMap(nodeValues);
    if (!values.length) return [];
    return [{
      type: "box", orientation: "h", x: values.map((each) => each.value), y0: group, text: values.map(nodeWords),
      name: plain(GROUPS[group].label), boxpoints: values.length <= 1500 ? "all" : "outliers", jitter: 0.6, pointpos: 0,
      boxmean: true, fillcolor: faded(styleOf(group).colour, 0.15), line: { color: styleOf(group).colour, width: 1.5 },
      marker: { size: 4, opacity: 0.65 }, hoveron: "points", hovertemplate: `<b>%{fullData.name}</b><br>%{text}<extra></extra>`,
    }];
  });
}

function orderTraces() {
  return visible().flatMap((run) => {
    const values = nodeValues(run).sort((a, b) => a.value - b.value);
    const style = styleOf(run.group);
    return values.length ? [{
      type: "scatter", mode: "lines+markers", x: values.map((_, place) => (100 * (place + 0.5)) / values.length),
      y: values.map((each) => each.value), text: values.map(nodeWords), name: plain(GROUPS[run.group].label),
      line: { color: style.colour, dash: style.dash, width: 1.3 }, marker: { size: values.length <= 100 ? 6 : 3 },
      hovertemplate: "<b>%{fullData.name}</b><br>%{text}<extra></extra>",
    }] : [];
  });
}

const shortened = (text, most) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);

sections.push(function drawNodes() {
  const isBox = nodes.view === "box";
  const traces = nodeMetrics.length ? (isBox ? boxTraces() : orderTraces()) : [];
  const groups = visibleByGroup().flatMap((runs, group) => (runs.flatMap(nodeValues).length ? [group] : []));
  if (isBox) traces.forEach((trace, place) => { trace.y0 = place; });
  byId("node-plot").style.height = `${isBox ? Math.max(220, 90 + 46 * groups.length) : 400}px`;
  draw("node-plot", traces, isBox ? {
    xaxis: axis(named(nodes.metric)),
    yaxis: axis("", {
      tickvals: groups.map((_, place) => place), ticktext: groups.map((group) => plain(shortened(GROUPS[group].label, 36))),
      autorange: "reversed", showgrid: false, zeroline: false,
    }),
  } : { xaxis: axis("nodes, from the smallest value to the largest (%)", { range: [0, 100] }), yaxis: axis(named(nodes.metric)) },
  `${nodes.metric} of all nodes`);
  const notes = [];
  if (!traces.length) notes.push("No run that is shown has values by node; they are in the summary of finished runs.");
  else if (isBox) notes.push("A dot is a node at the end of a run. Boxes reach from the lower to the upper quartile; the solid line is the median, the dashed line the mean.");
  else notes.push("A dot is a node at the end of a run.");
  if (DATA.most_nodes !== null) notes.push(`To keep the page small, ${DATA.most_nodes} evenly spaced values of every run are shown where there are more.`);
  byId("node-note").textContent = notes.join(" ");
});

function nodeControls() {
  if (!nodeMetrics.length) return;
  const change = (name) => (value) => {
    nodes[name] = value;
    redraw();
  };
  fill(byId("node-controls"),
    select("Metric", nodeMetrics.map((name) => [name, named(name)]), nodes.metric, change("metric")),
    select("Show", [["box", "a box for every setting"], ["order", "nodes in the order of their values"]], nodes.view, change("view")));
}
nodeControls();
