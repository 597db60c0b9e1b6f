"""A cycle of several schedules, one per round.

Definition: with K schedules, round t is round floor(t / K) of schedule number t mod K. Directed if one of them is;
doubly stochastic if all are, else column- or row-stochastic as those are that are not. Of period K times the least
common multiple of their periods, and None if one is random.
Sends: as the schedules.
Source: the mixture of star, two cliques and ring in published code that studies time-varying graphs after Vogels,
Hendrikx and Jaggi, "Beyond spectral gap", NeurIPS 2022.
Departures: any number of any schedules.
"""

import math
from collections.abc import Mapping

from simulator.graphs.base import Edges, Graph, Stochasticity


class Cyclic(Graph):
    """Schedules that take turns.

    Args:
        graphs: the schedules in the order of their turns; their names are arbitrary.

    Raises:
        ValueError: when there are none, or they are of different sizes; from ``stochasticity``, when some are
            column-stochastic and others row-stochastic.
    """

    def __init__(self, *, graphs: Mapping[str, Graph]) -> None:
        self.parts = tuple(graphs.values())
        sizes = {name: graph.num_nodes for name, graph in graphs.items()}
        if len(set(sizes.values())) != 1:
            shown = ", ".join(f"{name}: {size}" for name, size in sizes.items()) or "none"
            raise ValueError(
                f"graph.graphs: expected at least one graph, all of one number of nodes; they have {shown}"
            )
        super().__init__(num_nodes=self.parts[0].num_nodes, seed=self.parts[0].seed)
        self.mixes = any(part.mixes for part in self.parts)

    @property
    def description(self) -> str:
        """All schedules."""
        return f"Cyclic({', '.join(part.description for part in self.parts)})"

    @property
    def directed(self) -> bool:
        """Whether one of them is."""
        return any(part.directed for part in self.parts)

    @property
    def stochasticity(self) -> Stochasticity:
        """Double if all parts are doubly stochastic, else that of the other parts."""
        found = sorted({part.stochasticity for part in self.parts} - {"double"})
        if len(found) > 1:
            raise ValueError(f"graph.graphs: {self.description} mixes column- and row-stochastic graphs; use one kind")
        return found[0] if found else "double"

    @property
    def period(self) -> int | None:
        """Until all repeat."""
        periods = [part.period for part in self.parts if part.period is not None]
        return len(periods) * math.lcm(*periods) if len(periods) == len(self.parts) else None

    def edges(self, step: int) -> Edges:
        """The entries of the schedule whose turn it is."""
        turn, which = divmod(step, len(self.parts))
        return self.parts[which].edges(turn)
