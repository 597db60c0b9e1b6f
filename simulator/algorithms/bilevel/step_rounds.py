"""Which rounds of the graph schedule a step takes, and which variable each of them carries."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from simulator.graphs.base import Graph
from simulator.graphs.support import count_components


@dataclass(frozen=True)
class StepRounds:
    """The rounds of all steps: those of step t + 1 follow those of step t.

    Args:
        counts: rounds per step by variable, in the order in which a step takes them.
        setup: rounds before step 0.
    """

    counts: Mapping[str, int]
    setup: int = 0

    @property
    def per_step(self) -> int:
        """Rounds per step."""
        return sum(self.counts.values())

    def of(self, variable: str, step: int) -> range:
        """The rounds of ``step`` that carry ``variable``."""
        first = self.setup + step * self.per_step
        for name, count in self.counts.items():
            if name == variable:
                return range(first, first + count)
            first += count
        raise KeyError(variable)

    def check_connected(self, graph: Graph, algorithm: str) -> None:
        """Checks that the rounds of each variable connect all nodes, where ``graph`` repeats.

        Raises:
            ValueError: naming ``algorithm``, the graph and the variable.
        """
        if graph.period in (1, None) or not graph.mixes:
            return
        assert graph.period is not None
        for variable in self.counts:
            met = {index % graph.period for step in range(graph.period) for index in self.of(variable, step)}
            edges = [graph.edges(index) for index in sorted(met)]
            support = np.concatenate([e.source for e in edges]), np.concatenate([e.target for e in edges])
            if count_components(support, graph.num_nodes)[0] > 1:
                raise ValueError(
                    f"graph {graph.description} repeats after {graph.period} rounds and algorithm={algorithm} has "
                    f"{self.per_step} rounds per step, so that {variable} would meet the same rounds over and over, "
                    "which do not connect all nodes; use another number of inner steps"
                )
