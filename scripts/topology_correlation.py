"""Predictors of the loss on a graph: ``python scripts/topology_correlation.py FOLDER [FOLDER ...] --output FOLDER``.

Reads finished runs below the folders: a sweep over graphs and learning rates (``experiment=topology_training``), and
seeds if there are several. Every graph is shown at its best learning rate (mean over seeds), beside its effective
number of neighbours n_W, that of the worst node, and its gaps. One gamma is fitted for all graphs against runs with
exact averaging: graph=solo and graph=fully_connected with the same and, better, further num_nodes. How the ranks of
graphs by loss and by each of these quantities agree is printed: -1 when a quantity predicts the loss, 0 when it does
not, and 1 for metrics that are best when largest.

--megabytes takes every run at its last evaluation within these bytes, sent over all edges; "least" stands for what the
graph that sent least did send. No gamma is fitted then. Without it, runs count at their end.
Writes table.md, table.csv, numbers.json and pictures into --output.
"""

import argparse
import csv
import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402

from simulator import config, tables  # noqa: E402
from simulator.averages import mean, spread  # noqa: E402
from simulator.figures import topology_correlation as figures  # noqa: E402
from simulator.figures.comparison import curve_of_seeds  # noqa: E402
from simulator.graphs.base import Graph  # noqa: E402
from simulator.results import Run  # noqa: E402
from simulator.simulation import Simulation  # noqa: E402
from simulator.topology.analysis import make_walk  # noqa: E402
from simulator.topology.correlation import Correlation, Measured, correlate  # noqa: E402
from simulator.topology.gaps import gaps  # noqa: E402
from simulator.topology.invariance import invariant_spectra  # noqa: E402
from simulator.topology.sampled_walk import SampledWalk  # noqa: E402

LR = "algorithm.lr"
NUM_SAMPLES, RANDOM_ROUNDS = 32, 100


@dataclass(frozen=True)
class Trial:
    """One graph at one learning rate: the evaluation that counts, of every seed."""

    lr: float
    runs: Sequence[Run]
    records: Sequence[Mapping[str, Any]]

    def values(self, metric: str) -> list[float]:
        return [float(record[metric]) for record in self.records]

    def mean(self, metric: str) -> float:
        return mean(self.values(metric))

    def standard_error(self, metric: str) -> float:
        values = self.values(metric)
        return spread(values) / math.sqrt(len(values)) if len(values) > 1 else 0.0


@dataclass(frozen=True)
class Row:
    """One graph: all its trials by ascending learning rate, and the best."""

    label: str
    trials: Sequence[Trial]
    best: Trial

    @property
    def at_end_of_grid(self) -> bool:
        """Whether a smaller or larger learning rate might have been better."""
        return len(self.trials) > 1 and self.best in (self.trials[0], self.trials[-1])


def read_rows(
    folders: Sequence[Path], choose_by: str, megabytes: float | str | None = None, ignored: Sequence[str] = ()
) -> list[Row]:
    """One row per graph.

    Args:
        folders: folders with runs below them.
        choose_by: metric that chooses the learning rate.
        megabytes: the limit on what a run has sent, or "least"; None for no limit.
        ignored: settings that do not distinguish graphs.

    Raises:
        ValueError: when there are no runs, a metric is missing, or a run sent less than ``megabytes``.
    """
    runs = tables.finished_runs(folders)
    if without := [run.folder for run in runs if LR not in run.settings]:
        raise ValueError(f"{without[0]}: its algorithm has no {LR}")
    budget = _budget(runs, megabytes)
    rows = []
    for group in tables.by_setting(runs, [LR, *ignored]):
        trials = []
        for setting in tables.by_setting(group.runs, ignored):
            same = setting.runs
            if setting.num_seeds < len(same):
                raise ValueError(f"{same[0].folder}: its setting has several runs with one seed")
            records = [_counting_record(run, budget) for run in same]
            if missing := [run.folder for run, r in zip(same, records, strict=True) if choose_by not in r]:
                raise ValueError(f"{missing[0]}: no {choose_by} among its metrics")
            trials.append(Trial(float(same[0].settings[LR]), same, records))
        trials.sort(key=lambda trial: trial.lr)
        # A learning rate at which a seed has diverged cannot be the best.
        most = max(len(trial.runs) for trial in trials)
        able = [trial for trial in trials if len(trial.runs) == most and math.isfinite(trial.mean(choose_by))]
        if not able:
            raise ValueError(f"{group.label}: {choose_by} is not finite at any learning rate")
        sign = -1.0 if tables.is_best_when_largest(choose_by) else 1.0
        best = min(able, key=lambda trial: sign * trial.mean(choose_by))
        rows.append(Row(group.label, trials, best))
    return rows


def _budget(runs: Sequence[Run], megabytes: float | str | None) -> float:
    """Bytes that count; infinite without a limit."""
    if megabytes is None:
        return math.inf
    sent = {run.folder: float(total) for run in runs if (total := _summary(run)["comm/bytes"]) > 0}
    if not sent:
        raise ValueError("no run has sent anything: there are no equal bytes to compare at")
    least = min(sent, key=lambda folder: sent[folder])
    if isinstance(megabytes, str):
        return sent[least]
    if megabytes * 1e6 > sent[least]:
        raise ValueError(f"--megabytes {megabytes:g}: {least} sent only {sent[least] / 1e6:g}")
    return megabytes * 1e6


def _counting_record(run: Run, budget: float) -> Mapping[str, Any]:
    if budget == math.inf:
        return _summary(run)
    return [record for record in run.records if record["comm/bytes"] <= budget][-1]


def _summary(run: Run) -> Mapping[str, Any]:
    assert run.summary is not None
    return run.summary


def graph_of(run: Run) -> Graph:
    """The schedule that a run was trained on; reads the data if the graph depends on them."""
    components = config.build(run.config)
    if not components.graph.needs_label_counts:
        return components.graph
    alone = {**run.config, "device": "cpu", "compute": "loop"}
    return Simulation.build(alone, components=components).components.graph


def measure(row: Row, metric: str, max_rounds: int) -> Measured:
    """The properties of a row's graph, mean over seeds.

    Raises:
        ValueError: when the sampled rounds of a random graph are too few.
    """
    walks, gaps_of_seeds = [], []
    for run in row.best.runs:
        graph = graph_of(run)
        invariant = invariant_spectra(graph)
        walk, _ = make_walk(graph, invariant, num_samples=NUM_SAMPLES, max_rounds=max_rounds)
        if isinstance(walk, SampledWalk) and not walk.agrees:
            raise ValueError(f"{row.label}: its nodes come to agree too slowly for --max-rounds {max_rounds}")
        walks.append(walk)
        gaps_of_seeds.append(gaps(graph, invariant, num_rounds=RANDOM_ROUNDS))
    means = {}
    for name in ("spectral_gap", "mean_square_gap"):
        values = [one[name] for one in gaps_of_seeds]
        means[name] = mean([v if isinstance(v, float) else math.nan for v in values])
    return Measured(label=row.label, loss=row.best.mean(metric), walks=walks, gaps=means)


def table(
    rows: Sequence[Row], measured: Sequence[Measured], correlation: Correlation, metric: str, gamma: float
) -> list[dict[str, Any]]:
    """One dictionary per graph; the order of rows is that of the metric, best first."""
    lines = []
    for row, schedule in zip(rows, measured, strict=True):
        line: dict[str, Any] = {
            "graph": row.label,
            "nodes": schedule.num_nodes,
            "best lr": row.best.lr,
            "at end of grid": row.at_end_of_grid,
            metric: schedule.loss,
            "std. error": row.best.standard_error(metric),
        }
        if correlation.fit is not None:
            line["n_W(fitted)"] = schedule.num_neighbors(correlation.fit.gamma)
        line |= {
            f"n_W({gamma:g})": schedule.num_neighbors(gamma),
            f"n_W worst({gamma:g})": schedule.num_neighbors_worst(gamma),
            "spectral gap": schedule.gaps["spectral_gap"],
            "mean-sq. gap": schedule.gaps["mean_square_gap"],
            "MB": row.best.mean("comm/bytes") / 1e6,
            "steps": row.best.mean("step"),
            "seeds": len(row.best.runs),
        }
        lines.append(line)
    return sorted(lines, key=lambda line: (-1.0 if tables.is_best_when_largest(metric) else 1.0) * line[metric])


def to_markdown(lines: Sequence[Mapping[str, Any]]) -> str:
    """Four significant digits; * marks a best learning rate at the end of its grid."""
    names = [name for name in lines[0] if name not in ("at end of grid", "std. error")]
    text = [names, ["---", *["---:"] * (len(names) - 1)]]
    for line in lines:
        cells = {name: value if isinstance(value, str) else f"{value:.4g}" for name, value in line.items()}
        cells["best lr"] += "*" if line["at end of grid"] else ""
        if line["seeds"] > 1:
            cells[names[3]] += f" ± {line['std. error']:.2g}"
        text.append([cells[name] for name in names])
    return "".join(f"| {' | '.join(cells)} |\n" for cells in text)


def numbers_of(rows: Sequence[Row], correlation: Correlation, metric: str) -> dict[str, Any]:
    """Flat; None where something is not defined."""
    numbers: dict[str, Any] = {
        "metric": metric,
        "graphs": len(correlation.compared),
        "fit/gamma": correlation.fit.gamma if correlation.fit else None,
        "fit/error": correlation.fit.error if correlation.fit else None,
        "fit/reference": {str(size): loss for size, loss in correlation.reference.items()},
    }
    for name, value in correlation.ranks.items():
        numbers[f"rank_correlation/{name}"] = value if math.isfinite(value) else None
    numbers["learning_rates_at_end_of_grid"] = [row.label for row in rows if row.at_end_of_grid]
    return numbers


def draw(
    rows: Sequence[Row], measured: Sequence[Measured], correlation: Correlation, metric: str, gamma: float, folder: Path
) -> None:
    """The four pictures."""
    chosen = [(rows[index], measured[index]) for index in correlation.compared]
    labels = [row.label for row, _ in chosen]
    y = np.array([schedule.loss for _, schedule in chosen])
    error = np.array([row.best.standard_error(metric) for row, _ in chosen])
    decay = correlation.fit.gamma if correlation.fit else gamma
    sizes = np.array(list(correlation.reference), dtype=np.float64)
    curve = (sizes, np.array(list(correlation.reference.values()))) if correlation.fit else None
    x = np.array([schedule.num_neighbors(decay) for _, schedule in chosen])
    points = figures.Scatter(labels=labels, x=x, y=y, error=error, curve=curve)
    figures.metric_against_neighbors(points, decay, metric, folder / "against_neighbors.png")
    x = np.array([schedule.gaps["spectral_gap"] for _, schedule in chosen])
    points = figures.Scatter(labels=labels, x=x, y=y, error=error)
    figures.metric_against_gap(points, metric, folder / "against_gap.png")
    by_lr = {}
    for row, _ in chosen:
        finite = [(trial.lr, trial.mean(metric)) for trial in row.trials if math.isfinite(trial.mean(metric))]
        by_lr[row.label] = (np.array([lr for lr, _ in finite]), np.array([value for _, value in finite]))
    figures.metric_against_learning_rate(by_lr, metric, folder / "against_learning_rate.png")
    by_bytes = {row.label: _course(row.best, metric) for row, _ in chosen}
    figures.metric_against_bytes(by_bytes, metric, folder / "against_bytes.png")


def _course(trial: Trial, metric: str) -> tuple[np.ndarray, np.ndarray]:
    """Megabytes and metric at the evaluations after the start, mean over seeds."""
    measured = [[r for r in run.records if r["step"] > 0 and metric in r] for run in trial.runs]
    courses = [[(record["comm/bytes"] / 1e6, record[metric]) for record in records] for records in measured]
    curve = curve_of_seeds("", courses)
    return np.array(curve.spent), np.array(curve.values)


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
    parser.add_argument("--metric", default="train/loss", help="what is compared; accuracies are best when largest")
    parser.add_argument("--choose-by", help="metric that chooses the learning rate; without it, the one compared")
    parser.add_argument("--megabytes", help='evaluations within these megabytes count, or "least"')
    parser.add_argument("--ignore", default="", help="settings that do not tell graphs apart, as in problem.sampling")
    parser.add_argument("--gamma", type=float, default=0.951, help="a further decay at which n_W is shown")
    parser.add_argument("--max-rounds", type=int, default=8000, help="rounds that stand for a random graph")
    parser.add_argument("--output", type=Path, default=Path("topology_correlation"), help="folder to write to")
    options = parser.parse_args(arguments)
    metric, gamma = options.metric, options.gamma
    try:
        limit = options.megabytes
        if limit is not None and limit != "least":
            limit = float(limit)
        rows = read_rows(options.folders, options.choose_by or metric, limit, options.ignore.split(","))
        if missing := [row.label for row in rows if any(metric not in record for record in row.best.records)]:
            raise ValueError(f"{missing[0]}: no {metric} among its metrics")
        measured = [measure(row, metric, options.max_rounds) for row in rows]
        correlation = correlate(measured, gamma, fits=limit is None)
    except ValueError as error:
        print(f"topology_correlation: {error}", file=sys.stderr)
        return 1
    lines, numbers = table(rows, measured, correlation, metric, gamma), numbers_of(rows, correlation, metric)
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "table.md").write_text(to_markdown(lines), encoding="utf-8")
    with (options.output / "table.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(lines[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)
    (options.output / "numbers.json").write_text(json.dumps(numbers, indent=1))
    draw(rows, measured, correlation, metric, gamma, options.output)
    print(to_markdown(lines), end="")
    print("".join(f"{name}: {value}\n" for name, value in numbers.items()), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
