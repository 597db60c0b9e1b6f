// The first rounds of a schedule: nodes on a circle, and the matrix W_t.

// The distinct entries ("schedule" or "partition") of the runs, with the runs that have each; reasons where there are none.
function distinct(kind) {
  const entries = unique(RUNS.map((run) => run[kind]));
  const runsOf = (entry) => RUNS.filter((run) => run[kind] === entry);
  const label = (entry) => {
    const runs = runsOf(entry);
    if (runs.length === RUNS.length) return "all runs";
    const groups = unique(runs.map((run) => run.group));
    const what = groups.length <= 2 ? groups.map((group) => GROUPS[group].label).join(" and ") : `${groups.length} settings`;
    const seeds = unique(runs.map((run) => run.seed));
    return `${what}; seed ${seeds.length > 6 ? `${seeds.slice(0, 5).join(", ")}, …` : seeds.join(", ")}`;
  };
  return {
    shown: entries.filter(isNumber).map((entry) => [entry, label(entry)]),
    notes: entries.filter((entry) => !isNumber(entry)).map((entry) => {
      const where = runsOf(entry).length === RUNS.length ? "" : ` (${label(entry)})`;
      return `Not shown${where}: ${entry}.`;
    }),
  };
}

const schedules = distinct("schedule");
const graph = { schedule: schedules.shown.length ? schedules.shown[0][0] : null, round: 0 };
const MOST_NODES_DRAWN = 60;
const MOST_EDGES_DRAWN = 400;

function place(node, count) {
  const angle = (2 * Math.PI * node) / count;
  return [210 * Math.sin(angle), -210 * Math.cos(angle)];
}

function edgePath(source, target, count, radius, isDirected) {
  const [[x0, y0], [x1, y1]] = [place(source, count), place(target, count)];
  const length = Math.hypot(x1 - x0, y1 - y0) || 1;
  const [dx, dy] = [(x1 - x0) / length, (y1 - y0) / length];
  if (!isDirected) return `M${x0} ${y0}L${x1} ${y1}`;
  const bend = Math.min(0.1 * length, 24);
  const [mx, my] = [(x0 + x1) / 2 - bend * dy, (y0 + y1) / 2 + bend * dx];
  const end = Math.hypot(x1 - mx, y1 - my) || 1;
  const gap = radius + 3;
  return `M${x0} ${y0}Q${mx} ${my} ${x1 - (gap * (x1 - mx)) / end} ${y1 - (gap * (y1 - my)) / end}`;
}

// An SVG of the graph, or "" where it has too many nodes or edges to be seen.
function drawing(schedule, { source, target, weight }) {
  const count = schedule.num_nodes;
  const edges = source.map((from, e) => [from, target[e], weight[e]])
    .filter(([from, to]) => (schedule.directed ? from !== to : from < to));
  if (count > MOST_NODES_DRAWN || edges.length > MOST_EDGES_DRAWN) return "";
  const radius = Math.max(6, Math.min(16, 330 / count));
  const arrows = schedule.directed ? 'marker-end="url(#arrow)"' : "";
  const lines = edges.map(([from, to, w]) => {
    const words = schedule.directed ? `node ${from} to node ${to}: weight ${w}` : `nodes ${from} and ${to}: weight ${w}`;
    return `<path d="${edgePath(from, to, count, radius, schedule.directed)}" ${arrows}><title>${words}</title></path>`;
  });
  const dots = Array.from({ length: count }, (_, node) => {
    const [x, y] = place(node, count);
    const text = radius >= 9 ? `<text x="${x}" y="${y}">${node}</text>` : "";
    return `<circle cx="${x}" cy="${y}" r="${radius}"><title>node ${node}</title></circle>${text}`;
  });
  return `<svg viewBox="-240 -240 480 480" role="img" aria-label="Graph of round ${graph.round}">
    <defs><marker id="arrow" viewBox="0 0 8 8" refX="6" refY="4" markerWidth="7" markerHeight="7" orient="auto">
    <path d="M0 0L8 4L0 8z"/></marker></defs>${lines.join("")}${dots.join("")}</svg>`;
}

function matrixTrace(schedule, { source, target, weight }) {
  const count = schedule.num_nodes;
  const matrix = Array.from({ length: count }, () => Array(count).fill(null));
  source.forEach((from, e) => { matrix[target[e]][from] = weight[e]; });
  const all = schedule.rounds.flatMap((round) => round.weight);
  return {
    type: "heatmap", z: matrix, zmin: Math.min(0, ...all.slice(0, 50000)), zmax: all.reduce((a, b) => Math.max(a, b), 0),
    colorscale: [[0, css("--low")], [1, css("--high")]], xgap: count <= 64 ? 1 : 0, ygap: count <= 64 ? 1 : 0,
    hovertemplate: "from node %{x} to node %{y}<br>weight %{z}<extra></extra>",
    colorbar: { title: { text: "weight W<sub>t</sub>[i, j]", side: "right" }, thickness: 14, outlinewidth: 0 },
    ...(count <= 8 ? { texttemplate: "%{z:.2g}" } : {}),
  };
}

sections.push(function drawGraph() {
  const schedule = DATA.schedules[graph.schedule];
  const notes = schedules.notes.slice();
  byId("graph-text").textContent = schedule ? schedule.description.replace("\n", ": ") : "";
  if (!schedule) {
    draw("matrix-plot", [], {}, "");
    byId("graph-note").textContent = notes.join(" ");
    return;
  }
  const round = schedule.rounds[graph.round];
  const svg = drawing(schedule, round);
  byId("graph-drawing").innerHTML = svg;
  byId("graph-drawing").classList.toggle("hidden", svg === "");
  document.querySelector("#graph .pair").classList.toggle("single", svg === "");
  const ticks = { dtick: schedule.num_nodes <= 20 ? (schedule.num_nodes <= 10 ? 1 : 2) : undefined, showgrid: false, zeroline: false, constrain: "domain" };
  draw("matrix-plot", [matrixTrace(schedule, round)], {
    xaxis: axis("sending node j", ticks),
    yaxis: axis("receiving node i", { ...ticks, autorange: "reversed", scaleanchor: "x" }),
    margin: { l: 60, r: 10, t: 36, b: 50 },
  }, `Matrix of round ${graph.round}`);
  if (svg === "") notes.push(`The graph itself is drawn up to ${MOST_NODES_DRAWN} nodes and ${MOST_EDGES_DRAWN} edges.`);
  notes.push("Computed anew from the configuration. Row i of the matrix holds what node i multiplies the messages of the others with; empty cells are 0.");
  if (RUNS.some((run) => run.schedule === graph.schedule && run.asynchronous)) notes.push("Asynchronous runs have no rounds; their events follow this schedule one by one.");
  byId("graph-note").textContent = notes.join(" ");
});

function graphControls() {
  const controls = [];
  if (schedules.shown.length > 1) {
    controls.push(select("Runs", schedules.shown, graph.schedule, (value) => {
      graph.schedule = Number(value);
      graph.round = 0;
      graphControls();
      redraw();
    }));
  }
  const schedule = DATA.schedules[graph.schedule];
  if (schedule && schedule.rounds.length > 1) {
    const last = schedule.rounds.length - 1;
    const words = () => `Round t = ${graph.round} (first ${last + 1}${schedule.period === null ? "" : ` of a period of ${schedule.period}`})`;
    const text = make("span", {}, words());
    const slider = make("input", {
      type: "range", min: 0, max: last, step: 1, value: 0, id: "round", oninput: () => {
        graph.round = Number(slider.value);
        text.textContent = words();
        redraw();
      },
    });
    controls.push(make("label", {}, text, slider));
  }
  fill(byId("graph-controls"), ...controls);
}
graphControls();
