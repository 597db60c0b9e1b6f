"""MADSBO: a double loop; gradient tracking on the inner level, a moving average of hypergradients on the outer level.

Update equations of a step, with step sizes b, c and a, and V, P the trackers of y and z:
    inner_steps times:    y <- W y - b V,    V <- W V + d_y g_i(x, y)(new) - (old)
    adjoint_steps times:  z <- W z - c P,    P <- W P + (d2 g_i/dy2 z - d_y f_i)(new) - (old)
    u_i = d_x f_i - (d2 g_i/dx dy) z_i,    r_i <- (1 - m) r_i + m u_i (r_i = u_i in step 0)
    without gradient tracking:  x <- W x - a r
    with it:                    s <- W s + r - r(old) (s = r in step 0),    x <- W x - a s
y, z and their trackers are kept from step to step. Before a loop the tracker is corrected, without a message, by what
the local gradient has changed since with x (and y). Without tracking of x the nodes stay apart and the end is biased,
in proportion to a; with it (MADSBO-GT) the stationary point itself is found.
Minibatches: those of step t have the numbers t L, ..., t L + L - 1 with L = inner_steps + adjoint_steps + 3.
Rounds: inner_steps, then adjoint_steps, then one for x.
Needs: symmetric, doubly stochastic W; any schedule; a bilevel problem with second derivatives.
Sends: 2 D numbers per edge and inner or adjoint step; H per edge and step for x, 2 H with gradient tracking.
State: ``hparams`` [N, H] for x, ``average`` [N, H] for r, ``params`` [N, D] for y, ``param_tracker`` [N, D] for V,
``param_gradient`` [N, D], ``adjoint`` [N, D] for z, ``adjoint_tracker`` [N, D] for P, ``adjoint_gradient`` [N, D]; with
gradient tracking also ``hparam_tracker`` [N, H] for s.
Source: Chen, Huang, Ma and Balasubramanian, ICML 2023 (arXiv 2210.12839); the variant with gradient tracking is a
baseline of Zhu et al., NeurIPS 2024 (arXiv 2411.14166).
Departures: z is kept from step to step; step sizes are constants of their own instead of one schedule.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from simulator.algorithms.base import State
from simulator.algorithms.bilevel.shared_bilevel import SharedBilevel, require_fraction
from simulator.algorithms.bilevel.step_rounds import StepRounds
from simulator.checks import require_positive
from simulator.network.network import Network
from simulator.padding import zeros_as
from simulator.problems.base import BilevelProblem, Problem


@dataclass(frozen=True, kw_only=True)
class MADSBO(SharedBilevel):
    """MADSBO and MADSBO-GT.

    Args:
        inner_steps, inner_lr: of y; adjoint_steps, adjoint_lr: of z.
        outer_lr: of x.
        averaging: m, weight of the newest hypergradient, in (0, 1].
        gradient_tracking: track the hypergradients of all nodes.
    """

    inner_steps: int
    inner_lr: float
    adjoint_steps: int
    adjoint_lr: float
    outer_lr: float
    averaging: float
    gradient_tracking: bool

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("inner_steps", "inner_lr", "adjoint_steps", "adjoint_lr", "outer_lr"):
            require_positive(f"algorithm.{name}", getattr(self, name))
        require_fraction("algorithm.averaging", self.averaging)

    @property
    def rounds(self) -> StepRounds:
        return StepRounds({"y": self.inner_steps, "z": self.adjoint_steps, "x": 1})

    def init(self, problem: Problem, network: Network) -> State:
        hparams, params = problem.init_hparams(), problem.init_params()
        state = {"hparams": hparams, "average": torch.zeros_like(hparams), "params": params}
        if self.gradient_tracking:
            state["hparam_tracker"] = torch.zeros_like(hparams)
        zeros = ("param_tracker", "param_gradient", "adjoint", "adjoint_tracker", "adjoint_gradient")
        return {**state, **{key: zeros_as(params) for key in zeros}}

    def advance(self, state: State, step: int, problem: BilevelProblem, network: Network) -> State:
        batch = step * (self.inner_steps + self.adjoint_steps + 3)
        x, z = state["hparams"], state["adjoint"]

        def grad_y(y: Tensor, batch: int) -> Tensor:
            return problem.grad(y, x, self.batch(batch))

        y, tracker, gradient = state["params"], state["param_tracker"], state["param_gradient"]
        gradient, tracker = _tracked(tracker, gradient, grad_y(y, batch))
        for k, round_index in enumerate(self.rounds.of("y", step)):
            mixed, tracker_mixed = network.mix((y, tracker), round_index)
            y = mixed.sub_(tracker, alpha=self.inner_lr)
            gradient, tracker = _tracked(tracker_mixed, gradient, grad_y(y, batch + 1 + k))
        state = {**state, "params": y, "param_tracker": tracker, "param_gradient": gradient}

        def residual_z(z: Tensor, batch: int) -> Tensor:
            return problem.hvp(y, x, z, self.batch(batch)) - problem.outer_grad(y, x, self.batch(batch))

        batch += self.inner_steps + 1
        tracker, gradient = state["adjoint_tracker"], state["adjoint_gradient"]
        gradient, tracker = _tracked(tracker, gradient, residual_z(z, batch))
        for k, round_index in enumerate(self.rounds.of("z", step)):
            mixed, tracker_mixed = network.mix((z, tracker), round_index)
            z = mixed.sub_(tracker, alpha=self.adjoint_lr)
            gradient, tracker = _tracked(tracker_mixed, gradient, residual_z(z, batch + 1 + k))
        state = {**state, "adjoint": z, "adjoint_tracker": tracker, "adjoint_gradient": gradient}

        last = self.batch(batch + self.adjoint_steps + 1)
        hypergradient = problem.outer_grads(y, x, last)[1] - problem.cross_jvp(y, x, z, last)
        average = state["average"].lerp(hypergradient, self.averaging if step else 1.0)
        (round_index,) = self.rounds.of("x", step)
        if self.gradient_tracking:
            mixed, tracker = network.mix((x, state["hparam_tracker"]), round_index)
            tracker.add_(average).sub_(state["average"])
            state = {**state, "hparam_tracker": tracker}
        else:
            (mixed,) = network.mix((x,), round_index)
            tracker = average
        return {**state, "hparams": self.clamp(mixed.sub_(tracker, alpha=self.outer_lr)), "average": average}

    def tracked(self, state: State) -> Mapping[str, tuple[Tensor, Tensor]]:
        pairs = {
            "the trackers of y have the mean of its gradients": (state["param_tracker"], state["param_gradient"]),
            "the trackers of z have the mean of its residuals": (state["adjoint_tracker"], state["adjoint_gradient"]),
        }
        if self.gradient_tracking:
            pairs["the trackers of x have the mean of its averages"] = (state["hparam_tracker"], state["average"])
        return pairs


def _tracked(tracker: Tensor, old: Tensor, new: Tensor) -> tuple[Tensor, Tensor]:
    """The ``new`` gradient, and the tracker of the ``old`` one with the difference added."""
    return new, tracker + new - old
