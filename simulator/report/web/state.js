// The data of the page, what is chosen, and what all sections share: colours, numbers, the look of plots.

const DATA = JSON.parse(document.getElementById("data").textContent);
const RUNS = DATA.runs;
const GROUPS = DATA.groups;
const DASHES = ["solid", "dash", "dot", "dashdot"];

const chosen = {
  filters: {}, // value by setting
  words: "",
  hiddenGroups: new Set(),
  hiddenRuns: new Set(),
  colourBy: "",
};

const byId = (id) => document.getElementById(id);

// An element with attributes and children; text is never read as HTML.
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== undefined && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.map((child) => (child instanceof Node ? child : String(child))));
  return element;
}

function fill(element, ...children) {
  element.replaceChildren(...children);
}

// Text of runs in plots, where plotly would read tags.
const plain = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const unique = (values) => [...new Set(values)];
const isNumber = (value) => typeof value === "number" && Number.isFinite(value);
const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
const deviation = (values) => {
  const middle = mean(values);
  return Math.sqrt(values.reduce((sum, value) => sum + (value - middle) ** 2, 0) / (values.length - 1));
};
// A name that may be broken after slashes and underscores.
const breakable = (name) => name.split(/(?<=[/_])/).flatMap((part) => [part, document.createElement("wbr")]);
const byWords = new Intl.Collator("en", { numeric: true }).compare;
// Numbers by their values, everything else by its words.
const byNature = (a, b) => {
  const [left, right] = [Number(a), Number(b)];
  return a !== "" && b !== "" && !Number.isNaN(left) && !Number.isNaN(right) ? left - right : byWords(String(a), String(b));
};

// Metrics: what they are multiplied with to be shown, and their names with units.
const factor = (metric) => (DATA.units[metric] || [1, ""])[0];
const unit = (metric) => (DATA.units[metric] || [1, ""])[1];
const named = (metric) => (unit(metric) ? `${metric} (${unit(metric)})` : metric);
const scaled = (value, metric) => (isNumber(value) ? value * factor(metric) : null);

function format(value, metric = "") {
  if (!isNumber(value)) return "";
  if (unit(metric) === "%") return value.toFixed(1);
  const size = Math.abs(value);
  if (Number.isInteger(value) && size < 1e15) return value.toLocaleString("en-US");
  if (size >= 1e6 || size < 1e-4) return value.toExponential(3);
  if (size >= 1000) return value.toLocaleString("en-US", { maximumFractionDigits: 0 });
  return value.toPrecision(4);
}

// Runs that pass the filters; those of groups that are switched off are left out, too.
const words = (run) =>
  [run.name, run.state, `seed=${run.seed}`, GROUPS[run.group].label,
   ...Object.entries(GROUPS[run.group].settings).map(([name, value]) => `${name}=${value}`)].join(" ").toLowerCase();

function passes(run) {
  const settings = { ...GROUPS[run.group].settings, seed: run.seed, state: run.state };
  const wanted = Object.entries(chosen.filters).every(([name, value]) => value === "" || String(settings[name]) === value);
  return wanted && chosen.words.toLowerCase().split(/\s+/).every((word) => words(run).includes(word));
}

const filtered = () => RUNS.filter(passes);
const visible = () => filtered().filter((run) => !chosen.hiddenGroups.has(run.group) && !chosen.hiddenRuns.has(run));
const visibleByGroup = () => {
  const runs = visible();
  return GROUPS.map((_, place) => runs.filter((run) => run.group === place));
};

// A colour and a dash of every group; with colourBy, a colour of every value of that setting.
function styleOf(group) {
  const palette = DATA.palette.slice(0, -1).concat(css("--ink"));
  let colour = group;
  let dash = Math.floor(group / palette.length);
  if (chosen.colourBy) {
    const value = (place) => String(GROUPS[place].settings[chosen.colourBy]);
    const values = unique(GROUPS.map((_, place) => value(place)));
    colour = values.indexOf(value(group));
    dash = GROUPS.slice(0, group).filter((_, place) => value(place) === value(group)).length;
  }
  return { colour: palette[colour % palette.length], dash: DASHES[dash % DASHES.length] };
}

function swatch(group) {
  const style = styleOf(group);
  const lengths = { solid: "", dash: "7 4", dot: "2 3", dashdot: "8 3 2 3" };
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("class", "swatch");
  svg.setAttribute("viewBox", "0 0 26 10");
  svg.setAttribute("aria-hidden", "true");
  svg.innerHTML = `<line x1="0" y1="5" x2="26" y2="5" stroke="${style.colour}" stroke-width="3.5"
    stroke-dasharray="${lengths[style.dash]}"/>`;
  return svg;
}

const faded = (colour, share) => {
  const [red, green, blue] = [1, 3, 5].map((place) => parseInt(colour.slice(place, place + 2), 16));
  return `rgba(${red},${green},${blue},${share})`;
};

// The look of all plots.
function axis(title, more = {}) {
  return {
    title: { text: plain(title), standoff: 12 },
    gridcolor: css("--line"), linecolor: css("--line"), zerolinecolor: css("--line"),
    automargin: true, exponentformat: "power", ...more,
  };
}

function layout(more) {
  return {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", showlegend: false,
    font: { color: css("--ink"), family: getComputedStyle(document.body).fontFamily, size: 13 },
    margin: { l: 70, r: 20, t: 36, b: 55 }, hovermode: "closest", separators: ".,",
    hoverlabel: { bgcolor: css("--panel"), bordercolor: css("--line"), font: { color: css("--ink") }, align: "left" },
    modebar: { bgcolor: "rgba(0,0,0,0)", color: css("--faint"), activecolor: css("--accent") },
    ...more,
  };
}

function draw(id, traces, look, name) {
  const element = byId(id);
  element.classList.toggle("hidden", traces.length === 0);
  if (traces.length === 0) return;
  element.setAttribute("role", "img");
  element.setAttribute("aria-label", name);
  Plotly.react(element, traces, layout(look), {
    // Nothing of the page leaves it: plotly's button that uploads a chart is left out.
    responsive: true, displaylogo: false, showSendToCloud: false, plotlyServerURL: "", modeBarButtonsToRemove: ["lasso2d", "select2d", "autoScale2d"],
    toImageButtonOptions: { format: "svg", filename: `${DATA.title}_${id}` },
  });
  // Plotly notices windows that change their size, not elements.
  const { width, height } = element._fullLayout;
  if (width !== element.clientWidth || height !== element.clientHeight) Plotly.Plots.resize(element);
}

// Sections are drawn anew when the filters change; each registers itself.
const sections = [];
const redraw = () => sections.forEach((section) => section());
