"""The error of hypergradients against their bytes: ``python scripts/tradeoff.py FOLDER [FOLDER ...] [--panel KEY]``.

Reads finished runs of hypergradient push below the folders (a sweep over ``algorithm.depth``, ``algorithm.num_pushes``,
``algorithm.step_size``, ``graph``, ``seed``, ...) that measured ``hypergradient/error`` against a reference. Runs that
differ by their seed alone are one point: the median error over seeds with the range from the lowest to the highest, at
the bytes that one hypergradient pushed over all edges of the graph. Points that differ by ``algorithm.depth`` alone
are one line; ``--panel`` gives every value of one setting a panel of its own. ``--at`` is the evaluation that counts,
as in ``scripts/table.py``; the label and the columns say so.
Writes OUTPUT.png, OUTPUT.pdf and OUTPUT.csv; without ``--output`` they are tradeoff.* in the first FOLDER.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import pandas as pd  # noqa: E402

from simulator import tables  # noqa: E402
from simulator.figures.style import PALETTE, add_legend_beside, captioned, dress, new_figure, save  # noqa: E402
from simulator.results import Run  # noqa: E402

DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1)), (0, (1, 1)))
DEPTH, PUSHES = "algorithm.depth", "algorithm.num_pushes"
ERROR, BYTES = "hypergradient/error", "comm/bytes_hypergradient"


def read_points(runs: Sequence[Run], panel: str, at: str) -> pd.DataFrame:
    """A row per setting: panel, line, num_pushes, depth, settings that differ, megabytes, errors and seeds.

    Raises:
        ValueError: when no run measured an error.
    """
    measured = [run for run in runs if {ERROR, BYTES, "outer_step"} <= tables.numbers(run, at).keys()]
    if not measured:
        raise ValueError(f"no run below the folders has {at}/{ERROR}; set algorithm.reference=iterative")
    rows = []
    for line in tables.by_setting(measured, without=[DEPTH, *([panel] if panel else [])]):
        further = {name: value for name, value in line.settings.items() if name != PUSHES}
        words = tables.label(further) if further else ""
        for point in tables.by_setting(line.runs):
            settings = point.runs[0].settings
            values = [tables.numbers(run, at) for run in point.runs]
            errors = pd.Series([value[ERROR] for value in values])
            megabytes = pd.Series([value[BYTES] / (value["outer_step"] + 1) / 1e6 for value in values])
            rows.append(
                {
                    "panel": f"{panel.rpartition('.')[2]} {settings.get(panel)}" if panel else "",
                    "line": ", ".join(word for word in (f"S = {settings[PUSHES]}", words) if word),
                    "num_pushes": settings[PUSHES],
                    "depth": settings[DEPTH],
                    **further,
                    "megabytes": megabytes.mean(),
                    f"{at}/error_median": errors.median(),
                    f"{at}/error_min": errors.min(),
                    f"{at}/error_max": errors.max(),
                    "seeds": point.num_seeds,
                }
            )
    return pd.DataFrame(rows).sort_values(["panel", "num_pushes", "line", "megabytes"], ignore_index=True)


def draw(points: pd.DataFrame, at: str, path: Path) -> Path:
    """Error against bytes, both logarithmic: a line per configuration, a panel per value of the chosen setting."""
    panels, lines = list(points["panel"].unique()), list(points["line"].unique())
    figure = new_figure(2.8 + 4.6 * len(panels), 4.2)
    all_axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, panel in zip(all_axes, panels, strict=True):
        for place, line in enumerate(lines):
            style = {"color": PALETTE[place % len(PALETTE)], "linestyle": DASHES[place % len(DASHES)]}
            of_line = points[(points["panel"] == panel) & (points["line"] == line)]
            x, median, low, high = (
                of_line[name].to_numpy()
                for name in ("megabytes", *(f"{at}/error_{n}" for n in ("median", "min", "max")))
            )
            axes.plot(x, median, marker="o", markersize=4, label=line, **style)
            axes.fill_between(x, low, high, alpha=0.15, color=style["color"], linewidth=0)
        axes.set_xscale("log")
        axes.set_yscale("log")
        y_label = f"relative error of the hypergradient ({at})" if axes is all_axes[0] else ""
        dress(axes, panel or "Hypergradient error for the bytes spent", "pushed per hypergradient (MB)", y_label)
    add_legend_beside(all_axes[-1])
    return save(figure, path)


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
    parser.add_argument("--at", choices=tables.EVALUATIONS, help="the evaluation that counts")
    parser.add_argument("--panel", default="", help="setting with a panel per value, such as graph.base_probability")
    parser.add_argument("--output", type=Path, help="writes OUTPUT.png and OUTPUT.csv")
    options = parser.parse_args(arguments)
    output: Path = options.output or options.folders[0] / "tradeoff"
    try:
        runs = tables.finished_runs(options.folders)
        at = tables.which_evaluation(runs, options.at)
        points = read_points(runs, options.panel, at)
    except ValueError as error:
        print(f"tradeoff: {error}", file=sys.stderr)
        return 1
    output.parent.mkdir(parents=True, exist_ok=True)
    points.to_csv(output.with_suffix(".csv"), index=False)
    with captioned(", ".join(map(str, options.folders)), with_pdf=True):
        print(draw(points, at, output.with_suffix(".png")))
    return 0


if __name__ == "__main__":
    sys.exit(main())
