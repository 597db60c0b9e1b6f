"""What exchanging data brings and costs: ``python scripts/exchange_sweep.py FOLDER [FOLDER ...] [--xlsx]``.

Reads finished runs of algorithm=data_exchange below the folders (a sweep over ``partition.digits_per_node``,
``algorithm.share_ratio``, ``graph``, ``algorithm.mixer``, ``seed``, ...). OUTPUT.csv has a row per run: the settings,
test accuracy of every node in per cent, leakage of every node, then the graph, the seed and totals; ``--xlsx`` writes
the same to OUTPUT.xlsx, which needs openpyxl. OUTPUT_leakage.png and OUTPUT_bytes.png show the mean test accuracy over
the nodes against the leakage of the system and against the bytes that all edges carried: a panel per graph and way of
averaging, a line per number of digits, a point per share ratio, means over seeds.
"""

import argparse
import csv
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from scripts.table import Run, read_runs  # noqa: E402
from simulator.figures.style import PALETTE, add_legend, dress, new_figure, save  # noqa: E402

MARKERS = ("o", "s", "^", "D", "v", "P")
ALL = "all"


@dataclass(frozen=True)
class Outcome:
    """One run, as a row of the table."""

    model: str
    share_ratio: float
    digits: int | str
    mixer: str
    is_iid: bool
    num_rounds: int
    accuracies: Sequence[float]
    leakages: Sequence[float]
    graph: str
    seed: int
    accuracy: float
    leakage: float
    exchanged_mb: float
    total_mb: float
    membership: float | None

    @classmethod
    def of(cls, run: Run) -> "Outcome":
        """Accuracies in per cent, traffic in MB."""
        settings, summary = run.settings, run.summary
        return cls(
            model=_class_name(settings["model._target_"]),
            share_ratio=settings["algorithm.share_ratio"],
            digits=settings.get("partition.digits_per_node", ALL),
            mixer=settings["algorithm.mixer"],
            is_iid=_class_name(settings["partition._target_"]) == "Iid",
            num_rounds=summary["step"],
            accuracies=[100 * value for value in summary["test/accuracy_per_node"]],
            leakages=summary["privacy/leakage"],
            graph=_class_name(settings["graph._target_"]),
            seed=run.seed,
            accuracy=100 * summary["test/accuracy"],
            leakage=summary["privacy/leakage_total"],
            exchanged_mb=summary["comm/bytes_exchange"] / 1e6,
            total_mb=summary["comm/bytes"] / 1e6,
            membership=summary["privacy/membership_accuracy"],
        )

    def cells(self, num_nodes: int) -> list[object]:
        """The cells of the table, for runs of up to ``num_nodes`` nodes."""
        missing = [None] * (num_nodes - len(self.accuracies))
        before = [self.model, self.share_ratio, self.digits, self.mixer, self.is_iid, self.num_rounds]
        after = [self.graph, self.seed, self.accuracy, self.leakage, self.exchanged_mb, self.total_mb, self.membership]
        return [*before, *self.accuracies, *missing, *self.leakages, *missing, *after]


def _class_name(target: str) -> str:
    return target.rsplit(".", 1)[-1]


def header(num_nodes: int) -> list[str]:
    """The names of the columns."""
    names = ["nn model", "share ratio", "number of original digits", "aggregation model", "iid", "training rounds"]
    for what in ("acc", "leakage"):
        names += [f"{what} node {node}" for node in range(num_nodes)]
    names += ["graph", "seed", "acc mean", "leakage total", "exchanged MB", "total MB", "membership accuracy"]
    return names


def read_outcomes(folders: Sequence[Path]) -> list[Outcome]:
    """All runs of data exchange, ordered by their settings.

    Raises:
        ValueError: when there is none.
    """
    found = [Outcome.of(run) for run in read_runs(folders) if "privacy/leakage_total" in run.summary]
    if not found:
        raise ValueError("no run below the folders is one of algorithm=data_exchange")
    return sorted(found, key=lambda o: (o.model, o.graph, o.mixer, str(o.digits), o.share_ratio, o.seed))


def write_csv(rows: Sequence[Sequence[object]], path: Path) -> None:
    """The table as CSV."""
    with path.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


def write_xlsx(rows: Sequence[Sequence[object]], path: Path) -> None:
    """The table as a workbook.

    Raises:
        ValueError: when openpyxl is not installed.
    """
    try:
        from openpyxl import Workbook
    except ImportError as error:
        raise ValueError(
            "--xlsx needs the package openpyxl, which is not installed; OUTPUT.csv has the same"
        ) from error
    book = Workbook()
    for row in rows:
        book.active.append(list(row))
    book.save(path)


def draw(outcomes: Sequence[Outcome], cost: Callable[[Outcome], float], title: str, label: str, path: Path) -> Path:
    """Accuracy against a cost: a panel per graph, way of averaging and model, a line per number of digits."""
    panels = sorted({(o.graph, o.mixer, o.model) for o in outcomes})
    digits = sorted({o.digits for o in outcomes}, key=str)
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    figure = new_figure(0.8 + 4.2 * columns, 0.4 + 3.8 * rows)
    grid = figure.subplots(rows, columns, sharey=True, squeeze=False)
    for axes in grid.flat[len(panels) :]:
        axes.set_axis_off()
    for axes, panel in zip(grid.flat, panels, strict=False):
        for position, number in enumerate(digits):
            line = points([o for o in outcomes if (o.graph, o.mixer, o.model, o.digits) == (*panel, number)], cost)
            if line:
                style = {"color": PALETTE[position % len(PALETTE)], "marker": MARKERS[position % len(MARKERS)]}
                axes.plot(
                    *zip(*[point[1:] for point in line], strict=True), label=f"digits per node: {number}", **style
                )
            for ratio, x, y in line:
                axes.annotate(f"{ratio:g}", (x, y), xytext=(4, 4), textcoords="offset points", fontsize=8)
        y_label = "mean test accuracy (%)" if axes in grid[:, 0] else ""
        dress(axes, ", ".join(panel), label, y_label)
        add_legend(axes)
    figure.suptitle(f"{title}; numbers are share ratios", x=0.01, ha="left")
    return save(figure, path)


def points(outcomes: Sequence[Outcome], cost: Callable[[Outcome], float]) -> list[tuple[float, float, float]]:
    """(share ratio, mean cost, mean accuracy) over the runs of each share ratio, ascending."""
    ratios = sorted({o.share_ratio for o in outcomes})
    groups = [[o for o in outcomes if o.share_ratio == ratio] for ratio in ratios]
    return [
        (group[0].share_ratio, statistics.fmean(map(cost, group)), statistics.fmean(o.accuracy for o in group))
        for group in groups
    ]


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
        rows = [header(num_nodes), *(o.cells(num_nodes) for o in outcomes)]
        output.parent.mkdir(parents=True, exist_ok=True)
        write_csv(rows, output.with_name(f"{output.name}.csv"))
        if options.xlsx:
            write_xlsx(rows, output.with_name(f"{output.name}.xlsx"))
    except ValueError as error:
        print(f"exchange_sweep: {error}", file=sys.stderr)
        return 1
    for name, cost, title, label in (
        ("leakage", lambda o: o.leakage, "Accuracy against leakage", "leakage of the system (nats)"),
        ("bytes", lambda o: o.total_mb, "Accuracy against traffic", "sent over all edges (MB)"),
    ):
        print(draw(outcomes, cost, title, label, output.with_name(f"{output.name}_{name}.png")))
    return 0


if __name__ == "__main__":
    sys.exit(main())
