"""All pictures of one run, into its folder."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from simulator.arrays import FloatArray, IntArray
from simulator.figures import curves
from simulator.figures.curves import Records
from simulator.figures.graph import graph_and_mixing_matrix
from simulator.figures.nodes import partition, per_node_accuracy
from simulator.figures.time import idle_share, staleness, timeline
from simulator.graphs.base import Graph


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """The data for pictures besides a run's records; None for data that it does not have.

    Attributes:
        has_consensus: whether the nodes communicate and are meant to agree; the consensus distance is not drawn if not.
        graph: the schedule that the nodes communicate over.
        label_counts: training samples of every node by class, shape [M, C].
        per_node_accuracy: test accuracy of every node at the end, in 0..1, shape [M].
        idle_shares: the part of its simulated time that every node has waited, in 0..1, shape [M].
        spans: what nodes did in the first rounds; see :func:`simulator.figures.time.timeline`.
        staleness_counts: how many messages were 0, 1, 2, ... local steps old when they were taken in.
    """

    has_consensus: bool = True
    graph: Graph | None = None
    label_counts: IntArray | None = None
    per_node_accuracy: FloatArray | None = None
    idle_shares: FloatArray | None = None
    spans: Sequence[tuple[str, int, float, float]] | None = None
    staleness_counts: IntArray | None = None


def write_all(run_folder: Path, records: Records, facts: RunFacts) -> list[Path]:
    """Draws every picture for which there are data as ``figures/<name>.png``; returns the paths."""
    drawings: dict[str, Callable[[Path], Path | None]] = {
        curve.__name__: partial(curve, records)
        for curve in (
            curves.accuracy_against_steps,
            curves.accuracy_against_bytes,
            curves.accuracy_against_simulated_time,
            curves.accuracy_by_outer_step,
            curves.loss,
            curves.loss_against_simulated_time,
            curves.consensus_distance,
            curves.hypergradient_error,
        )
    }
    if not facts.has_consensus:
        del drawings[curves.consensus_distance.__name__]
    if facts.per_node_accuracy is not None:
        drawings["per_node_accuracy"] = partial(per_node_accuracy, facts.per_node_accuracy)
    if facts.graph is not None:
        drawings["graph_and_mixing_matrix"] = partial(graph_and_mixing_matrix, facts.graph)
    if facts.label_counts is not None:
        drawings["partition"] = partial(partition, facts.label_counts)
    if facts.idle_shares is not None:
        drawings["idle_share"] = partial(idle_share, facts.idle_shares)
    if facts.spans is not None:
        drawings["timeline"] = partial(timeline, facts.spans)
    if facts.staleness_counts is not None:
        drawings["staleness"] = partial(staleness, facts.staleness_counts)
    written = [draw(run_folder / "figures" / f"{name}.png") for name, draw in drawings.items()]
    return [path for path in written if path is not None]
