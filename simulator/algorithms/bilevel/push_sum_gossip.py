"""Gossip of the penalty method by push-sum, for directed graphs.

Update equations, with P_t column-stochastic and push-sum weights w of x and p of the inner solvers, all 1 at the start
and each mixed in the rounds of its variables alone. X = w x and Y = p (y, z) are what is mixed:
    outer:  X <- P_t (X - outer_lr s),   w <- P_t w,   x_i = X_i / w_i,        s <- P_t s
    inner:  Y <- P_t (Y - inner_lr v),   p <- P_t p,   (y, z)_i = Y_i / p_i,   v <- P_t v
Sends: 2 H + 1 numbers per edge and outer round, 4 D + 1 numbers per edge and inner round.

Shapes: N local nodes, D parameters, H hyperparameters.
"""

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor

from simulator.algorithms.base import State
from simulator.algorithms.bilevel.penalty_gossip import PenaltyGossip
from simulator.algorithms.push_sum import push, with_in_flight, with_mailboxes
from simulator.algorithms.weights import Weights
from simulator.network.network import Network

_OUTER = ("hparams", "hparams_weight", "hparam_tracker")
_INNER = ("vectors", "solvers_weight")


class PushSumGossip(PenaltyGossip):
    """Push-sum; the state holds X as ``hparams`` and Y in ``vectors``."""

    weights: ClassVar[Weights] = Weights.COLUMN_STOCHASTIC

    def init(self, state: State, network: Network) -> State:
        ones = state["hparams"].new_ones(len(state["hparams"]))
        state = {**state, "hparams_weight": ones, "solvers_weight": ones.clone()}
        return with_mailboxes(state, (*_OUTER, *_INNER), network)

    def outer_round(self, state: State, lr: float, round_index: int, network: Network) -> State:
        moved = state["hparams"].sub(state["hparam_tracker"], alpha=lr)
        return push({**state, "hparams": moved}, _OUTER, network, round_index)

    def inner_round(self, state: State, lr: float, round_index: int, network: Network) -> State:
        vectors = state["vectors"]
        vectors[:, :2].sub_(vectors[:, 2:], alpha=lr)
        return push(state, _INNER, network, round_index)

    def x(self, state: State) -> Tensor:
        return state["hparams"] / state["hparams_weight"][:, None]

    def with_x(self, state: State, x: Tensor) -> State:
        return {**state, "hparams": x * state["hparams_weight"][:, None]}

    def solvers(self, state: State) -> Tensor:
        return state["vectors"][:, :2] / state["solvers_weight"][:, None, None]

    def tracked(self, state: State) -> Mapping[str, tuple[Tensor, Tensor]]:
        weights = {key: with_in_flight(state, f"{key}_weight") for key in ("hparams", "solvers")}
        return {f"the push-sum weights of {key} have mean 1": (w, w.new_ones(len(w))) for key, w in weights.items()}
