// A row per run, or per setting with mean and standard deviation; sorted by any column.

const table = {
  rows: "runs",
  at: DATA.at,
  sort: null, // name of a column
  descending: false,
};

function tableMetrics() {
  return unique([curve.metric, ...DATA.table_metrics]).filter((name) => RUNS.some((run) => run.last[name] !== undefined));
}

function numberColumn(metric) {
  return { name: named(metric), metric, number: true };
}

function runRows(runs) {
  const columns = [
    { name: "run" }, ...settingNames.map((name) => ({ name })), { name: "seed", number: true }, { name: "state" },
    ...tableMetrics().map(numberColumn),
  ];
  const rows = runs.map((run) => {
    const settings = GROUPS[run.group].settings;
    const numbers = run[table.at];
    const values = [run.name, ...settingNames.map((name) => settings[name]), run.seed, run.state,
      ...tableMetrics().map((name) => scaled(numbers[name], name))];
    return { group: run.group, run, values };
  });
  return { columns, rows };
}

function settingRows(runs) {
  const columns = [
    { name: "setting" }, ...settingNames.map((name) => ({ name })), { name: "runs", number: true },
    ...tableMetrics().map(numberColumn),
  ];
  const rows = GROUPS.flatMap((group, place) => {
    const own = runs.filter((run) => run.group === place && !chosen.hiddenGroups.has(place) && !chosen.hiddenRuns.has(run));
    if (!own.length) return [];
    const spreads = tableMetrics().map((name) => own.map((run) => scaled(run[table.at][name], name)).filter(isNumber));
    return [{
      group: place,
      values: [group.label, ...settingNames.map((name) => group.settings[name]), own.length,
        ...spreads.map((values) => (values.length ? mean(values) : null))],
      spreads: spreads.map((values) => (values.length > 1 ? deviation(values) : null)),
    }];
  });
  return { columns, rows };
}

function sorted(columns, rows) {
  const place = columns.findIndex((column) => column.name === table.sort);
  if (place < 0) return rows;
  const order = (a, b) => {
    const [left, right] = [a.values[place], b.values[place]];
    const [noLeft, noRight] = [left === null || left === undefined, right === null || right === undefined];
    if (noLeft || noRight) return noLeft - noRight; // missing values come last in both directions
    const sign = table.descending ? -1 : 1;
    return sign * byNature(left, right);
  };
  return rows.slice().sort(order);
}

function cellText(value, column) {
  if (value === null || value === undefined) return "";
  return isNumber(value) && column.metric ? format(value, column.metric) : String(value);
}

function headCell(column) {
  const is = table.sort === column.name;
  const mark = is ? (table.descending ? " ▼" : " ▲") : "";
  const sort = () => {
    table.descending = is && !table.descending;
    table.sort = column.name;
    drawTable();
    [...byId("run-table").querySelectorAll("th button")].find((button) => button.dataset.column === column.name)?.focus();
  };
  return make("th", { scope: "col", class: column.number ? "number" : undefined, "aria-sort": is ? (table.descending ? "descending" : "ascending") : "none" },
    make("button", { type: "button", "data-column": column.name, title: `Sort by ${column.name}`, onclick: sort }, ...breakable(column.name), mark));
}

function shownBox(run) {
  const isShown = !chosen.hiddenRuns.has(run) && !chosen.hiddenGroups.has(run.group);
  const box = make("input", {
    type: "checkbox", checked: isShown, "aria-label": `Show run ${run.name}`, "data-run": run.name,
    onchange: () => {
      if (box.checked) {
        if (chosen.hiddenGroups.delete(run.group)) {
          RUNS.filter((other) => other.group === run.group).forEach((other) => chosen.hiddenRuns.add(other));
        }
        chosen.hiddenRuns.delete(run);
      } else chosen.hiddenRuns.add(run);
      redraw();
      [...byId("run-table").querySelectorAll("input")].find((other) => other.dataset.run === run.name)?.focus();
    },
  });
  return make("td", {}, box);
}

function drawTable() {
  const isRuns = table.rows === "runs";
  const { columns, rows } = isRuns ? runRows(filtered()) : settingRows(filtered());
  const shown = new Set(visible());
  const withBox = isRuns && RUNS.length > 1;
  const head = make("thead", {}, make("tr", {}, ...(withBox ? [make("th", { scope: "col" }, "shown")] : []),
    make("th", { scope: "col", "aria-label": "colour" }), ...columns.map(headCell)));
  const body = sorted(columns, rows).map((row) => {
    const cells = row.values.map((value, place) => {
      const column = columns[place];
      let text = cellText(value, column);
      const first = columns.length - (row.spreads || []).length;
      if (row.spreads && place >= first && row.spreads[place - first] !== null) {
        text += ` ± ${format(row.spreads[place - first], column.metric)}`;
      }
      return make("td", { class: column.number ? "number" : undefined }, text);
    });
    return make("tr", { class: row.run && !shown.has(row.run) ? "off" : undefined },
      ...(withBox ? [shownBox(row.run)] : []), make("td", {}, swatch(row.group)), ...cells);
  });
  fill(byId("run-table"), head, make("tbody", {}, ...body));
  const which = table.at === "best" ? "the evaluation with the best validation accuracy (or what else the algorithm selects by)" : "the last evaluation";
  const spread = isRuns ? "" : " Cells are mean ± standard deviation (n − 1) over the runs that are shown.";
  byId("table-note").textContent = `Numbers are those of ${which}.${spread}`;
}
sections.push(drawTable);

function saveTable() {
  const { columns, rows } = table.rows === "runs" ? runRows(visible()) : settingRows(filtered());
  const names = columns.map((column) => column.name);
  const lines = sorted(columns, rows).map((row) => row.values.concat(row.spreads || []));
  const head = rows.length && rows[0].spreads ? names.concat(names.slice(-rows[0].spreads.length).map((name) => `${name} std`)) : names;
  const cell = (value) => (/[",\n]/.test(String(value ?? "")) ? `"${String(value).replace(/"/g, '""')}"` : String(value ?? ""));
  const text = [head, ...lines].map((line) => line.map(cell).join(",")).join("\n");
  const link = make("a", { href: URL.createObjectURL(new Blob([`${text}\n`], { type: "text/csv" })), download: `${DATA.title}.csv` });
  link.click();
  URL.revokeObjectURL(link.href);
}

function tableControls() {
  const change = (name) => (value) => {
    table[name] = value;
    drawTable();
  };
  const controls = [];
  if (GROUPS.length < RUNS.length) {
    controls.push(select("A row for", [["runs", "every run"], ["settings", "every setting, mean over seeds"]], table.rows, change("rows")));
  }
  if (RUNS.some((run) => Object.keys(run.best).length)) {
    controls.push(select("Evaluation", [["best", "best"], ["last", "last"]], table.at, change("at")));
  }
  controls.push(make("button", { type: "button", onclick: saveTable }, "Save as CSV"));
  fill(byId("table-controls"), ...controls);
}
tableControls();
