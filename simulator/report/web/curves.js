// A metric against steps, bytes, time or oracle calls: a line for every setting with a band over its seeds, or for every run.

const curveMetrics = unique(RUNS.flatMap((run) => Object.keys(run.curves))).filter((name) => name !== "step").sort(byWords);
const curveAxes = Object.keys(DATA.axes).filter((name) => RUNS.some((run) => run.curves[name]));
const curve = {
  x: curveAxes[0],
  metric: DATA.preferred.find((name) => curveMetrics.includes(name)) || curveMetrics[0],
  lines: GROUPS.length < RUNS.length ? "band" : "runs",
  scale: "auto",
  logX: false,
};

// The evaluations of a run that have both numbers, as [step, x, y].
function points(run) {
  const { step, [curve.x]: x, [curve.metric]: y } = run.curves;
  if (!x || !y) return [];
  return step.map((at, place) => [at, scaled(x[place], curve.x), scaled(y[place], curve.metric)])
    .filter(([, a, b]) => a !== null && b !== null);
}

function lineTrace(group, x, y, custom, template) {
  const style = styleOf(group);
  return {
    type: "scatter", mode: x.length <= 20 ? "lines+markers" : "lines", x, y, customdata: custom,
    line: { color: style.colour, dash: style.dash, width: 2 }, marker: { size: 5 },
    name: plain(GROUPS[group].label), hovertemplate: template,
  };
}

function runTrace(run) {
  const line = points(run);
  const custom = line.map(([step, x, y]) => [format(step), format(x, curve.x), format(y, curve.metric)]);
  const title = RUNS.length > 1 ? `<b>${plain(GROUPS[run.group].label)}</b><br>run ${plain(run.name)}, seed ${run.seed}<br>` : "";
  const x = curve.x === "step" ? "" : `<br>${DATA.axes[curve.x]}: %{customdata[1]}`;
  const trace = lineTrace(run.group, line.map((p) => p[1]), line.map((p) => p[2]), custom,
    `${title}step %{customdata[0]}${x}<br>${named(curve.metric)}: %{customdata[2]}<extra></extra>`);
  return { ...trace, steps: line.map((p) => p[0]), around: (place) => [line[place][2]] };
}

// Mean over the runs of a setting at the steps that all of them have; null where there are fewer than two such steps.
function bandTraces(group, runs) {
  const tables = runs.map((run) => new Map(points(run).map(([step, x, y]) => [step, [x, y]]))).filter((table) => table.size);
  if (tables.length < 2) return null;
  const steps = [...tables[0].keys()].filter((step) => tables.every((table) => table.has(step)));
  if (steps.length < 2) return null;
  const at = (step, place) => tables.map((table) => table.get(step)[place]);
  const x = steps.map((step) => mean(at(step, 0)));
  const y = steps.map((step) => mean(at(step, 1)));
  const low = steps.map((step) => Math.min(...at(step, 1)));
  const high = steps.map((step) => Math.max(...at(step, 1)));
  const custom = steps.map((step, place) => [format(step), format(x[place], curve.x), format(y[place], curve.metric),
    format(low[place], curve.metric), format(high[place], curve.metric)]);
  const along = curve.x === "step" ? "" : `<br>${DATA.axes[curve.x]}: %{customdata[1]}`;
  return [
    { type: "scatter", mode: "lines", x: [...x, ...x.slice().reverse()], y: [...high, ...low.slice().reverse()],
      fill: "toself", fillcolor: faded(styleOf(group).colour, GROUPS.length > 5 ? 0.1 : 0.18), line: { width: 0 }, hoverinfo: "skip" },
    { steps, around: (place) => [low[place], high[place]], ...lineTrace(group, x, y, custom, `<b>${plain(GROUPS[group].label)}</b><br>step %{customdata[0]}${along}<br>` +
      `${named(curve.metric)}: %{customdata[2]}<br>of ${tables.length} runs: %{customdata[3]} to %{customdata[4]}<extra></extra>`) },
  ];
}

function axisType(values) {
  if (curve.scale !== "auto") return curve.scale;
  const positive = values.length > 0 && values.every((value) => value > 0);
  return positive && unit(curve.metric) !== "%" && Math.max(...values) / Math.min(...values) > 100 ? "log" : "linear";
}

sections.push(function drawCurves() {
  const [bands, traces] = [[], []];
  let apart = 0;
  visibleByGroup().forEach((runs, group) => {
    const band = curve.lines === "band" ? bandTraces(group, runs) : null;
    if (band) {
      bands.push(band[0]);
      traces.push(band[1]);
    } else {
      apart += runs.length > 1;
      traces.push(...runs.map(runTrace).filter((trace) => trace.x.length));
    }
  });
  const y = traces.flatMap((trace) => trace.y);
  const type = axisType(y);
  // What a model is before the first step would squeeze everything later.
  const later = traces.flatMap((trace) => (trace.steps || []).flatMap((step, place) => (step > 0 ? trace.around(place) : [])));
  const [low, high] = [Math.min(...later), Math.max(...later)];
  const leavesOut = type === "linear" && curve.scale === "auto" && later.length > 3 && y.some((value) => value < low || value > high);
  const margin = 0.05 * (high - low || Math.abs(high) || 1);
  draw("curve-plot", [...bands, ...traces], {
    xaxis: axis(DATA.axes[curve.x], { type: curve.logX ? "log" : "linear" }),
    yaxis: axis(named(curve.metric), { type, ...(leavesOut ? { range: [low - margin, high + margin] } : {}), ...(type === "log" ? { dtick: Math.max(...y) / Math.min(...y) > 100 ? 1 : "D2" } : {}) }),
  }, `${curve.metric} against ${DATA.axes[curve.x]}`);
  const notes = [];
  if (leavesOut) notes.push("The vertical axis leaves out the evaluation before the first step; it is there with a linear axis.");
  if (!traces.length) notes.push("No run that is shown has this metric and this axis.");
  if (curve.lines === "band" && traces.length) {
    notes.push("Lines are means over the runs of a setting, at evaluations that all of them have; bands reach from the lowest to the highest.");
    if (apart) notes.push("Settings whose runs have no evaluations in common are drawn run by run.");
  }
  if (type === "log" && y.some((value) => value <= 0)) notes.push("Values that are not positive have no place on a logarithmic axis.");
  if (DATA.every > 1) notes.push(`To keep the page small, one of ${DATA.every} evaluations is shown, besides the first, the best, the last and those with rare metrics.`);
  byId("curve-note").textContent = notes.join(" ");
});

function curveControls() {
  const change = (name) => (value) => {
    curve[name] = value;
    redraw();
  };
  const controls = [
    select("Metric", curveMetrics.map((name) => [name, named(name)]), curve.metric, change("metric")),
    select("Against", curveAxes.map((name) => [name, DATA.axes[name]]), curve.x, change("x")),
    select("Vertical axis", [["auto", "as fits"], ["linear", "linear"], ["log", "logarithmic"]], curve.scale, change("scale")),
    checkbox("logarithmic horizontal axis", curve.logX, change("logX")),
  ];
  if (GROUPS.length < RUNS.length) {
    controls.splice(2, 0, select("Lines", [["band", "mean over seeds, with band"], ["runs", "every run"]], curve.lines, change("lines")));
  }
  fill(byId("curve-controls"), ...controls);
}
curveControls();
