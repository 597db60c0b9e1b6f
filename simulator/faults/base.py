"""What the faults share: a graph schedule on top of another one, which is the schedule when nothing fails."""

from functools import cached_property

from simulator.graphs.base import Graph, Stochasticity
from simulator.graphs.symmetry import has_symmetric_weights


def beneath_faults(graph: Graph) -> Graph:
    """The schedule when nothing fails."""
    return beneath_faults(graph.graph) if isinstance(graph, FaultyGraph) else graph


class FaultyGraph(Graph):
    """A schedule on top of another one.

    Args:
        graph: the schedule when nothing fails.
        seed: keys the faults, with the step.
    """

    def __init__(self, *, graph: Graph, seed: int = 0) -> None:
        super().__init__(num_nodes=graph.num_nodes, seed=seed)
        self.graph = graph
        self.parts = (graph,)
        self.mixes = graph.mixes
        self.connected_by = graph.connected_by

    @property
    def description(self) -> str:
        """The schedule beneath and the fault."""
        return f"{self.graph.description} with {type(self).__name__}"

    @property
    def directed(self) -> bool:
        """As the schedule beneath."""
        return self.graph.directed

    @property
    def period(self) -> int | None:
        """Faults differ from round to round: there is no period."""
        return None

    @property
    def stochasticity(self) -> Stochasticity:
        """As the schedule beneath."""
        return self.graph.stochasticity

    @cached_property
    def is_symmetric(self) -> bool:
        """Whether the weights beneath are the same in both directions."""
        return has_symmetric_weights(self.graph)
