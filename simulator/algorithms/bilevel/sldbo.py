"""SLDBO: a single loop with gradient tracking of x, y and z, where z stays within a ball.

Update equations (see linear_system.py for u_i and z), with step sizes a, b, c, trackers s, v, q that begin as the
directions, and P the projection of every node's z onto the ball of radius ``adjoint_radius``:
    x <- W (x - a s),    y <- W (y - b v),    z <- P(W (z - c q))
    s <- W s + u(new) - u(old),    v <- W v + d_y g(new) - d_y g(old)
    q <- W q + ((d2 g/dy2) z - d_y f)(new) - (old)
With order=combine_and_adapt they are W x - a s, W y - b v and P(W z - c q), see tracked_loop.py. A step takes one
product with each second derivative. All nodes end at the stationary point, if the ball contains the solution z of the
linear system. It is sparkle with gradient tracking on both levels, without the average of hypergradients and with a
bounded z.
Minibatches: number t + 1 in step t, after number 0 at the start.
Needs: symmetric, doubly stochastic W; any schedule; a bilevel problem with second derivatives.
Sends: 2 H + 4 D numbers per edge and step, in one message.
State: ``hparams`` [N, H] for x, ``params`` [N, D] for y, ``adjoint`` [N, D] for z, the directions of these at their
values ``hparams_direction`` [N, H], ``params_direction`` [N, D], ``adjoint_direction`` [N, D], and the trackers
``hparams_memory`` [N, H] for s, ``params_memory`` [N, D] for v, ``adjoint_memory`` [N, D] for q.
Source: Dong, Ma, Yang and Yin, Mathematics of Operations Research 2025 (arXiv 2311.08945): a re-implementation of the
published idea, since only the abstract was at hand. It has the single loop of SOBA, two matrix-vector products per
iteration, gradient tracking and a projection.
Departures: whatever the abstract does not say is this project's choice: the order of moving and mixing, the projection
onto a ball and of z alone, all directions of a step on one minibatch.
"""

import logging
from dataclasses import dataclass

from torch import Tensor

from simulator.algorithms.base import State
from simulator.algorithms.bilevel.corrected_loop import Move
from simulator.algorithms.bilevel.linear_system import directions
from simulator.algorithms.bilevel.tracked_loop import TrackedLoop
from simulator.checks import require_positive
from simulator.network.network import Network
from simulator.padding import zeros_as
from simulator.problems.base import BilevelProblem, Problem

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class SLDBO(TrackedLoop):
    """SLDBO.

    Args:
        outer_lr, inner_lr, adjoint_lr: of x, y and z.
        adjoint_radius: largest norm of a node's z; None for no bound.
    """

    outer_lr: float
    inner_lr: float
    adjoint_lr: float
    adjoint_radius: float | None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("outer_lr", "inner_lr", "adjoint_lr"):
            require_positive(f"algorithm.{name}", getattr(self, name))
        if self.adjoint_radius is not None:
            require_positive("algorithm.adjoint_radius", self.adjoint_radius)

    def moves(self) -> tuple[Move, ...]:
        return (
            Move("hparams", self.tracking, self.outer_lr),
            Move("params", self.tracking, self.inner_lr),
            Move("adjoint", self.tracking, self.adjoint_lr),
        )

    def start(self, problem: BilevelProblem) -> State:
        params = problem.init_params()
        return {"hparams": problem.init_hparams(), "params": params, "adjoint": zeros_as(params)}

    def directions(self, problem: BilevelProblem, state: State, index: int) -> tuple[Tensor, ...]:
        return directions(problem, state["params"], state["hparams"], state["adjoint"], self.batch(index))

    def limited(self, key: str, value: Tensor) -> Tensor:
        if key != "adjoint" or self.adjoint_radius is None:
            return super().limited(key, value)
        norm = value.norm(dim=1, keepdim=True)
        return value.mul_((self.adjoint_radius / norm).clamp_max_(1.0))

    def finish(self, state: State, step: int, problem: Problem, network: Network) -> State:
        """Says so where the bound holds z: it hides a z that diverges, and one whose solution is outside."""
        if self.adjoint_radius is not None:
            bound = state["adjoint"].norm(dim=1).double() >= 0.999 * self.adjoint_radius
            count = int(network.sum(bound.double()))
            if count and network.placement.rank == 0:
                log.warning(
                    "algorithm.adjoint_radius=%g: the adjoint variable of %d of %d nodes ends at this bound; a smaller "
                    "algorithm.adjoint_lr lets it converge, unless its solution is outside",
                    *(self.adjoint_radius, count, network.num_nodes),
                )
        return super().finish(state, step, problem, network)
