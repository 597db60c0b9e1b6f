// Settings: what differs between the runs, two runs beside each other, what they share, and what made them.

const text = (value) => (value === null || value === undefined ? "—" : String(value));

function rowsTable(id, head, rows) {
  if (!rows.length) return fill(byId(id));
  return fill(byId(id), make("thead", {}, make("tr", {}, ...head.map((name) => make("th", { scope: "col" }, name)))),
    make("tbody", {}, ...rows.map((row) => make("tr", {},
      make("th", { scope: "row" }, row[0]), ...row.slice(1).map((value) => make("td", { class: "wrap" }, value))))));
}

const ownNames = unique(DATA.own.flatMap((own) => Object.keys(own))).sort(byWords);

function drawDifferences() {
  if (RUNS.length < 2) {
    byId("differences").remove();
    return;
  }
  const rows = DATA.differences.map((name) => {
    const counts = new Map();
    DATA.own.forEach((own) => {
      const value = name in own ? text(own[name]) : "not a setting there";
      counts.set(value, (counts.get(value) || 0) + 1);
    });
    const parts = [...counts].sort((a, b) => byNature(a[0], b[0])).map(([value, count]) => `${value} (${count})`);
    return [name, parts.length > 12 ? `${parts.slice(0, 11).join(", ")}, and ${parts.length - 11} others` : parts.join(", ")];
  });
  rowsTable("difference-table", ["setting", "values (number of runs)"], rows.length ? rows : [["none", ""]]);
}

// At first, runs of different settings where there are some.
const compared = [0, Math.max(RUNS.findIndex((run) => run.group !== RUNS[0].group), Math.min(1, RUNS.length - 1))];

function drawCompared() {
  const [left, right] = compared;
  const differing = ownNames.filter((name) => text(DATA.own[left][name]) !== text(DATA.own[right][name]));
  const rows = differing.map((name) => [name, text(DATA.own[left][name]), text(DATA.own[right][name])]);
  rowsTable("compare-table", ["setting", `run ${RUNS[left].name}`, `run ${RUNS[right].name}`],
    rows.length ? rows : [["no difference", "", ""]]);
}

function drawMadeBy() {
  const seen = new Map();
  RUNS.forEach((run) => {
    const key = JSON.stringify(run.made_by);
    seen.set(key, [...(seen.get(key) || []), run]);
  });
  const names = { git_commit: "commit", python: "Python", torch: "torch", gpu: "GPU", host: "host", platform: "platform" };
  const versions = [...seen].map(([key, runs]) => [JSON.parse(key), runs]);
  const head = ["", ...versions.map(([, runs]) => (runs.length === RUNS.length ? "all runs" : `${runs.length} runs, such as ${runs[0].name}`))];
  rowsTable("made-table", head, Object.entries(names).map(([name, label]) => [label, ...versions.map(([made]) => text(made[name]))]));
}

function settingsControls() {
  if (RUNS.length < 2) {
    byId("comparison").remove();
    return;
  }
  const options = RUNS.map((run, place) => [place, `${GROUPS[run.group].label}, seed ${run.seed} (run ${run.name})`]);
  const change = (side) => (value) => {
    compared[side] = Number(value);
    drawCompared();
  };
  fill(byId("compare-controls"), select("One run", options, compared[0], change(0)), select("The other", options, compared[1], change(1)));
  drawCompared();
}

drawDifferences();
settingsControls();
drawMadeBy();
rowsTable("common-table", ["setting", "value"], Object.entries(DATA.common).map(([name, value]) => [name, text(value)]));
redraw();
