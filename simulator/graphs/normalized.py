"""The edges of a schedule with weights that sum to 1 over rows, or over columns, whatever the schedule's own sum over.

Definition: where the weights of the schedule sum to 1 over the chosen side already, they are kept. Otherwise they are
those of in_degree (rows) or out_degree (columns), see :mod:`simulator.graphs.weights`, which a node can compute from
who it hears and to whom it sends. A node with no entry on that side in a round, not even its own, keeps what it has.
Sends: what the schedule sends.
Source: row- and column-stochastic weights of one directed graph, as in push-pull methods.
Departures: none.
"""

import numpy as np

from simulator.graphs.base import Edges, Graph, Stochasticity
from simulator.graphs.weights import in_degree, out_degree

_RULES = {"row": in_degree, "column": out_degree}


class Normalized(Graph):
    """A schedule whose weights sum to 1 over rows or columns.

    Args:
        graph: the schedule whose edges these are.
        over: ``row`` or ``column``.
    """

    def __init__(self, graph: Graph, over: Stochasticity) -> None:
        super().__init__(num_nodes=graph.num_nodes, seed=graph.seed)
        self.parts = (graph,)
        self.mixes = graph.mixes
        self._graph, self._over = graph, over
        self._built: dict[int, Edges] = {}

    @property
    def description(self) -> str:
        """The name of the schedule in messages and figures."""
        return f"{self._graph.description} normalized over {self._over}s"

    @property
    def directed(self) -> bool:
        """As the schedule."""
        return self._graph.directed

    @property
    def stochasticity(self) -> Stochasticity:
        """The chosen side, or both where the schedule has both."""
        return self._graph.stochasticity if self._keeps else self._over

    @property
    def period(self) -> int | None:
        """As the schedule."""
        return self._graph.period

    @property
    def _keeps(self) -> bool:
        return self._graph.stochasticity in ("double", self._over)

    def edges(self, step: int) -> Edges:
        """The entries of the normalized W_step."""
        if self._keeps:
            return self._graph.edges(step)
        period = self.period
        if period is None:
            return self._normalized(step)
        if step % period not in self._built:
            self._built[step % period] = self._normalized(step % period)
        return self._built[step % period]

    def _normalized(self, step: int) -> Edges:
        edges = self._graph.edges(step)
        source, target = edges.source, edges.target
        ends = target if self._over == "row" else source
        alone = np.setdiff1d(np.arange(self.num_nodes), ends)
        if alone.size:
            source, target = np.concatenate([source, alone]), np.concatenate([target, alone])
        return Edges.build(source, target, _RULES[self._over](source, target, self.num_nodes))
