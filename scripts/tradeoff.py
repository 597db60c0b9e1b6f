"""The error of hypergradients against their bytes: ``python scripts/tradeoff.py FOLDER [FOLDER ...] [--panel KEY]``.

Reads finished runs of hypergradient push below the folders (a sweep over ``algorithm.depth``, ``algorithm.num_pushes``,
``algorithm.step_size``, ``graph.base_probability``, ``seed``, ...) that measured ``hypergradient/error`` against a
reference. Runs that differ by their seed alone are one point: the median error over seeds with the range from the
lowest to the highest, at the bytes that one hypergradient pushed over all edges of the graph. Points with the same
number of pushes per term (S) are joined; ``--panel`` gives every value of one setting a panel of its own.
Writes OUTPUT.png and OUTPUT.csv.
"""

import argparse
import csv
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from scripts.table import Run, grouped, read_runs  # noqa: E402
from simulator.figures.style import add_legend, dress, new_figure, save  # noqa: E402

COLOURS = ("#D55E00", "#E69F00", "#009E73", "#56B4E9", "#0072B2", "#CC79A7")
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1)), (0, (1, 1)))


@dataclass(frozen=True)
class Point:
    """One setting: its bytes per hypergradient, and its errors over seeds."""

    panel: str
    num_pushes: int
    depth: int
    step_size: float
    megabytes: float
    errors: Sequence[float]


def read_points(folders: Sequence[Path], panel: str) -> list[Point]:
    """One point per setting, runs without an error left out.

    Raises:
        ValueError: when no run measured an error.
    """
    points = []
    for runs in grouped(run for run in read_runs(folders) if "hypergradient/error" in run.summary).values():
        settings = runs[0].settings
        points.append(
            Point(
                panel=f"{panel.rpartition('.')[2]} {settings.get(panel)}" if panel else "",
                num_pushes=settings["algorithm.num_pushes"],
                depth=settings["algorithm.depth"],
                step_size=settings["algorithm.step_size"],
                megabytes=statistics.fmean(bytes_per_hypergradient(run) for run in runs) / 1e6,
                errors=sorted(float(run.summary["hypergradient/error"]) for run in runs),
            )
        )
    if not points:
        raise ValueError("no run below the folders has hypergradient/error; set algorithm.reference=iterative")
    return sorted(points, key=lambda point: (point.panel, point.num_pushes, point.megabytes))


def bytes_per_hypergradient(run: Run) -> float:
    """Bytes of the pushes, over the number of hypergradients that the run computed."""
    return float(run.summary["comm/bytes_hypergradient"]) / (int(run.summary["outer_step"]) + 1)


def draw(points: Sequence[Point], path: Path) -> Path:
    """Error against bytes, both logarithmic: a line per number of pushes, a panel per value of the chosen setting."""
    panels = sorted({point.panel for point in points})
    figure = new_figure(0.8 + 4.6 * len(panels), 4.2)
    all_axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    pushes = sorted({point.num_pushes for point in points})
    for axes, panel in zip(all_axes, panels, strict=True):
        for position, num_pushes in enumerate(pushes):
            line = [point for point in points if (point.panel, point.num_pushes) == (panel, num_pushes)]
            if not line:
                continue
            x = [point.megabytes for point in line]
            style = {"color": COLOURS[position % len(COLOURS)], "linestyle": DASHES[position % len(DASHES)]}
            axes.plot(x, [statistics.median(p.errors) for p in line], marker="o", markersize=4, **style)
            axes.fill_between(x, [p.errors[0] for p in line], [p.errors[-1] for p in line], alpha=0.15, **style)
            axes.plot([], [], label=f"S = {num_pushes}", **style)
        axes.set_xscale("log")
        axes.set_yscale("log")
        y_label = "relative error of the hypergradient" if axes is all_axes[0] else ""
        dress(axes, panel or "Hypergradient error for the bytes spent", "pushed per hypergradient (MB)", y_label)
    add_legend(all_axes[0])
    return save(figure, path)


def write_csv(points: Sequence[Point], path: Path) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["panel", "num_pushes", "depth", "step_size", "megabytes", "error_median", "error_min",
                         "error_max", "seeds"])  # fmt: skip
        for p in points:
            error = statistics.median(p.errors)
            row = [p.panel, p.num_pushes, p.depth, p.step_size, p.megabytes, error, p.errors[0], p.errors[-1]]
            writer.writerow([*row, len(p.errors)])


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--panel", default="", help="setting with a panel per value, such as graph.base_probability")
    parser.add_argument("--output", default=Path("tradeoff"), type=Path)
    options = parser.parse_args(arguments)
    try:
        points = read_points(options.folders, options.panel)
    except ValueError as error:
        print(f"tradeoff: {error}", file=sys.stderr)
        return 1
    options.output.parent.mkdir(parents=True, exist_ok=True)
    write_csv(points, options.output.with_suffix(".csv"))
    print(draw(points, options.output.with_suffix(".png")))
    return 0


if __name__ == "__main__":
    sys.exit(main())
