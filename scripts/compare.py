"""Compares methods by their costs: ``python scripts/compare.py FOLDER [FOLDER ...] [--at best|last]``.

Reads finished runs below the folders. Runs that differ by their seed alone are one setting; settings that differ by the
keys of ``--grid`` alone are one method, which is shown at the setting with the best ``--choose-by``, mean over seeds. A
run that diverged has no summary, and a setting that lost a seed that way does not compete. ``--at`` is the evaluation
that counts, as in ``scripts/table.py``, and the column says so.

Draws ``--metric`` against megabytes sent over all edges, seconds of wall time and steps, mean over seeds with a band
from the lowest to the highest, and writes a table: for every target the megabytes, seconds and steps until the first
evaluation that reaches it, mean over seeds (an empty cell where a seed does not); the metric; the number of settings
that finished and of seeds; the chosen grid values. Targets are values as they are recorded, accuracies in 0..1; the
table and the picture show accuracies in per cent. Where all runs have a ``timing``, simulated seconds stand beside
those of wall time.
``--costs`` leaves some of them out: seconds of runs that shared their machine cannot be compared.
Writes compare.md, compare.csv, compare.png and compare.pdf into ``--output``, or else into the first FOLDER.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import pandas as pd  # noqa: E402

from simulator import tables  # noqa: E402
from simulator.figures.comparison import Curve, comparison, curve_of_seeds  # noqa: E402
from simulator.figures.style import captioned, unit_of  # noqa: E402
from simulator.results import Run  # noqa: E402
from simulator.tables import Group  # noqa: E402

COSTS = {"MB": "comm/bytes", "s": "time/wall_s", "steps": "step"}
# Where the nodes of all runs have clocks of their own, which these metrics tell.
ALL_COSTS = COSTS | {"simulated s": "time/sim_s"}
CLOCKS = "time/idle_share"
LABELS = {"MB": "sent over all edges (MB)", "s": "wall time (s)", "simulated s": "simulated time (s)"}


def history(run: Run, metric: str) -> list[dict[str, Any]]:
    """The evaluations of a run that have the metric.

    Raises:
        ValueError: when there is none.
    """
    records = [record for record in run.records if record.get(metric) is not None]
    if not records:
        raise ValueError(f"{run.folder}: no evaluation has {metric}")
    return records


def cost_to_reach(group: Group, metric: str, target: float, cost: str) -> float | None:
    """The cost, mean over seeds, until the first evaluation that reaches the target; None if a seed never does."""
    name = ALL_COSTS[cost]
    sign = 1.0 if tables.is_best_when_largest(metric) else -1.0
    spent: list[float] = []
    for run in group.runs:
        reached = [record[name] for record in history(run, metric) if sign * record[metric] >= sign * target]
        if not reached:
            return None
        spent.append(reached[0] * unit_of(name)[0])
    return sum(spent) / len(spent)


def choose_costs(wanted: str | None, groups: Sequence[Group], metric: str) -> list[str]:
    """The costs to show: those of ``--costs``, or all that the runs have.

    Raises:
        ValueError: when one is not known, or when the runs do not have it.
    """
    records = [record for group in groups for run in group.runs for record in history(run, metric)]
    available = list(ALL_COSTS if all(CLOCKS in record for record in records) else COSTS)
    chosen = available if wanted is None else wanted.split(",")
    if not set(chosen) <= set(available):
        raise ValueError(f"--costs {wanted}: expected some of {', '.join(available)}")
    return chosen


def make_table(
    groups: Sequence[Group], at: str, metric: str, targets: Sequence[float], costs: Sequence[str]
) -> pd.DataFrame:
    """A row per method."""
    factor, unit = unit_of(metric)
    frame = tables.table(groups, at, [metric])
    place = len(groups[0].settings)
    for target in targets:
        for cost in costs:
            values = [cost_to_reach(group, metric, target, cost) for group in groups]
            frame.insert(place, f"{cost} to {factor * target:g} {unit}".rstrip(), pd.Series(values, dtype=float))
            place += 1
    frame.insert(list(frame.columns).index("seeds"), "settings", [group.num_settings for group in groups])
    return frame


def mean_curve(group: Group, metric: str, cost: str) -> Curve:
    """The metric against a cost, mean and range over the seeds, at the evaluations after step 0 that all seeds have."""
    name = ALL_COSTS[cost]
    measured = [[record for record in history(run, metric) if record["step"]] for run in group.runs]
    courses = [[(record[name] * unit_of(name)[0], record[metric]) for record in records] for records in measured]
    return curve_of_seeds(group.label, courses)


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
    parser.add_argument("--at", choices=tables.EVALUATIONS, help="the evaluation that counts")
    parser.add_argument("--metric", default="test/accuracy", help="what is compared")
    parser.add_argument("--choose-by", help="metric that chooses among the grid; without it, the one compared")
    parser.add_argument("--grid", default="", help="settings of which the best is shown, as in algorithm.lr,problem.x")
    parser.add_argument("--targets", default="", help="values of the metric to reach, as in 0.8,0.9")
    parser.add_argument(
        "--costs", help=f"what is shown, of {', '.join(ALL_COSTS)}; all that the runs have unless given"
    )
    parser.add_argument("--output", type=Path, help="folder to write to; without it, the first FOLDER")
    options = parser.parse_args(arguments)
    grid = [key for key in options.grid.split(",") if key]
    metric: str = options.metric
    try:
        targets = [float(target) for target in options.targets.split(",") if target]
        runs = tables.finished_runs(options.folders)
        at = tables.which_evaluation(runs, options.at)
        groups = tables.best_settings(runs, grid, options.choose_by or metric, at)
        costs = choose_costs(options.costs, groups, metric)
    except ValueError as error:
        print(f"compare: {error}", file=sys.stderr)
        return 1
    if note := tables.repeated_seeds(groups):
        print(f"compare: {note}", file=sys.stderr)
    frame = make_table(groups, at, metric, targets, costs)
    output: Path = options.output or options.folders[0]
    output.mkdir(parents=True, exist_ok=True)
    text = tables.to_markdown(frame)
    (output / "compare.md").write_text(text, encoding="utf-8")
    frame.to_csv(output / "compare.csv", index=False)
    panels = {LABELS.get(cost, cost): [mean_curve(group, metric, cost) for group in groups] for cost in costs}
    with captioned(", ".join(map(str, options.folders)), with_pdf=True):
        comparison(panels, metric, output / "compare.png")
    print(text, end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
