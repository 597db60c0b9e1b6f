"""LoPA: every node has a lower level of its own and agrees with the others on x alone; a single loop.

The problem, which differs from that of shared_bilevel.py:
    min_x 1/n sum_i f_i(x, y_i*(x)),    y_i*(x) = argmin_y g_i(x, y)
Update equations, with step sizes a, b, c and m, e in (0, 1] (see linear_system.py for u_i; z_i solves
(d2 g_i/dy2) z_i = d_y f_i, the node's own system); all directions are those before the step:
    y <- y - b d_y g_i,    z <- z - c ((d2 g_i/dy2) z - d_y f_i)
    r <- (1 - m) r + m u_i (r = u_i in step 0)
    without gradient tracking (LoPA-LG):  s <- r
    with it (LoPA-GT):                    s <- W s + r - r(old) (s = r in step 0)
    x <- (1 - e) x + e (W x - a s)
Neither y nor z is sent. With gradient tracking x ends at the stationary point of the problem above; without it the end
is biased, in proportion to a. dsoba and sparkle, which send y and z as well, are for one lower level that all nodes
share; where the g_i differ, the two problems have different solutions (problem.lower_level=personal is the one above).
Needs: symmetric, doubly stochastic W; any schedule; a bilevel problem, with second derivatives unless first_order.
Sends: 2 H numbers per edge and step with gradient tracking, H without, in one message.
State: ``hparams`` [N, H] for x, ``params`` [N, D] for y, ``adjoint`` [N, D] for z, ``average`` [N, H] for r; with
gradient tracking also ``hparam_tracker`` [N, H] for s.
Source: Niu, Xu, Sun, Huang and Li, "Distributed Stochastic Bilevel Optimization: Improved Complexity and Heterogeneity
Analysis" (arXiv 2312.14690): a re-implementation of the published idea, since only abstract and summaries were at hand.
They have personal lower levels, no inner loops, the recursion for Hessian-inverse-vector products, the momentum of
hypergradients and the variants by local gradients and by gradient tracking.
Departures: whatever these do not say is this project's choice: the order of the updates, one minibatch for all
directions of a step, z on the scale of the linear system of dsoba and sparkle.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from simulator.algorithms.base import State
from simulator.algorithms.bilevel.shared_bilevel import require_fraction
from simulator.algorithms.bilevel.single_loop import SingleLoop
from simulator.network.network import Network
from simulator.padding import zeros_as
from simulator.problems.base import BilevelProblem, Problem


@dataclass(frozen=True, kw_only=True)
class LoPA(SingleLoop):
    """LoPA-LG and LoPA-GT; further arguments as in :class:`SingleLoop`.

    Args:
        relaxation: e, how far x moves in a step, in (0, 1].
        gradient_tracking: track the hypergradients of all nodes.
    """

    push_sum_alternative: ClassVar[str] = ""
    personalizes: ClassVar[bool] = True

    relaxation: float
    gradient_tracking: bool

    def __post_init__(self) -> None:
        super().__post_init__()
        require_fraction("algorithm.relaxation", self.relaxation)

    def init(self, problem: Problem, network: Network) -> State:
        hparams, params = problem.init_hparams(), problem.init_params()
        state = {"hparams": hparams, "params": params, "adjoint": zeros_as(params)}
        zeros = ("average", "hparam_tracker") if self.gradient_tracking else ("average",)
        return {**state, **{key: torch.zeros_like(hparams) for key in zeros}}

    def advance(self, state: State, step: int, problem: BilevelProblem, network: Network) -> State:
        x, y, z = state["hparams"], state["params"], state["adjoint"]
        on_x, on_y, on_z = self.directions(problem, state, step)
        average = state["average"].lerp(on_x, self.averaging if step else 1.0)
        new = {
            "params": y.sub(on_y, alpha=self.inner_lr),
            "adjoint": z.sub(on_z, alpha=self.adjoint_lr),
            "average": average,
        }
        if self.gradient_tracking:
            mixed, tracker = network.mix((x, state["hparam_tracker"]), step)
            tracker = new["hparam_tracker"] = tracker + average - state["average"]
        else:
            (mixed,) = network.mix((x,), step)
            tracker = average
        new["hparams"] = self.clamp(x.lerp(mixed.sub_(tracker, alpha=self.outer_lr), self.relaxation))
        return new

    def tracked(self, state: State) -> Mapping[str, tuple[Tensor, Tensor]]:
        if not self.gradient_tracking:
            return {}
        return {"the trackers of x have the mean of its averages": (state["hparam_tracker"], state["average"])}
