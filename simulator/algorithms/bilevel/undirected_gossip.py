"""What the gossip strategies of the penalty method with symmetric weights share: consensus steps.

Update equations, with consensus step sizes c_x and c, for x with its tracker s, and for d (y or z) with its tracker v:
    x_i <- x_i + c_x sum_j w_ij (x_j - x_i) - outer_lr s_i,    s_i <- s_i + c_x sum_j w_ij (s_j - s_i)
    d_i <- d_i + c A_i - inner_lr v_i,                         v_i <- v_i + c B_i
A_i and B_i stand for sum_j w_ij (d_j - d_i) and sum_j w_ij (v_j - v_i), exactly or as far as neighbours know d and v.
Sends: 2 H numbers per edge for x and its tracker, in one message; for the inner rounds see the strategies.

Shapes: N local nodes, D parameters, H hyperparameters.
"""

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from simulator.algorithms.base import State
from simulator.algorithms.bilevel.penalty_gossip import PenaltyGossip
from simulator.algorithms.weights import Weights
from simulator.network.network import Network


@dataclass(frozen=True, kw_only=True)
class UndirectedGossip(PenaltyGossip):
    """Consensus steps.

    Args:
        outer_consensus_lr: c_x, in (0, 1].
        inner_consensus_lr: c, in (0, 1].
    """

    weights: ClassVar[Weights] = Weights.SYMMETRIC

    outer_consensus_lr: float
    inner_consensus_lr: float

    @abstractmethod
    def disagreement(self, state: State, round_index: int, network: Network) -> Tensor:
        """A_i and B_i of both solvers, [N, 4, D]; may send, and may change entries of ``state`` in place."""

    def outer_round(self, state: State, lr: float, round_index: int, network: Network) -> State:
        x, tracker = state["hparams"], state["hparam_tracker"]
        mixed_x, mixed_tracker = network.mix((x, tracker), round_index)
        return {
            **state,
            "hparams": x.lerp(mixed_x, self.outer_consensus_lr).sub_(tracker, alpha=lr),
            "hparam_tracker": tracker.lerp(mixed_tracker, self.outer_consensus_lr),
        }

    def inner_round(self, state: State, lr: float, round_index: int, network: Network) -> State:
        vectors, disagreement = state["vectors"], self.disagreement(state, round_index, network)
        vectors[:, :2].sub_(vectors[:, 2:], alpha=lr)
        vectors.add_(disagreement, alpha=self.inner_consensus_lr)
        return state
