"""The decentralized penalty method of c2dfb, c2dfb_naive, f2sa and push_penalty: bilevel with first derivatives only.

With h_i = f_i + penalty g_i and two copies y, z of the lower-level variable, for the outer variable x:
    y -> argmin mean_i h_i(x, .),    z -> argmin mean_i g_i(x, .),
    u_i = d_x f_i(x_i, y_i) + penalty (d_x g_i(x_i, y_i) - d_x g_i(x_i, z_i))
The mean of the surrogates u_i is the gradient at x of mean h(x, y) - penalty mean g(x, z), which is O(1 / penalty) away
from the hypergradient. It is linear in means over nodes, so gradient tracking of local copies is exact. No second
derivatives are needed.

Update equations of a step, with trackers s_i of u_i, and G_i the gradients of h_i / penalty at y_i and of g_i at z_i,
tracked by v_i; "gossip" stands for one round of the algorithm's :class:`PenaltyGossip`:
    1. x-step:       x_i moves by -outer_lr s_i and by gossip,    s_i by gossip
    2. correction:   v_i <- v_i + G_i(at the new x) - G_i
    3. K times:      (y, z)_i moves by -inner_lr v_i and by gossip,    v_i by gossip and + G_i(new) - G_i
    4. surrogate:    s_i <- s_i + u_i(new) - u_i
y, z, G_i and v_i are kept from step to step. The correction makes v_i track the gradients at the new x; it needs no
message. Before step 0, the setup does 2 to 4 from G_i = v_i = u_i = s_i = 0: K rounds, counted in the phase ``setup``.

Minibatches: pass c of 2 to 4 takes the numbers c (K + 2), ..., c (K + 2) + K + 1: one for the correction, K for the
inner steps, one for u_i; c = 0 is the setup and c = t + 1 belongs to step t. y and z share the minibatches of g_i, so
that their noise largely cancels in u_i.
Rounds of the schedule: K for the setup; then, for every step, one for x and K for y and z.

Source: value-function penalties of Kwon et al., ICML 2023 (arXiv 2301.10945), and Chen, Ma and Zhang (F2BA, 2023). The
modules of the algorithms give the source of their gossip.

Shapes: N local nodes, D parameters, H hyperparameters.
"""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from simulator.algorithms.base import State
from simulator.algorithms.bilevel.penalty_gossip import PenaltyGossip
from simulator.algorithms.bilevel.shared_bilevel import SharedBilevel
from simulator.algorithms.bilevel.step_rounds import StepRounds
from simulator.algorithms.push_sum import with_in_flight
from simulator.checks import require_positive
from simulator.network.network import Network
from simulator.padding import zeros_as
from simulator.problems.base import BilevelProblem, Problem


@dataclass(frozen=True, kw_only=True)
class PenaltyMethod(SharedBilevel):
    """The penalty method; a subclass adds the settings of its gossip and makes :attr:`gossip` of them.

    State: ``hparams`` [N, H], ``hparam_tracker`` [N, H] for s_i, ``surrogate`` [N, H] for u_i, ``vectors`` [N, 4, D]
    for y, z and their trackers v_i, ``gradients`` [N, 2, D] for G_i; and the entries of the gossip.

    Args:
        penalty: lambda; the solution is O(1 / lambda) away from that of the bilevel problem.
        inner_steps: K, steps of both inner solvers per step.
        inner_lr: step size of y and z, on h_i / lambda and g_i.
        outer_lr: step size of x.
    """

    penalty: float
    inner_steps: int
    inner_lr: float
    outer_lr: float

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("penalty", "inner_steps", "inner_lr", "outer_lr"):
            require_positive(f"algorithm.{name}", getattr(self, name))

    @property
    @abstractmethod
    def gossip(self) -> PenaltyGossip:
        """How x, y, z and their trackers move between nodes."""

    @property
    def rounds(self) -> StepRounds:
        return StepRounds({"x": 1, "y": self.inner_steps}, setup=self.inner_steps)

    def penalty_at(self, call: int) -> float:
        """The penalty in pass ``call`` of the inner solvers; 0 is the setup, t + 1 belongs to step t."""
        return self.penalty

    def init(self, problem: Problem, network: Network) -> State:
        hparams, params = problem.init_hparams(), problem.init_params()
        solvers = torch.stack((params, params), dim=1)
        zeros = zeros_as(solvers)
        state = {
            "hparams": hparams,
            "hparam_tracker": torch.zeros_like(hparams),
            "surrogate": torch.zeros_like(hparams),
            "vectors": torch.cat((solvers, zeros), dim=1),
            "gradients": zeros,
        }
        return {**state, **self.gossip.init(state, network)}

    def advance(self, state: State, step: int, problem: BilevelProblem, network: Network) -> State:
        if step == 0:
            with network.phase("setup"):
                state = self._solve(state, 0, range(self.rounds.setup), problem, network)
        with network.phase("outer"):
            (round_index,) = self.rounds.of("x", step)
            state = self.gossip.outer_round(state, self.outer_lr, round_index, network)
        if self.hparam_range is not None:
            state = self.gossip.with_x(state, self.clamp(self.gossip.x(state)))
        return self._solve(state, step + 1, self.rounds.of("y", step), problem, network)

    def _solve(self, state: State, call: int, rounds: range, problem: BilevelProblem, network: Network) -> State:
        """Pass ``call`` of the inner solvers at the present x (2 and 3 above), then the new surrogate (4)."""
        gossip, penalty, length = self.gossip, self.penalty_at(call), self.inner_steps + 2
        at_start, *batches, at_end = (self.batch(call * length + k) for k in range(length))
        x = gossip.x(state)
        state = track(state, inner_gradients(problem, gossip.solvers(state), x, penalty, at_start))
        for round_index, batch in zip(rounds, batches, strict=True):
            state = gossip.inner_round(state, self.inner_lr, round_index, network)
            state = track(state, inner_gradients(problem, gossip.solvers(state), x, penalty, batch))
            gossip.announce_(state, round_index, network)
        new = surrogate(problem, gossip.solvers(state), x, penalty, at_end)
        return {**state, "hparam_tracker": state["hparam_tracker"] + new - state["surrogate"], "surrogate": new}

    def tracked(self, state: State) -> Mapping[str, tuple[Tensor, Tensor]]:
        x_tracker, vectors = with_in_flight(state, "hparam_tracker"), with_in_flight(state, "vectors")
        return {
            "the trackers of x have the mean of the surrogates": (x_tracker, state["surrogate"]),
            "the trackers of y have the mean of its gradients": (vectors[:, 2], state["gradients"][:, 0]),
            "the trackers of z have the mean of its gradients": (vectors[:, 3], state["gradients"][:, 1]),
            **self.gossip.tracked(state),
        }

    def estimate(self, state: State) -> Tensor:
        return self.gossip.solvers(state)[:, 0].contiguous()

    def hparams(self, state: State, problem: Problem) -> Tensor:
        return self.gossip.x(state)


def track(state: State, gradients: Tensor) -> State:
    """The state with new ``gradients`` [N, 2, D] of y and z, whose change has been added to their trackers."""
    state["vectors"][:, 2:].add_(gradients).sub_(state["gradients"])
    return {**state, "gradients": gradients}


def inner_gradients(
    problem: BilevelProblem, solvers: Tensor, hparams: Tensor, penalty: float, batch: int | None
) -> Tensor:
    """G_i: gradients of h_i / penalty at y and of g_i at z, for ``solvers`` (y, z) [N, 2, D]; same shape."""
    y, z = (part.contiguous() for part in solvers.unbind(dim=1))
    at_y = problem.outer_grad(y, hparams, batch) / penalty
    problem.add_grad_(at_y, y, hparams, batch, 1.0)
    return torch.stack((at_y, problem.grad(z, hparams, batch)), dim=1)


def surrogate(problem: BilevelProblem, solvers: Tensor, hparams: Tensor, penalty: float, batch: int | None) -> Tensor:
    """u_i at ``solvers`` (y, z) [N, 2, D] and ``hparams`` [N, H]; [N, H]."""
    y, z = (part.contiguous() for part in solvers.unbind(dim=1))
    difference = problem.inner_grads(y, hparams, batch)[1] - problem.inner_grads(z, hparams, batch)[1]
    return problem.outer_grads(y, hparams, batch)[1].add(difference, alpha=penalty)
