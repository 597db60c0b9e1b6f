"""DSGDA-GT: decentralized gradient descent and ascent with gradient tracking, on a minimax form of the problem.

The problem is min over x and y, max over z of the mean of L_i(x, y, z) = f_i(x, y) + penalty (g_i(x, y) - g_i(x, z)).
Update equations, with step sizes a, b, c, trackers s, v, q that begin as the directions u, d, e:
    u_i = d_x L_i = d_x f_i(x, y) + penalty (d_x g_i(x, y) - d_x g_i(x, z))
    d_i = d_y L_i / penalty = d_y g_i(x, y) + d_y f_i(x, y) / penalty,    e_i = -d_z L_i / penalty = d_y g_i(x, z)
    x <- W (x - a s),    y <- W (y - b v),    z <- W (z - c q)
    s <- W s + u(new) - u(old),    v <- W v + d(new) - d(old),    q <- W q + e(new) - e(old)
With order=combine_and_adapt they are W x - a s, W y - b v and W z - c q, see tracked_loop.py. All nodes end at the
solution of the penalty, O(1 / penalty) away from that of the bilevel problem. It solves the problem of f2sa, which
sends x and (y, z) in rounds of their own and moves y and z at the new x; here all three move at once, in one round and
with 3 gradients, where a step of f2sa with one inner step takes 9. With b = c the errors of y and z largely cancel in
u_i.
Minibatches: number t + 1 in step t, after number 0 at the start; y and z share those of g_i.
Needs: symmetric, doubly stochastic W; any schedule; a bilevel problem; no second derivatives.
Sends: 2 H + 4 D numbers per edge and step, in one message.
State: ``hparams`` [N, H] for x, ``params`` [N, D] for y, ``maximizer`` [N, D] for z, the directions
``hparams_direction`` [N, H], ``params_direction`` [N, D], ``maximizer_direction`` [N, D], and the trackers
``hparams_memory`` [N, H], ``params_memory`` [N, D], ``maximizer_memory`` [N, D].
Source: Wang, Chen, Ma and Zhang, "Fully First-Order Methods for Decentralized Bilevel Optimization" (arXiv
2410.19319): a re-implementation of the published idea, since only the abstract was at hand. It has first-order oracles
only, stochastic gradient descent and ascent, and gradient tracking; the minimax form is that of Kwon et al. (arXiv
2301.10945).
Departures: whatever the abstract does not say is this project's choice: all variables move at once, the order of moving
and mixing, a constant penalty, y and z on L_i / penalty.
"""

from dataclasses import dataclass

from torch import Tensor

from simulator.algorithms.base import State
from simulator.algorithms.bilevel.corrected_loop import Move
from simulator.algorithms.bilevel.tracked_loop import TrackedLoop
from simulator.checks import require_positive
from simulator.padding import copy_as
from simulator.problems.base import BilevelProblem


@dataclass(frozen=True, kw_only=True)
class DSGDAGT(TrackedLoop):
    """DSGDA-GT.

    Args:
        penalty: lambda; the solution is O(1 / lambda) away from that of the bilevel problem.
        outer_lr: a, of x.
        inner_lr: b, of y on h_i / lambda.
        ascent_lr: c, of z on g_i.
    """

    penalty: float
    outer_lr: float
    inner_lr: float
    ascent_lr: float

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("penalty", "outer_lr", "inner_lr", "ascent_lr"):
            require_positive(f"algorithm.{name}", getattr(self, name))

    def moves(self) -> tuple[Move, ...]:
        return (
            Move("hparams", self.tracking, self.outer_lr),
            Move("params", self.tracking, self.inner_lr),
            Move("maximizer", self.tracking, self.ascent_lr),
        )

    def start(self, problem: BilevelProblem) -> State:
        params = problem.init_params()
        return {"hparams": problem.init_hparams(), "params": params, "maximizer": copy_as(params)}

    def directions(self, problem: BilevelProblem, state: State, index: int) -> tuple[Tensor, ...]:
        x, y, z, batch = state["hparams"], state["params"], state["maximizer"], self.batch(index)
        outer_y, outer_x = problem.outer_grads(y, x, batch)
        on_y, inner_x = problem.inner_grads(y, x, batch)
        on_z, inner_x_at_z = problem.inner_grads(z, x, batch)
        on_x = outer_x.add(inner_x - inner_x_at_z, alpha=self.penalty)
        return on_x, on_y.add(outer_y, alpha=1 / self.penalty), on_z
