"""MDBO: momentum and gradient tracking on both levels; each node's hypergradient uses its own Hessian.

Update equations, with step e, momenta a_x and a_y, rates b_x and b_y, and L at least the largest curvature of any g_i:
    F_i = d_x f_i - (d2 g_i/dx dy) H_i d_y f_i,    H_i = 1/L sum_{j=0}^{J} (I - (d2 g_i/dy2) / L)^j,    G_i = d_y g_i
    u <- (1 - a_x e) u + a_x e F,    v <- (1 - a_y e) v + a_y e G    (u = F and v = G at the start)
    s <- W s + u - u(old),           t <- W t + v - v(old)           (s = u and t = v at the start)
    x <- x + e (W x - b_x s - x),    y <- y + e (W y - b_y t - y)
Since H_i is made of the node's own Hessian, x ends where the mean of these hypergradients is 0, which is not a
stationary point unless the second derivatives of all nodes agree.
Needs: symmetric, doubly stochastic W; any schedule; a bilevel problem with second derivatives.
Sends: 2 H + 2 D numbers per edge and step, in one message.
State: ``hparams`` [N, H] for x, ``params`` [N, D] for y, ``hparam_momentum`` [N, H] for u, ``param_momentum`` [N, D]
for v, ``hparam_tracker`` [N, H] for s, ``param_tracker`` [N, D] for t.
Source: Gao, Gu and Thai, AISTATS 2023 (arXiv 2206.15025).
Departures: the sum over j in place of one term of it drawn at random, whose expectation it is.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from simulator.algorithms.base import State
from simulator.algorithms.bilevel.shared_bilevel import SharedBilevel
from simulator.checks import require_positive
from simulator.network.network import Network
from simulator.padding import copy_as
from simulator.problems.base import BilevelProblem, Problem


@dataclass(frozen=True, kw_only=True)
class MDBO(SharedBilevel):
    """MDBO.

    Args:
        step_size: e, in (0, 1].
        outer_lr, inner_lr: b_x and b_y.
        outer_momentum, inner_momentum: a_x and a_y; times e in (0, 1].
        neumann_terms: J + 1.
        curvature: L.
    """

    step_size: float
    outer_lr: float
    inner_lr: float
    outer_momentum: float
    inner_momentum: float
    neumann_terms: int
    curvature: float

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("step_size", "outer_lr", "inner_lr", "neumann_terms", "curvature"):
            require_positive(f"algorithm.{name}", getattr(self, name))
        if self.step_size > 1:
            raise ValueError(f"algorithm.step_size={self.step_size}: expected a number in (0, 1]")
        for name in ("outer_momentum", "inner_momentum"):
            if not 0 < getattr(self, name) * self.step_size <= 1:
                raise ValueError(f"algorithm.{name}={getattr(self, name)}: times step_size it must be in (0, 1]")

    def init(self, problem: Problem, network: Network) -> State:
        assert isinstance(problem, BilevelProblem)
        hparams, params = problem.init_hparams(), problem.init_params()
        outer, inner = self._directions(problem, params, hparams, 0)
        return {
            "hparams": hparams,
            "params": params,
            "hparam_momentum": outer,
            "param_momentum": inner,
            "hparam_tracker": copy_as(outer),
            "param_tracker": copy_as(inner),
        }

    def _directions(
        self, problem: BilevelProblem, params: Tensor, hparams: Tensor, index: int
    ) -> tuple[Tensor, Tensor]:
        """F and G at the minibatch ``index``."""
        batch = self.batch(index)
        outer_y, outer_x = problem.outer_grads(params, hparams, batch)
        term = outer_y / self.curvature
        total = copy_as(term)
        for _ in range(self.neumann_terms - 1):
            term = term.sub(problem.hvp(params, hparams, term, batch), alpha=1 / self.curvature)
            total += term
        return outer_x - problem.cross_jvp(params, hparams, total, batch), problem.grad(params, hparams, batch)

    def advance(self, state: State, step: int, problem: BilevelProblem, network: Network) -> State:
        keys = ("hparams", "params", "hparam_tracker", "param_tracker")
        x, y, s, t = (state[key] for key in keys)
        mixed_x, mixed_y, mixed_s, mixed_t = network.mix((x, y, s, t), step)
        e = self.step_size
        x = self.clamp(x.lerp(mixed_x, e).sub_(s, alpha=e * self.outer_lr))
        y = y.lerp(mixed_y, e).sub_(t, alpha=e * self.inner_lr)
        outer, inner = self._directions(problem, y, x, step + 1)
        u = state["hparam_momentum"].lerp(outer, self.outer_momentum * e)
        v = state["param_momentum"].lerp(inner, self.inner_momentum * e)
        return {
            "hparams": x,
            "params": y,
            "hparam_momentum": u,
            "param_momentum": v,
            "hparam_tracker": mixed_s.add_(u).sub_(state["hparam_momentum"]),
            "param_tracker": mixed_t.add_(v).sub_(state["param_momentum"]),
        }

    def tracked(self, state: State) -> Mapping[str, tuple[Tensor, Tensor]]:
        return {
            "the trackers of x have the mean of its momenta": (state["hparam_tracker"], state["hparam_momentum"]),
            "the trackers of y have the mean of its momenta": (state["param_tracker"], state["param_momentum"]),
        }
