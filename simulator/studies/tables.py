"""The tables of a study in Markdown, CSV and LaTeX: a row per method, a column per graph."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from simulator.averages import mean, spread
from simulator.figures.style import name_with_unit, unit_of
from simulator.studies.comparison import Cell, Verdict, judge
from simulator.studies.plan import Case, Study
from simulator.tables import numbers

if TYPE_CHECKING:
    import pandas as pd

SPENT = ("comm/bytes", "oracle/gradients", "oracle/hessian_products", "time/sim_s", "time/wall_s", "step")
ALIKE = "†"
_NAMES = {"std": "standard deviation", "ci95": "half width of the 95 % confidence interval"}


@dataclass(frozen=True)
class Table:
    """The cells of one problem, heterogeneity and budget.

    Attributes:
        title: these three in words.
        metric: what is compared.
        methods, graphs: the names of its rows and columns.
        cells, verdicts: by method and graph.
    """

    title: str
    metric: str
    methods: Sequence[str]
    graphs: Sequence[str]
    cells: Mapping[tuple[str, str], Cell]
    verdicts: Mapping[tuple[str, str], Verdict]


def make_tables(study: Study, cells: Sequence[Cell]) -> list[Table]:
    """The tables, in the order of the file."""
    tables = []
    for key in dict.fromkeys(cell.case.table for cell in cells):
        own = [cell for cell in cells if cell.case.table == key]
        graphs = list(dict.fromkeys(cell.case.graph for cell in own))
        verdicts: dict[tuple[str, str], Verdict] = {}
        for graph in graphs:
            judged = judge([cell for cell in own if cell.case.graph == graph], study.significance)
            verdicts |= {(method, graph): verdict for method, verdict in judged.items()}
        tables.append(
            Table(
                title=", ".join(filter(None, key)),
                metric=own[0].case.metric,
                methods=list(dict.fromkeys(cell.method.name for cell in own)),
                graphs=graphs,
                cells={(cell.method.name, cell.case.graph): cell for cell in own},
                verdicts=verdicts,
            )
        )
    return tables


def note(study: Study) -> str:
    """What marks and numbers of the tables mean."""
    test = (
        f"{ALIKE}: not told from the best by the two-sided paired t-test over seeds, with Holm's correction, at level "
        f"{study.significance:g}; the others that have lost no seed are. "
    )
    return (
        f"Mean ± {_NAMES[study.spread]} over {len(study.seeds)} seeds, at the {study.at} evaluation. Bold: the best "
        f"mean of the methods that have lost no seed. {test if len(study.seeds) > 1 else ''}(k/n): only k of n seeds "
        "have a result. lost: no trial or no seed has one. –: the method does not run there."
    )


def to_markdown(study: Study, table: Table) -> str:
    """One table, with its title."""
    head = [name_with_unit(table.metric), *table.graphs]
    lines = [head, ["---", *("---:" for _ in table.graphs)]]
    for method in table.methods:
        lines.append([method, *(_markdown_cell(study, table, method, graph) for graph in table.graphs)])
    rows = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    return f"### {table.title}\n\n{rows}" if table.title else rows


def to_latex(study: Study, tables: Sequence[Table]) -> str:
    """All tables, to be included by a document that uses the package booktabs."""
    return "\n".join(_latex_table(study, table, place) for place, table in enumerate(tables))


def to_frame(study: Study, cells: Sequence[Cell]) -> "pd.DataFrame":
    """A row per method and case: what was chosen, the metric over seeds, what it has spent, and what was lost."""
    import pandas as pd

    judged: dict[tuple[Case, str], Verdict] = {}
    for case in dict.fromkeys(cell.case for cell in cells):
        verdicts = judge([cell for cell in cells if cell.case == case], study.significance)
        judged |= {(case, method): verdict for method, verdict in verdicts.items()}
    rows = []
    for cell in cells:
        verdict, values = judged[cell.case, cell.method.name], list(cell.values.values())
        case = cell.case
        row: dict[str, Any] = {
            "problem": case.problem,
            "heterogeneity": case.heterogeneity,
            "budget": case.budget,
            "graph": case.graph,
            "method": cell.method.name,
            "metric": case.metric,
            "mean": mean(values),
            study.spread: spread(values, study.spread),
            "seeds": len(values),
            "lost_seeds": len(cell.finals) - len(values),
            "is_best": verdict.is_best,
            "p_value": verdict.p_value,
            "trials": len(cell.trials),
            "lost_trials": sum(bool(trial.loss) for trial in cell.trials),
        }
        spent = [numbers(result.run, study.at) for result in cell.finals if result.run is not None]
        for name in SPENT:
            row[name] = mean([each[name] for each in spent if name in each])
        row["chosen"] = " ".join(f"{key}={value}" for key, value in cell.chosen.spec.point) if cell.chosen else ""
        row["grid_ends"] = " ".join(f"{key}:{end}" for key, end in cell.grid_ends.items())
        rows.append(row)
    return pd.DataFrame(rows)


def describe_value(study: Study, table: Table, cell: Cell) -> tuple[str, str]:
    """The mean and its spread as they are printed; the spread is empty for one value."""
    factor = unit_of(table.metric)[0]
    values = [factor * value for value in cell.values.values()]
    centre, width = mean(values), spread(values, study.spread)
    form = ".1f" if factor == 100.0 else ".3g"
    return f"{centre:{form}}", "" if width != width else f"{width:{'.1f' if factor == 100.0 else '.1g'}}"


def _parts(study: Study, table: Table, method: str, graph: str) -> tuple[str, str, str, Verdict]:
    """Mean, spread, a remark and the verdict; where there is no mean only the remark."""
    cell, verdict = table.cells.get((method, graph)), table.verdicts.get((method, graph), Verdict())
    if cell is None or cell.refusal:
        return "", "", "–", verdict
    if not cell.values:
        return "", "", "lost", verdict
    remark = "" if cell.is_complete else f"({len(cell.values)}/{len(cell.finals)})"
    return *describe_value(study, table, cell), remark, verdict


def _markdown_cell(study: Study, table: Table, method: str, graph: str) -> str:
    centre, width, remark, verdict = _parts(study, table, method, graph)
    if not centre:
        return remark
    text = f"{centre} ± {width}" if width else centre
    text = f"**{text}**" if verdict.is_best else text + (f" {ALIKE}" if verdict.is_alike else "")
    return f"{text} {remark}".rstrip()


def _latex_cell(study: Study, table: Table, method: str, graph: str) -> str:
    centre, width, remark, verdict = _parts(study, table, method, graph)
    if not centre:
        return {"–": "--"}.get(remark, remark)
    number = f"{_latex_number(centre)} \\pm {_latex_number(width)}" if width else _latex_number(centre)
    mark = "^{\\dagger}" if verdict.is_alike else ""
    text = f"$\\mathbf{{{number}}}$" if verdict.is_best else f"${number}{mark}$"
    return f"{text} {remark}".rstrip()


def _latex_number(text: str) -> str:
    """``1.2e-05`` as a power of ten."""
    digits, _, exponent = text.partition("e")
    return f"{digits} \\cdot 10^{{{int(exponent)}}}" if exponent else digits


def _latex_table(study: Study, table: Table, place: int) -> str:
    title = f"{table.title}: {name_with_unit(table.metric)}" if table.title else name_with_unit(table.metric)
    lines = [
        "\\begin{table}[tb]",
        "  \\centering",
        f"  \\caption{{{_escaped(title)}. {_latex_note(study)}}}",
        "  \\medskip",
        f"  \\label{{tab:{study.name.replace('_', '-')}-{place + 1}}}",
        f"  \\begin{{tabular}}{{l{'r' * len(table.graphs)}}}",
        "    \\toprule",
        f"    method & {' & '.join(_escaped(graph) for graph in table.graphs)} \\\\",
        "    \\midrule",
    ]
    for method in table.methods:
        row = [_escaped(method), *(_latex_cell(study, table, method, graph) for graph in table.graphs)]
        lines.append(f"    {' & '.join(row)} \\\\")
    return "\n".join([*lines, "    \\bottomrule", "  \\end{tabular}", "\\end{table}", ""])


def _latex_note(study: Study) -> str:
    return _escaped(note(study)).replace("±", "$\\pm$").replace(ALIKE, "$\\dagger$").replace("–", "--")


def _escaped(text: str) -> str:
    """Text as LaTeX takes it."""
    return "".join(f"\\{letter}" if letter in "_%&#$" else letter for letter in text)
