"""What primal-dual algorithms share: a learning rate, a static symmetric graph, and mixing that is relaxed.

With (1 - r) I + r W in place of W, all of them need eigenvalues above -1/3 (Tang et al., ICML 2018, arXiv 1803.07068;
r at most 1/2 gives eigenvalues of at least 0 on every graph).
"""

from dataclasses import dataclass
from typing import ClassVar

from scipy.sparse import csr_array
from torch import Tensor

from simulator.algorithms.base import Algorithm, State
from simulator.algorithms.corrections import require_static
from simulator.algorithms.weights import Weights
from simulator.checks import require_positive, require_within
from simulator.graphs.base import Graph
from simulator.randomness import generator
from simulator.schedules import Schedule
from simulator.topology.eigenvalues import largest_eigenvalue

_LOWEST = -1 / 3
_ROUNDING = 1e-7


@dataclass(frozen=True, kw_only=True)
class PrimalDual(Algorithm):
    """Descent along corrected gradients.

    Args:
        lr: learning rate; lr_schedule: its factor at each step.
    """

    weights: ClassVar[Weights] = Weights.SYMMETRIC
    push_sum_alternative: ClassVar[str] = "push_diging"

    lr: float
    lr_schedule: Schedule

    def __post_init__(self) -> None:
        require_positive("algorithm.lr", self.lr)

    def check_graph(self, graph: Graph) -> None:
        require_static(f"algorithm={self.name}", graph, "algorithm=k_gt or diging")

    def rate(self, step: int) -> float:
        """The learning rate at ``step``."""
        return self.lr * self.lr_schedule.factor(step)

    def estimate(self, state: State) -> Tensor:
        return state["params"]


@dataclass(frozen=True, kw_only=True)
class RelaxedMixing(PrimalDual):
    """Mixing with (1 - r) I + r W.

    Args:
        relaxation: r, in (0, 1].
    """

    relaxation: float

    def __post_init__(self) -> None:
        super().__post_init__()
        require_within("algorithm.relaxation", self.relaxation, "(0, 1]")

    def check_graph(self, graph: Graph) -> None:
        super().check_graph(graph)
        if 1 - 2 * self.relaxation > _LOWEST:
            return
        smallest = smallest_eigenvalue(graph)
        if 1 - self.relaxation * (1 - smallest) < _LOWEST + _ROUNDING:
            raise ValueError(
                f"algorithm.relaxation={self.relaxation}: graph {graph.description} has the eigenvalue {smallest:.3g}; "
                f"expected less than {(1 - _LOWEST) / (1 - smallest):.3g}"
            )


def smallest_eigenvalue(graph: Graph) -> float:
    """The smallest eigenvalue of the symmetric W of a static graph."""
    edges = graph.edges(0)
    matrix = csr_array((edges.weight, (edges.target, edges.source)), shape=(graph.num_nodes,) * 2)
    start = generator(0, "lanczos").standard_normal(graph.num_nodes)
    return 2.0 - largest_eigenvalue(lambda x: 2.0 * x - matrix @ x, start)
