// Filters, the legend that switches settings on and off, and the theme.

// A labelled select; options are [value, text] pairs or texts.
function select(label, options, value, change) {
  const pairs = options.map((option) => (Array.isArray(option) ? option : [option, option]));
  const box = make("select", { onchange: () => change(box.value) },
    ...pairs.map(([key, text]) => make("option", { value: key, selected: String(key) === String(value) }, text)));
  return make("label", {}, label, box);
}

function checkbox(label, value, change) {
  const box = make("input", { type: "checkbox", checked: value, onchange: () => change(box.checked) });
  return make("label", { class: "line" }, box, label);
}

const settingNames = unique(GROUPS.flatMap((group) => Object.keys(group.settings)));

function filterValues(name) {
  if (name === "state") return unique(RUNS.map((run) => run.state));
  if (name === "seed") return unique(RUNS.map((run) => String(run.seed))).sort(byNature);
  return unique(GROUPS.map((group) => String(group.settings[name]))).sort(byNature);
}

function drawFilters() {
  const change = (name) => (value) => {
    chosen.filters[name] = value;
    redraw();
  };
  const box = make("input", {
    type: "search", placeholder: "ring lr=0.1", oninput: () => {
      chosen.words = box.value.trim();
      redraw();
    },
  });
  const filters = [...settingNames, "seed", "state"].filter((name) => filterValues(name).length > 1);
  if (RUNS.length < 2) return;
  const all = [["", "all"]];
  fill(byId("filter-controls"),
    make("label", {}, "Runs with the words", box),
    ...filters.map((name) => select(name, all.concat(filterValues(name).map((value) => [value, value])), "", change(name))),
    ...(settingNames.length > 1
      ? [select("Colour by", [["", "all settings"], ...settingNames], "", (value) => {
        chosen.colourBy = value;
        redraw();
      })] : []),
    make("button", { type: "button", onclick: showAll }, "Show all"));
}

function showAll() {
  chosen.filters = {};
  chosen.words = "";
  chosen.hiddenGroups.clear();
  chosen.hiddenRuns.clear();
  byId("filter-controls").querySelectorAll("select").forEach((box) => {
    if (box.previousSibling.textContent !== "Colour by") box.value = "";
  });
  byId("filter-controls").querySelector("input").value = "";
  redraw();
}

function drawLegend() {
  if (RUNS.length < 2) return;
  const present = new Set(filtered().map((run) => run.group));
  const legend = byId("legend");
  const focused = document.activeElement && document.activeElement.dataset.group;
  fill(legend, ...GROUPS.flatMap((group, place) => (present.has(place)
    ? [make("button", {
      type: "button", "data-group": place, "aria-pressed": String(!chosen.hiddenGroups.has(place)),
      onclick: () => {
        if (!chosen.hiddenGroups.delete(place)) chosen.hiddenGroups.add(place);
        redraw();
      },
    }, swatch(place), group.label)] : [])));
  if (focused !== undefined) legend.querySelector(`[data-group="${focused}"]`)?.focus();
  byId("shown").textContent = RUNS.length > 1 ? `${visible().length} of ${RUNS.length} runs are shown` : "";
}

function drawOverview() {
  const count = (state) => RUNS.filter((run) => run.state === state).length;
  const states = unique(RUNS.map((run) => run.state)).map((state) => `${count(state)} ${state}`);
  const runs = RUNS.length === 1 ? "1 run" : `${RUNS.length} runs`;
  const parts = [runs, ...(RUNS.length > 1 ? [states.join(", ")] : [states[0].replace("1 ", "")])];
  if (GROUPS.length > 1) parts.push(`${GROUPS.length} settings`);
  if (unique(RUNS.map((run) => run.seed)).length > 1) parts.push(`${unique(RUNS.map((run) => run.seed)).length} seeds`);
  byId("overview").textContent = `${parts.join(" · ")} · ${DATA.folder}`;
}

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  byId("theme").textContent = theme === "dark" ? "Light" : "Dark";
  byId("theme").setAttribute("aria-label", `Use ${theme === "dark" ? "light" : "dark"} colours`);
}

byId("theme").addEventListener("click", () => {
  setTheme(document.documentElement.dataset.theme === "dark" ? "light" : "dark");
  redraw();
});
setTheme(matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
drawOverview();
drawFilters();
sections.push(drawLegend);
