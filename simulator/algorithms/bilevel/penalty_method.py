"""Fully first-order bilevel optimization by a penalty: what its decentralized forms have in common.

With h_i = f_i + penalty g_i and two copies y, z of the lower-level variable, for the outer variable x:
    y -> argmin mean_i h_i(x, .),    z -> argmin mean_i g_i(x, .),
    u_i = d_x f_i(x_i, y_i) + penalty (d_x g_i(x_i, y_i) - d_x g_i(x_i, z_i))
The mean of u_i is the gradient at x of mean h(x, y) - penalty mean g(x, z), which is O(1 / penalty) away from the
hypergradient. It is linear in means over nodes, so gradient tracking of local copies is exact; no second derivatives.
A step, with trackers s_i of x:
    x_i moves along s_i and towards its neighbours;  K inner steps of y on h_i / penalty and of z on g_i, side by side;
    s_i is mixed and u_i(new) - u_i(old) added.
Both inner solvers keep iterates, gradients G_i and trackers from step to step. As x moves, so does what they minimise:
before its first inner step a solver adds G_i(at the new x) - G_i to its tracker, which needs no message. Before step 0
they run once for K steps (the rounds of phase ``setup``), and s_i = u_i.

Gradients of an outer step: minibatch c (K + 2) of every node for the correction, the next K for the inner steps, one
for u_i, with c = 0 for the setup and c = t + 1 for step t. y and z share the minibatches of g_i, so that their noise
largely cancels in u_i. Rounds of the schedule: 0..K-1 for the setup, then 1 + K for every step, the first for x.

Source: value-function penalties of Kwon et al., ICML 2023 (arXiv 2301.10945), and Chen, Ma and Zhang (F2BA, 2023); see
the modules of the algorithms for their ways of gossiping.

Shapes: N local nodes, D parameters, H hyperparameters.
"""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from simulator.algorithms.base import State, require_positive
from simulator.algorithms.bilevel.shared_bilevel import SharedBilevel
from simulator.network.network import Network
from simulator.problems.base import BilevelProblem, Problem


@dataclass(frozen=True, kw_only=True)
class PenaltyMethod(SharedBilevel):
    """A penalty method; the state holds y, z and their trackers side by side as ``vectors`` [N, 4, D].

    Args:
        penalty: lambda; the solution is O(1 / lambda) away from that of the bilevel problem.
        inner_steps: K, steps of both inner solvers per step.
        inner_lr: their step size, on g_i and on h_i / lambda.
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
    def exchanges(self) -> Mapping[str, range]:
        return {"x": range(self.inner_steps, self.inner_steps + 1), "y": range(self.inner_steps)}

    @abstractmethod
    def move_hparams(self, state: State, round_index: int, network: Network) -> State:
        """The state after a step of x, with its trackers mixed."""

    @abstractmethod
    def inner_step(
        self,
        state: State,
        problem: BilevelProblem,
        penalty: float,
        batch: int | None,
        round_index: int,
        network: Network,
    ) -> State:
        """One step of both inner solvers."""

    def solvers(self, state: State) -> Tensor:
        """Both solvers' iterates y and z, [N, 2, D]."""
        return state["vectors"][:, :2]

    def penalty_at(self, call: int) -> float:
        """The penalty when the inner solvers run for the time number ``call``; 0 is the setup."""
        return self.penalty

    def init(self, problem: Problem, network: Network) -> State:
        hparams, params = problem.init_hparams(), problem.init_params()
        solvers = torch.stack((params, params), dim=1)
        nothing = torch.zeros_like(solvers)
        return {
            "hparams": hparams,
            "hparam_tracker": torch.zeros_like(hparams),
            "surrogate": torch.zeros_like(hparams),
            "vectors": torch.cat((solvers, nothing), dim=1),
            "gradients": nothing,
        }

    def advance(self, state: State, step: int, problem: BilevelProblem, network: Network) -> State:
        if step == 0:
            with network.phase("setup"):
                state = self._solve(state, 0, problem, network)
        with network.phase("outer"):
            state = self.move_hparams(state, self.inner_steps + step * (self.inner_steps + 1), network)
        return self._solve(state, step + 1, problem, network)

    def _solve(self, state: State, call: int, problem: BilevelProblem, network: Network) -> State:
        """Inner steps at the present x, and what they say about x."""
        penalty, batch, first_round = (
            self.penalty_at(call),
            call * (self.inner_steps + 2),
            call * (self.inner_steps + 1),
        )
        hparams = self.hparams(state, problem)
        gradients = inner_gradients(problem, hparams, self.solvers(state), penalty, self.batch(batch))
        state["vectors"][:, 2:].add_(gradients).sub_(state["gradients"])
        state = {**state, "gradients": gradients}
        for k in range(self.inner_steps):
            state = self.inner_step(state, problem, penalty, self.batch(batch + 1 + k), first_round + k, network)
        last = self.batch(batch + 1 + self.inner_steps)
        new = surrogate(problem, hparams, self.solvers(state), penalty, last)
        return {**state, "hparam_tracker": state["hparam_tracker"] + new - state["surrogate"], "surrogate": new}

    def tracked(self, state: State) -> Mapping[str, tuple[Tensor, Tensor]]:
        return {
            "the trackers of x have the mean of the surrogates": (state["hparam_tracker"], state["surrogate"]),
            "the trackers of y have the mean of its gradients": (state["vectors"][:, 2], state["gradients"][:, 0]),
            "the trackers of z have the mean of its gradients": (state["vectors"][:, 3], state["gradients"][:, 1]),
        }

    def estimate(self, state: State) -> Tensor:
        return self.solvers(state)[:, 0].contiguous()


def inner_gradients(
    problem: BilevelProblem, hparams: Tensor, solvers: Tensor, penalty: float, batch: int | None
) -> Tensor:
    """Gradients of h_i / penalty at y and of g_i at z, for ``solvers`` (y, z) [N, 2, D]; same shape."""
    y, z = (part.contiguous() for part in solvers.unbind(dim=1))
    at_y = problem.outer_grad(y, hparams, batch) / penalty
    problem.add_grad_(at_y, y, hparams, batch, 1.0)
    return torch.stack((at_y, problem.grad(z, hparams, batch)), dim=1)


def surrogate(problem: BilevelProblem, hparams: Tensor, solvers: Tensor, penalty: float, batch: int | None) -> Tensor:
    """u_i at ``solvers`` (y, z) [N, 2, D]; [N, H]."""
    y, z = (part.contiguous() for part in solvers.unbind(dim=1))
    difference = problem.inner_grads(y, hparams, batch)[1] - problem.inner_grads(z, hparams, batch)[1]
    return problem.outer_grads(y, hparams, batch)[1].add(difference, alpha=penalty)
