"""Writes what a study found: tables, pictures and the checklist."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from simulator.checkpoint import write_atomically
from simulator.figures.comparison import Curve, curve_of_seeds
from simulator.figures.study import metric_by_spending
from simulator.figures.style import captioned, unit_of
from simulator.studies.checklist import checklist
from simulator.studies.comparison import Cell
from simulator.studies.plan import Case, Study
from simulator.studies.tables import Table, make_tables, note, to_frame, to_latex, to_markdown

if TYPE_CHECKING:
    import pandas as pd


BUDGETS = {"budget.bytes": "comm/bytes", "budget.oracle_calls": "oracle/gradients", "max_sim_s": "time/sim_s"}
"""The metric that every kind of budget limits."""


def write_report(study: Study, cells: Sequence[Cell], folder: Path, command: Sequence[str]) -> str:
    """Writes ``tables.md``, ``tables.csv``, ``tables.tex``, ``trials.csv``, ``checklist.md`` and ``figures/``.

    Args:
        command: that made the study.

    Returns:
        What the console shows.
    """
    tables = make_tables(study, cells)
    shown = "\n".join(to_markdown(study, table) for table in tables)
    text = f"# {study.name}\n\n{study.description}\n\n{note(study)}\n\n{shown}\n{remarks(cells)}"
    write_atomically(folder / "tables.md", f"{text}\nMade by `{shlex.join(command)}`.\n")
    write_atomically(folder / "tables.tex", f"% Made by {shlex.join(command)}\n{to_latex(study, tables)}")
    to_frame(study, cells).to_csv(folder / "tables.csv", index=False)
    _trials(cells).to_csv(folder / "trials.csv", index=False)
    write_atomically(folder / "checklist.md", checklist(study, cells, folder, command))
    with captioned(study.name, with_pdf=True):
        for place, table in enumerate(tables):
            _draw(study, table, folder / "figures" / f"{place + 1:02d}_{_file_name(table.title)}.png")
    return text


def remarks(cells: Sequence[Cell]) -> str:
    """Lists: best values at an end of their grid, lost runs, and methods that do not run somewhere."""
    ends, lost, refused = list[str](), list[str](), list[str]()
    for cell in cells:
        where = f"{cell.method.name} on {', '.join(cell.case.words)}"
        for key, end in cell.grid_ends.items():
            assert cell.chosen is not None
            ends.append(f"{where}: {key}={dict(cell.chosen.spec.point)[key]} is the {end} end of its grid")
        if cell.refusal:
            refused.append(f"{where}: {cell.refusal}")
            continue
        for kind, results in (("trial", cell.trials), ("seed", cell.finals)):
            for result in results:
                if result.loss:
                    words = " ".join(f"{key}={value}" for key, value in result.spec.point)
                    lost.append(f"{where}, {kind} {words} seed={result.spec.seed}: {result.loss}")
    lists = (
        ("Best values at an end of their grid", ends),
        ("Lost runs", lost),
        ("Methods that do not run there", refused),
    )
    return "\n".join(
        f"## {title}\n\n" + ("\n".join(f"- {line}" for line in lines) if lines else "None.") + "\n"
        for title, lines in lists
    )


def _trials(cells: Sequence[Cell]) -> "pd.DataFrame":
    """A row per trial."""
    import pandas as pd

    rows = [
        {
            **dict(zip(("problem", "heterogeneity", "budget"), cell.case.table, strict=True)),
            "graph": cell.case.graph,
            "method": cell.method.name,
            "point": " ".join(f"{key}={value}" for key, value in result.spec.point),
            "select": cell.case.select,
            "value": result.number(cell.case.select),
            "chosen": result is cell.chosen,
            "loss": result.loss,
        }
        for cell in cells
        for result in cell.trials
    ]
    return pd.DataFrame(rows)


def spent_of(study: Study, case: Case) -> str:
    """The metric that a budget limits: the one that was set last, of a case or of all runs; bytes without any."""
    limits = list[str]()
    for key, _, value in (override.partition("=") for override in (*study.common, *case.overrides)):
        if key in BUDGETS:
            limits = [limit for limit in limits if limit != BUDGETS[key]]
            limits += [BUDGETS[key]] if value != "null" else []
    return limits[-1] if limits else "comm/bytes"


def _draw(study: Study, table: Table, path: Path) -> None:
    panels: dict[str, list[Curve]] = {}
    spent = "comm/bytes"
    for graph in table.graphs:
        panels[graph] = []
        for method in table.methods:
            cell = table.cells.get((method, graph))
            if cell is not None and cell.values:
                spent = spent_of(study, cell.case)
                panels[graph].append(_curve(cell, table.metric, spent))
    methods = [method.name for method in study.methods]
    metric_by_spending(panels, methods, table.metric, spent, table.title or study.name, path)


def _curve(cell: Cell, metric: str, spent: str) -> Curve:
    """Mean and range over seeds at the evaluations that all seeds have."""
    runs = [result.run for result in cell.finals if result.run is not None and not result.loss]
    measured = [[record for record in run.records if record.get(metric) is not None] for run in runs]
    courses = [[(_amount(record, spent), record[metric]) for record in records] for records in measured]
    return curve_of_seeds(cell.method.name, courses)


def _amount(record: dict[str, float], spent: str) -> float:
    """What a budget counts, in the unit of pictures: gradients and Hessian products together."""
    further = record["oracle/hessian_products"] if spent == "oracle/gradients" else 0.0
    return (record[spent] + further) * unit_of(spent)[0]


def _file_name(title: str) -> str:
    return "_".join("".join(letter if letter.isalnum() or letter == "." else " " for letter in title).split()) or "all"
