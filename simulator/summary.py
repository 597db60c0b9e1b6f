"""The end of a run: its summary and its figures, on rank 0."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from simulator.algorithms.base import Algorithm, Report
from simulator.checkpoint import write_atomically
from simulator.metrics import Evaluation
from simulator.network.network import Network
from simulator.problems.base import Problem

FILE_NAME = "summary.json"


def build_summary(
    *,
    step: int,
    evaluation: Evaluation,
    network: Network,
    records: Sequence[dict[str, float]],
    problem: Problem,
    report: Report,
    selection: str,
) -> dict[str, Any]:
    """One flat object: the last evaluation, values by node, traffic and time by node, the best evaluation, the report.

    Args:
        step: completed steps.
        evaluation: of the last step.
        records: of all evaluations, as in metrics.jsonl.
        selection: the metric at whose best value ``best/...`` is taken.
    """
    summary: dict[str, Any] = {"step": step, **evaluation.numbers}
    summary |= {f"{name}_per_node": values.tolist() for name, values in evaluation.per_node.items()}
    summary["comm/bytes_sent_per_node"] = network.ledger.node_sent.tolist()
    summary["comm/bytes_received_per_node"] = network.ledger.node_received.tolist()
    if network.times is not None:
        summary["time/sim_s_per_node"] = network.times.now_s.tolist()
        summary["time/idle_share_per_node"] = network.times.idle_shares.tolist()
    if network.events is not None:
        summary["time/num_steps_per_node"] = network.events.num_steps.tolist()
    summary |= _best(records, selection)
    summary |= problem.facts().numbers
    return summary | dict(report.numbers)


def write_summary(folder: Path, summary: dict[str, Any], report: Report) -> None:
    """Writes ``summary.json`` (strict JSON), and a report's arrays to ``report.npz``."""
    if report.arrays:
        np.savez(folder / "report.npz", allow_pickle=False, **report.arrays)
    write_atomically(folder / FILE_NAME, json.dumps(_strict(summary), indent=1))


def draw_figures(
    folder: Path,
    records: Sequence[dict[str, float]],
    evaluation: Evaluation,
    algorithm: Algorithm,
    network: Network,
    problem: Problem,
    report: Report,
    settings: Mapping[str, Any],
) -> list[Path]:
    """Draws every figure for which the run has data into ``figures/``; returns the paths of the PNGs.

    Every figure names the run. ``figures=pdf`` draws PDFs as well.
    """
    from simulator.figures import RunFacts, write_all
    from simulator.figures.style import captioned

    accuracy, times, events = evaluation.per_node.get("test/accuracy"), network.times, network.events
    facts = RunFacts(
        has_consensus=network.num_nodes > 1 and network.graph.mixes and not algorithm.personalizes,
        graph=network.graph,
        label_counts=problem.facts().label_counts,
        per_node_accuracy=None if accuracy is None else accuracy.numpy(),
        idle_shares=None if times is None else times.idle_shares,
        spans=None if times is None else times.spans,
        staleness_counts=None if events is None else events.staleness_counts,
    )
    with captioned(_name_run(folder, settings), with_pdf=settings["figures"] == "pdf"):
        written = write_all(folder, records, facts)
        further = [draw(folder / "figures" / f"{name}.png") for name, draw in report.figures.items()]
    return written + [path for path in further if path is not None]


def _name_run(folder: Path, settings: Mapping[str, Any]) -> str:
    """What figures say about a run: ``sgp on ring, 16 nodes, seed 0, in 2026-01-31/12-00-00-000000``."""
    choices = settings.get("choices", {})
    names = " on ".join(str(choices[group]) for group in ("algorithm", "graph") if choices.get(group))
    words = [names, f"{settings['num_nodes']} nodes", f"seed {settings['seed']}"]
    return f"{', '.join(filter(None, words))}, in {folder.parent.name}/{folder.name}"


def _best(records: Sequence[dict[str, float]], selection: str) -> dict[str, float]:
    """The first evaluation with the best ``selection``, under ``best/...``.

    Where a run has outer steps, only the ends of outer steps are candidates.
    """
    candidates = [record for record in records if record["step"] and selection in record]
    ends = [record for record in candidates if "outer_step" in record]
    candidates = ends or candidates
    if not candidates:
        return {}
    best = max(candidates, key=lambda record: record[selection])
    over_nodes = [f"test/accuracy_{name}" for name in ("p10", "bottom_decile", "weighted", "min", "max", "std")]
    accuracies = ("valid/accuracy", "valid/accuracy_weighted", "test/accuracy", *over_nodes)
    kept = ("step", "outer_step", *accuracies, "test/loss", "comm/bytes")
    return {f"best/{name}": best[name] for name in kept if name in best}


def _strict(value: Any) -> Any:
    """Strict JSON has no NaN: it becomes null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, list):
        return [_strict(entry) for entry in value]
    if isinstance(value, dict):
        return {key: _strict(entry) for key, entry in value.items()}
    return value
