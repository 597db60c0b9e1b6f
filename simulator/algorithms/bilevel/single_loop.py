"""What D-SOBA, SPARKLE and LoPA share: settings, and the directions of x, y and the adjoint z on one minibatch."""

from dataclasses import dataclass

from torch import Tensor

from simulator.algorithms.base import State
from simulator.algorithms.bilevel.linear_system import directions
from simulator.algorithms.bilevel.shared_bilevel import SharedBilevel, require_fraction
from simulator.checks import require_positive
from simulator.problems.base import BilevelProblem


@dataclass(frozen=True, kw_only=True)
class SingleLoop(SharedBilevel):
    """A single loop over x, y and z.

    Args:
        outer_lr, inner_lr, adjoint_lr: of x, y and z.
        averaging: m, weight of the newest hypergradient, in (0, 1].
        first_order: differences of gradients in place of products with second derivatives.
        difference_step: distance of the points of these differences from y.
    """

    outer_lr: float
    inner_lr: float
    adjoint_lr: float
    averaging: float
    first_order: bool
    difference_step: float

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("outer_lr", "inner_lr", "adjoint_lr", "difference_step"):
            require_positive(f"algorithm.{name}", getattr(self, name))
        require_fraction("algorithm.averaging", self.averaging)

    def directions(self, problem: BilevelProblem, state: State, index: int) -> tuple[Tensor, Tensor, Tensor]:
        """Of x, y and z at minibatch ``index``: u_i, d_y g_i and the residual of z, see linear_system.py."""
        step = self.difference_step if self.first_order else None
        x, y, z = state["hparams"], state["params"], state["adjoint"]
        return directions(problem, y, x, z, self.batch(index), step)
