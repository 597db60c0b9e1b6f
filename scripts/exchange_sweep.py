"""Accuracy, leakage and traffic of data exchange: ``python scripts/exchange_sweep.py FOLDER [FOLDER ...] [--xlsx]``.

Reads finished runs of algorithm=data_exchange below the folders (a sweep over ``partition.digits_per_node``,
``algorithm.share_ratio``, ``graph``, ``algorithm.mixer``, ``seed``, ...). OUTPUT.csv has a row per run: the settings,
test accuracy of every node in per cent, leakage of every node, then the graph, the seed and totals, then all other
settings that differ; ``--xlsx`` writes the same to OUTPUT.xlsx, with the extra ``xlsx``. Cells are empty where there is
nothing, as for the accuracy of a node without test samples. OUTPUT_leakage.png and OUTPUT_bytes.png show the mean test
accuracy over the nodes against the leakage of the system and against the bytes that all edges carried: a line per
number of digits, a point per share ratio, means over seeds, and a panel for every value of all other settings.
"""

import argparse
import csv
import statistics
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from simulator import tables  # noqa: E402
from simulator.errors import missing_extra  # noqa: E402
from simulator.figures.style import PALETTE, add_legend, dress, new_figure, save  # noqa: E402
from simulator.results import Run  # noqa: E402

MARKERS = ("o", "s", "^", "D", "v", "P")
ALL = "all"
RATIO, DIGITS = "algorithm.share_ratio", "partition.digits_per_node"
# Choices and settings that always have a column.
SHOWN = (RATIO, DIGITS, "graph", "algorithm.mixer", "model")


@dataclass(frozen=True)
class Outcome:
    """One run, as a row of the table.

    Attributes:
        accuracies: in per cent; None for nodes without test samples, as ``accuracy`` where no node has any.
        further: the other choices and settings that differ between runs, by their names.
    """

    model: str
    share_ratio: float
    digits: int | str
    mixer: str
    is_iid: bool
    num_rounds: int
    accuracies: Sequence[float | None]
    leakages: Sequence[float]
    graph: str
    seed: int
    accuracy: float | None
    leakage: float
    exchanged_mb: float
    total_mb: float
    membership: float | None
    further: Mapping[str, object]

    @classmethod
    def of(cls, run: Run, further: Mapping[str, object]) -> "Outcome":
        """Accuracies in per cent, traffic in MB."""
        settings, summary = run.settings, run.summary
        assert summary is not None
        return cls(
            model=settings["model"],
            share_ratio=settings[RATIO],
            digits=settings.get(DIGITS, ALL),
            mixer=settings["algorithm.mixer"],
            is_iid=settings["partition"] == "iid",
            num_rounds=summary["step"],
            accuracies=_per_cent(summary.get("test/accuracy_per_node", [None] * len(summary["privacy/leakage"]))),
            leakages=summary["privacy/leakage"],
            graph=settings["graph"],
            seed=settings["seed"],
            accuracy=_per_cent([summary.get("test/accuracy")])[0],
            leakage=summary["privacy/leakage_total"],
            exchanged_mb=summary["comm/bytes_exchange"] / 1e6,
            total_mb=summary["comm/bytes"] / 1e6,
            membership=summary["privacy/membership_accuracy"],
            further=further,
        )

    @property
    def panel(self) -> str:
        """The title of the panel that it is drawn in."""
        further = textwrap.fill(tables.label(self.further), 48) if self.further else ""
        return "\n".join(filter(None, [f"{self.graph}, {self.mixer}, {self.model}", further]))

    def cells(self, num_nodes: int) -> list[object]:
        """The cells of the table, for runs of up to ``num_nodes`` nodes."""
        missing = [None] * (num_nodes - len(self.accuracies))
        before = [self.model, self.share_ratio, self.digits, self.mixer, self.is_iid, self.num_rounds]
        after = [self.graph, self.seed, self.accuracy, self.leakage, self.exchanged_mb, self.total_mb, self.membership]
        return [*before, *self.accuracies, *missing, *self.leakages, *missing, *after, *self.further.values()]


def _per_cent(shares: Sequence[float | None]) -> list[float | None]:
    return [None if share is None else 100 * share for share in shares]


def _order(value: object) -> tuple[int, float, str]:
    """Sorts missing values first, then numbers, then strings."""
    if value is None:
        return 0, 0.0, ""
    return (1, float(value), "") if isinstance(value, int | float) else (2, 0.0, str(value))


def header(num_nodes: int, further: Sequence[str] = ()) -> list[str]:
    """The names of the columns, those of the other settings that tell runs apart at the end."""
    names = ["nn model", "share ratio", "number of original digits", "aggregation model", "iid", "training rounds"]
    for what in ("acc", "leakage"):
        names += [f"{what} node {node}" for node in range(num_nodes)]
    names += ["graph", "seed", "acc mean", "leakage total", "exchanged MB", "total MB", "membership accuracy"]
    return [*names, *further]


def read_outcomes(folders: Sequence[Path]) -> list[Outcome]:
    """All runs of data exchange, ordered by their settings.

    Raises:
        ValueError: when there is none.
    """
    runs = [run for run in tables.finished_runs(folders) if "privacy/leakage_total" in (run.summary or {})]
    if not runs:
        raise ValueError("no run below the folders is one of algorithm=data_exchange")
    outcomes = []
    for group in tables.by_setting(runs, without=(RATIO, DIGITS)):
        further = {name: value for name, value in group.settings.items() if name not in SHOWN}
        outcomes += [Outcome.of(run, further) for run in group.runs]
    return sorted(outcomes, key=_place)


def _place(outcome: Outcome) -> tuple[object, ...]:
    """The sort key of a row of the table."""
    others = [_order(value) for value in outcome.further.values()]
    names = (outcome.model, outcome.graph, outcome.mixer)
    return (*names, others, _order(outcome.digits), outcome.share_ratio, outcome.seed)


def write_csv(rows: Sequence[Sequence[object]], path: Path) -> None:
    """The table as CSV."""
    with path.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


def write_xlsx(rows: Sequence[Sequence[object]], path: Path) -> None:
    """The table as a workbook.

    Raises:
        ValueError: when the extra ``xlsx`` is not installed.
    """
    try:
        from openpyxl import Workbook
    except ImportError as error:
        raise missing_extra("--xlsx", "openpyxl", "xlsx") from error
    book = Workbook()
    for row in rows:
        book.active.append(list(row))
    book.save(path)


def draw(outcomes: Sequence[Outcome], cost: Callable[[Outcome], float], title: str, label: str, path: Path) -> Path:
    """Accuracy against a cost: a line per number of digits, a panel per value of all other settings.

    Args:
        outcomes: at least one, all with an accuracy.
        cost: what the horizontal axis shows.
        title: of the figure.
        label: of the horizontal axis.
        path: of the figure.
    """
    panels = list(dict.fromkeys(o.panel for o in outcomes))
    digits = sorted({o.digits for o in outcomes}, key=_order)
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    figure = new_figure(0.8 + 4.2 * columns, 0.4 + 3.8 * rows)
    grid = figure.subplots(rows, columns, sharey=True, squeeze=False)
    for axes in grid.flat[len(panels) :]:
        axes.set_axis_off()
    for axes, panel in zip(grid.flat, panels, strict=False):
        for position, number in enumerate(digits):
            line = points([o for o in outcomes if (o.panel, o.digits) == (panel, number)], cost)
            if line:
                style = {"color": PALETTE[position % len(PALETTE)], "marker": MARKERS[position % len(MARKERS)]}
                axes.plot(
                    *zip(*[point[1:] for point in line], strict=True), label=f"digits per node: {number}", **style
                )
            for ratio, x, y in line:
                axes.annotate(f"{ratio:g}", (x, y), xytext=(4, 4), textcoords="offset points", fontsize=8)
        y_label = "mean test accuracy (%)" if axes in grid[:, 0] else ""
        dress(axes, panel, label, y_label)
        add_legend(axes)
    figure.suptitle(f"{title}; numbers are share ratios", x=0.01, ha="left")
    return save(figure, path)


def points(outcomes: Sequence[Outcome], cost: Callable[[Outcome], float]) -> list[tuple[float, float, float]]:
    """(share ratio, mean cost, mean accuracy) over the runs of each share ratio, ascending."""
    ratios = sorted({o.share_ratio for o in outcomes})
    groups = [[o for o in outcomes if o.share_ratio == ratio] for ratio in ratios]
    return [
        (group[0].share_ratio, statistics.fmean(map(cost, group)), statistics.fmean(_accuracy(o) for o in group))
        for group in groups
    ]


def _accuracy(outcome: Outcome) -> float:
    assert outcome.accuracy is not None
    return outcome.accuracy


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--output", default=Path("exchange"), type=Path)
    parser.add_argument("--xlsx", action="store_true", help="also write OUTPUT.xlsx")
    options = parser.parse_args(arguments)
    output: Path = options.output
    try:
        outcomes = read_outcomes(options.folders)
        num_nodes = max(len(o.accuracies) for o in outcomes)
        rows: list[list[object]] = [
            [*header(num_nodes, list(outcomes[0].further))],
            *(o.cells(num_nodes) for o in outcomes),
        ]
        output.parent.mkdir(parents=True, exist_ok=True)
        write_csv(rows, output.with_name(f"{output.name}.csv"))
        if options.xlsx:
            write_xlsx(rows, output.with_name(f"{output.name}.xlsx"))
    except ValueError as error:
        print(f"exchange_sweep: {error}", file=sys.stderr)
        return 1
    tested = [o for o in outcomes if o.accuracy is not None]
    if not tested:
        print("exchange_sweep: no run has test samples, so there are no figures", file=sys.stderr)
        return 0
    for name, cost, title, label in (
        ("leakage", lambda o: o.leakage, "Accuracy against leakage", "leakage of the system (nats)"),
        ("bytes", lambda o: o.total_mb, "Accuracy against traffic", "sent over all edges (MB)"),
    ):
        print(draw(tested, cost, title, label, output.with_name(f"{output.name}_{name}.png")))
    return 0


if __name__ == "__main__":
    sys.exit(main())
