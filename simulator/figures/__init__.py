"""Pictures of a run: functions of plain data that write one PNG each.

A function returns the path that it wrote, or None where its data would make an empty picture. matplotlib is
imported when the first picture is drawn.
"""

from simulator.figures.curves import (
    accuracy_against_bytes,
    accuracy_against_simulated_time,
    accuracy_against_steps,
    consensus_distance,
    hypergradient_error,
    loss,
    loss_against_simulated_time,
)
from simulator.figures.graph import graph_and_mixing_matrix
from simulator.figures.nodes import partition, per_node_accuracy
from simulator.figures.report import RunFacts, write_all
from simulator.figures.time import idle_share, staleness, timeline
from simulator.loggers.jsonl import read_records

__all__ = [
    "RunFacts",
    "accuracy_against_bytes",
    "accuracy_against_simulated_time",
    "accuracy_against_steps",
    "consensus_distance",
    "graph_and_mixing_matrix",
    "hypergradient_error",
    "idle_share",
    "loss",
    "loss_against_simulated_time",
    "partition",
    "per_node_accuracy",
    "read_records",
    "staleness",
    "timeline",
    "write_all",
]
