"""The error of hypergradient push against a setting: ``python scripts/hypergradient_sweep.py FOLDER ... --by KEY``.

Reads finished runs of ``algorithm=hypergradient_error`` below the folders, a sweep over ``--by`` (``faults.max_delay``,
for example; a number). Shows the error after the last term over the norm of the exact hypergradient: the median over
graph seeds and runs, with the range from the 10 to the 90 % quantile, a panel per rule, a line per push count S.
Writes OUTPUT.png and OUTPUT.csv.
"""

import argparse
import csv
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from simulator.figures.style import PALETTE, add_legend, dress, new_figure, save  # noqa: E402
from simulator.results import Run  # noqa: E402
from simulator.tables import finished_runs  # noqa: E402

RULES = {"debiased": "the paper's rule", "average_preserving": "average-preserving rule"}
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1)), (0, (1, 1)))
QUANTILES = (0.1, 0.5, 0.9)
# Errors by rule, number of pushes and value of the setting, of all graph seeds and runs.
Errors = Mapping[tuple[str, int], Mapping[float, Sequence[float]]]


def read_errors(runs: Sequence[Run], key: str) -> Errors:
    """The relative errors after the last term.

    Raises:
        ValueError: when no run has them, or one has no number as ``key``.
    """
    errors: defaultdict[tuple[str, int], defaultdict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
    for run in runs:
        settings, summary = run.settings, run.summary or {}
        norm = summary.get("hypergradient/reference_norm")
        if norm is None:
            continue
        value = settings.get(key)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"{run.folder}: {key}={value} is no number")
        for rule in settings["algorithm.rules"]:
            for pushes in settings["algorithm.push_counts"]:
                suffix = "" if rule == "debiased" else f",rule={rule}"
                for seed in settings["algorithm.graph_seeds"]:
                    curve = summary[f"hypergradient/error@S={pushes},seed={seed}{suffix}"]
                    last = curve[str(settings["algorithm.depth"])]
                    errors[rule, pushes][value].append(last / norm)
    if not errors:
        raise ValueError("no run below the folders is one of algorithm=hypergradient_error")
    return errors


def quantiles(line: Mapping[float, Sequence[float]]) -> tuple[list[float], np.ndarray]:
    """The values of the setting, ascending, and the quantiles at each, [3, values]."""
    values = sorted(line)
    return values, np.array([np.quantile(line[value], QUANTILES) for value in values]).T


def draw(errors: Errors, key: str, path: Path) -> Path:
    """Error against the setting, a panel per rule."""
    rules = [rule for rule in RULES if any(name == rule for name, _ in errors)]
    figure = new_figure(0.8 + 4.8 * len(rules), 4.2)
    panels = figure.subplots(1, len(rules), sharey=True, squeeze=False)[0]
    all_pushes = sorted({pushes for _, pushes in errors})
    for axes, rule in zip(panels, rules, strict=True):
        for place, pushes in enumerate(all_pushes):
            values, (low, middle, high) = quantiles(errors[rule, pushes])
            style = {"color": PALETTE[place % len(PALETTE)], "linestyle": DASHES[place % len(DASHES)]}
            axes.plot(values, middle, marker="o", markersize=4, label=f"S = {pushes}", **style)
            axes.fill_between(values, low, high, alpha=0.15, color=style["color"], linewidth=0)
        axes.set_yscale("log")
        axes.set_xticks(sorted({value for line in errors.values() for value in line}))
        dress(axes, f"Hypergradient, {RULES[rule]}", key, "error / norm of the exact one" if axes is panels[0] else "")
    add_legend(panels[0])
    return save(figure, path)


def write_csv(errors: Errors, key: str, path: Path) -> None:
    """A line per rule, number of pushes and value."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["rule", "num_pushes", key, "error_p10", "error_median", "error_p90", "curves"])
        for (rule, pushes), line in errors.items():
            values, table = quantiles(line)
            for value, (low, middle, high) in zip(values, table.T, strict=True):
                writer.writerow([rule, pushes, value, low, middle, high, len(line[value])])


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--by", default="faults.max_delay", help="the setting on the horizontal axis")
    parser.add_argument("--output", default=Path("hypergradient_sweep"), type=Path)
    options = parser.parse_args(arguments)
    try:
        errors = read_errors(finished_runs(options.folders), options.by)
    except ValueError as error:
        print(f"hypergradient_sweep: {error}", file=sys.stderr)
        return 1
    options.output.parent.mkdir(parents=True, exist_ok=True)
    write_csv(errors, options.by, options.output.with_suffix(".csv"))
    print(draw(errors, options.by, options.output.with_suffix(".png")))
    return 0


if __name__ == "__main__":
    sys.exit(main())
