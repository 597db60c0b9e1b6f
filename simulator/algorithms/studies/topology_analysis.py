"""Topology analysis: what is known of a graph schedule before training.

Update equations: SGP (see sgp.py). After the last step the schedule itself is analysed: gaps, effective number of
neighbours, gossip, traffic, convergence rates on random quadratics and the theorem's largest learning rate, each
defined in its module of simulator/topology/. Training decides none of these numbers.
Needs: any graph. On row-stochastic schedules the training agrees on a weighted mean of the nodes.
Sends: D + 1 numbers per edge and step; the analysis sends nothing and runs on one process.
Source: Vogels, Hendrikx and Jaggi, "Beyond spectral gap", NeurIPS 2022 and arXiv 2301.02151.
Departures: in the modules.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np

from simulator.algorithms.base import Report, State
from simulator.algorithms.gossip.sgp import SGP
from simulator.algorithms.weights import Weights
from simulator.figures.topology import (
    effective_neighbors_against_decay,
    learning_rate_bounds,
    rate_against_learning_rate,
    time_to_target,
)
from simulator.graphs.base import Graph
from simulator.network.network import Network
from simulator.problems.base import Problem
from simulator.topology.analysis import Analysis, analyse
from simulator.topology.references import decay_references, rate_references
from simulator.topology.settings import AnalysisSettings


@dataclass(frozen=True, kw_only=True)
class TopologyAnalysis(SGP, AnalysisSettings):
    """SGP, and the analysis of the graph at its end.

    Args:
        lr, lr_schedule, order: of SGP.
        others: see :class:`simulator.topology.settings.AnalysisSettings`.
    """

    weights: ClassVar[Weights] = Weights.ANY
    studies_graph: ClassVar[bool] = True
    takes_late_messages: ClassVar[bool] = False  # the analysis is of the schedule, not of the delays
    survives_churn: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check()

    def report(self, state: State, step: int, problem: Problem, network: Network) -> Report:
        if network.placement.rank > 0:
            return Report()
        analysis = analyse(network.graph, self)
        return Report(numbers=analysis.numbers, arrays=analysis.curves, figures=self._figures(network.graph, analysis))

    def _figures(self, graph: Graph, analysis: Analysis) -> dict[str, Any]:
        curves, name = analysis.curves, f"{graph.description}, {graph.num_nodes} nodes"
        figures: dict[str, Any] = {
            "effective_neighbors_against_decay": partial(
                effective_neighbors_against_decay,
                {name: (curves["gammas"], curves["num_neighbors"])},
                decay_references(graph.num_nodes, curves["gammas"]),
            )
        }
        lrs = np.logspace(-3.0, 0.0, self.num_lrs)
        if "lrs" in curves:
            found = {name: (curves["lrs"], curves["rates"])}
            figures["rate_against_learning_rate"] = partial(
                rate_against_learning_rate,
                found,
                rate_references(("ring", "complete"), graph.num_nodes, lrs, self.zeta),
            )
            references = ("alone", "ring 2", "ring 4", "ring 8", "infinite ring", "complete")
            figures["time_to_target"] = partial(
                time_to_target, found, rate_references(references, graph.num_nodes, lrs, self.zeta), self.target
            )
        shown = {form: bound for form, bound in analysis.bounds.items() if np.isfinite(bound.lr)}
        if shown:
            figures["learning_rate_bounds"] = partial(
                learning_rate_bounds,
                {form: (bound.num_neighbors, bound.consensus, bound.noise) for form, bound in shown.items()},
            )
        return figures
