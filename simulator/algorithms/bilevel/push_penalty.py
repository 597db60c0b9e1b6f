"""The penalty method on directed and time-varying graphs, by push-sum gradient tracking.

Update equations (see penalty_method.py for u_i and r_i), with P_t column-stochastic and push-sum weights w of x and p
of the inner solvers, all 1 at the start and each mixed in the rounds of its variables alone; X = w x and Y = p (y, z)
are what is mixed:
    outer:  X <- P_t (X - a_x s),   w <- P_t w,   x_i = X_i / w_i,     s <- P_t s + u_i(new) - u_i
    inner:  Y <- P_t (Y - a v),     p <- P_t p,   (y, z)_i = Y_i / p_i,   v <- P_t v + grad r_i(new) - grad r_i
Needs: column-stochastic P (doubly stochastic is a special case: all weights stay 1); any schedule; a bilevel problem.
Sends: 2 H + 1 numbers per edge and step and 4 D + 1 numbers per edge and inner step; K inner steps more before step 0.
Source: gradient tracking by push-sum is Push-DIGing, Nedic, Olshevsky and Shi, SIAM Journal on Optimization 2017
(arXiv 1607.03218); its use in all three levels of a penalty method is this project's.
Departures: none.

Shapes: N local nodes, D parameters, H hyperparameters.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from simulator.algorithms.base import State, require_stochasticity
from simulator.algorithms.bilevel.penalty_method import PenaltyMethod, inner_gradients
from simulator.algorithms.weights import Weights
from simulator.graphs.base import Graph
from simulator.network.network import Network
from simulator.problems.base import BilevelProblem, Problem


@dataclass(frozen=True, kw_only=True)
class PushPenalty(PenaltyMethod):
    """The penalty method by push-sum; arguments as in :class:`PenaltyMethod`."""

    weights: ClassVar[Weights] = Weights.COLUMN_STOCHASTIC

    def check_graph(self, graph: Graph) -> None:
        require_stochasticity(self.name, graph, ("column", "double"), "use a graph with out-degree weights")
        self.check_rounds(graph)

    def init(self, problem: Problem, network: Network) -> State:
        state = super().init(problem, network)
        ones = state["hparams"].new_ones(len(state["hparams"]))
        return {**state, "hparams_weight": ones, "solvers_weight": ones.clone()}

    def solvers(self, state: State) -> Tensor:
        return state["vectors"][:, :2] / state["solvers_weight"][:, None, None]

    def hparams(self, state: State, problem: Problem) -> Tensor:
        return state["hparams"] / state["hparams_weight"][:, None]

    def move_hparams(self, state: State, round_index: int, network: Network) -> State:
        moved = state["hparams"].sub(state["hparam_tracker"], alpha=self.outer_lr)
        hparams, weight, tracker = network.mix((moved, state["hparams_weight"], state["hparam_tracker"]), round_index)
        if self.hparam_range is not None:
            hparams = self.clamp(hparams / weight[:, None]) * weight[:, None]
        return {**state, "hparams": hparams, "hparams_weight": weight, "hparam_tracker": tracker}

    def inner_step(
        self,
        state: State,
        problem: BilevelProblem,
        penalty: float,
        batch: int | None,
        round_index: int,
        network: Network,
    ) -> State:
        vectors = state["vectors"]
        vectors[:, :2].sub_(vectors[:, 2:], alpha=self.inner_lr)
        mixed, weight = network.mix((vectors.flatten(1), state["solvers_weight"]), round_index)
        state = {**state, "vectors": mixed.view_as(vectors), "solvers_weight": weight}
        gradients = inner_gradients(problem, self.hparams(state, problem), self.solvers(state), penalty, batch)
        state["vectors"][:, 2:].add_(gradients).sub_(state["gradients"])
        return {**state, "gradients": gradients}

    def tracked(self, state: State) -> Mapping[str, tuple[Tensor, Tensor]]:
        weights = {key: state[f"{key}_weight"] for key in ("hparams", "solvers")}
        return {
            **super().tracked(state),
            **{f"the push-sum weights of {key} have mean 1": (w, w.new_ones(len(w))) for key, w in weights.items()},
        }
