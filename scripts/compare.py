"""Compares methods by their costs: ``python scripts/compare.py FOLDER [FOLDER ...] --output FOLDER``.

Reads finished runs below the folders. Runs that differ by their seed alone are one setting; settings that differ by the
keys of ``--grid`` alone are one method, which is shown at the setting that is best by ``--choose-by`` at the end of its
runs (mean over seeds). A run that diverged has no summary, and a setting that lost a seed that way does not compete.

Draws ``--metric`` against megabytes sent over all edges, seconds of wall time and steps, mean over seeds with a band
from the lowest to the highest, and writes a table: for every target the megabytes, seconds and steps until the first
evaluation that reaches it, mean over seeds ("-" where a seed does not); the metric at the end; the number of settings
that finished and of seeds; the chosen grid values. Where all runs have a ``timing``, simulated seconds stand beside
those of wall time, in table and picture.
``--costs`` leaves some of them out: seconds of runs that shared their machine cannot be compared.
Accuracies are best when largest, everything else when smallest. Writes compare.md, compare.csv and compare.png.
"""

import argparse
import csv
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from scripts.table import Run, grouped, label_groups, read_runs  # noqa: E402
from simulator.figures import read_records  # noqa: E402
from simulator.figures.comparison import Curve, comparison  # noqa: E402

COSTS = {"MB": ("comm/bytes", 1e-6), "s": ("time/wall_s", 1.0), "steps": ("step", 1.0)}
# Where the nodes of all runs have clocks of their own, which these metrics tell.
SIMULATED = {"simulated s": ("time/sim_s", 1.0)}
ALL_COSTS = COSTS | SIMULATED
CLOCKS = "time/idle_share"


@dataclass(frozen=True)
class Method:
    """A method at its best setting: the evaluations of every seed, what was chosen, among how many settings."""

    label: str
    histories: Sequence[Sequence[Mapping[str, float]]]
    num_settings: int
    chosen: Mapping[str, Any]


def is_better(metric: str, value: float, other: float) -> bool:
    """Whether ``value`` is at least as good."""
    return value >= other if metric.rsplit("/", 1)[-1].startswith("accuracy") else value <= other


def evaluations(run: Run, metric: str) -> list[dict[str, float]]:
    """The evaluations of a run that have the metric.

    Raises:
        ValueError: when there is none.
    """
    records = [record for record in read_records(run.folder / "metrics.jsonl") if metric in record]
    if not records:
        raise ValueError(f"{run.folder}: no evaluation has {metric}")
    return records


def choose(runs: Sequence[Run], grid: Sequence[str], metric: str, choose_by: str) -> list[Method]:
    """Every method at the best setting of its grid, best method first."""
    groups = grouped(runs, grid)
    labels = label_groups([dict(key) for key in groups])
    methods = []
    for label, members in zip(labels, groups.values(), strict=True):
        settings = list(grouped(members).values())
        most = max(map(len, settings))
        best = None
        for candidate in (setting for setting in settings if len(setting) == most):
            value = statistics.fmean(evaluations(run, choose_by)[-1][choose_by] for run in candidate)
            if value == value and (best is None or is_better(choose_by, value, best[0])):
                best = value, candidate
        if best is not None:
            histories = [evaluations(run, metric) for run in best[1]]
            chosen = {key: best[1][0].settings[key] for key in grid if key in best[1][0].settings}
            methods.append(Method(label, histories, len(settings), chosen))
    return methods


def cost_to_reach(method: Method, metric: str, target: float, cost: str) -> float | None:
    """The cost, mean over seeds, until the first evaluation that reaches the target; None if never."""
    name, factor = ALL_COSTS[cost]
    spent = []
    for history in method.histories:
        reached = [record[name] * factor for record in history if is_better(metric, record[metric], target)]
        if not reached:
            return None
        spent.append(reached[0])
    return statistics.fmean(spent)


def has_clocks(methods: Sequence[Method]) -> bool:
    """Whether every evaluation has the time of local clocks: all runs have a ``timing``."""
    records = [record for method in methods for history in method.histories for record in history]
    return bool(records) and all(CLOCKS in record for record in records)


def choose_costs(wanted: str | None, methods: Sequence[Method]) -> list[str]:
    """The costs to show: those of ``--costs``, or all that the runs have.

    Raises:
        ValueError: when one is not known, or when the runs do not have it.
    """
    available = list(ALL_COSTS if has_clocks(methods) else COSTS)
    if wanted is None:
        return available
    for cost in (chosen := wanted.split(",")):
        if cost not in available:
            raise ValueError(f"--costs {wanted}: expected some of {', '.join(available)}")
    return chosen


def make_table(
    methods: Sequence[Method], metric: str, targets: Sequence[float], grid: Sequence[str], costs: Sequence[str]
) -> list[list[str]]:
    """Header and rows."""
    header = ["", *(f"{cost} to {target:g}" for target in targets for cost in costs), metric, "std", "settings"]
    lines = [[*header, "seeds", *grid]]
    for method in methods:
        ends = [history[-1][metric] for history in method.histories]
        spent = [cost_to_reach(method, metric, target, cost) for target in targets for cost in costs]
        line = [method.label, *("-" if cost is None else f"{cost:.4g}" for cost in spent)]
        line += [f"{statistics.fmean(ends):.4g}", f"{statistics.stdev(ends):.2g}" if len(ends) > 1 else "-"]
        line += [str(method.num_settings), str(len(ends)), *(str(method.chosen.get(key, "")) for key in grid)]
        lines.append(line)
    return lines


def mean_curve(method: Method, metric: str, cost: str) -> Curve:
    """The metric against a cost, both mean over the seeds at the evaluations after step 0 that all seeds have.

    With several seeds there is a band from the lowest to the highest.
    """
    name, factor = ALL_COSTS[cost]
    points = [point for point in zip(*method.histories, strict=False) if point[0]["step"] > 0]
    spent = [statistics.fmean(record[name] * factor for record in point) for point in points]
    values = [[record[metric] for record in point] for point in points]
    mean = [statistics.fmean(of_seeds) for of_seeds in values]
    if len(method.histories) == 1:
        return Curve(method.label, spent, mean)
    return Curve(
        method.label, spent, mean, [min(of_seeds) for of_seeds in values], [max(of_seeds) for of_seeds in values]
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
    parser.add_argument("--metric", default="test/accuracy", help="what is compared")
    parser.add_argument("--choose-by", help="metric that chooses among the grid; without it, the one compared")
    parser.add_argument("--grid", default="", help="settings of which the best is shown, as in algorithm.lr,problem.x")
    parser.add_argument("--targets", default="", help="values of the metric to reach, as in 0.8,0.9")
    parser.add_argument(
        "--costs", help=f"what is shown, of {', '.join(ALL_COSTS)}; all that the runs have unless given"
    )
    parser.add_argument("--output", type=Path, required=True, help="folder to write to")
    options = parser.parse_args(arguments)
    grid = [key for key in options.grid.split(",") if key]
    try:
        targets = [float(target) for target in options.targets.split(",") if target]
        methods = choose(read_runs(options.folders), grid, options.metric, options.choose_by or options.metric)
        costs = choose_costs(options.costs, methods)
    except ValueError as error:
        print(f"compare: {error}", file=sys.stderr)
        return 1
    lines = make_table(methods, options.metric, targets, grid, costs)
    options.output.mkdir(parents=True, exist_ok=True)
    rule = ["---", *["---:"] * (len(lines[0]) - 1)]
    text = "".join(f"| {' | '.join(line)} |\n" for line in (lines[0], rule, *lines[1:]))
    (options.output / "compare.md").write_text(text, encoding="utf-8")
    with (options.output / "compare.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(lines)
    panels = {cost: [mean_curve(method, options.metric, cost) for method in methods] for cost in costs}
    comparison(panels, options.metric, options.output / "compare.png")
    print(text, end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
