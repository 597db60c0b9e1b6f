"""What the penalty method asks of its gossip: how x, y, z and their trackers move between nodes.

The step is in penalty_method.py, and so is the layout of the state. Strategies: exact_gossip.py, reference_gossip.py,
naive_gossip.py and push_sum_gossip.py.

Shapes: N local nodes, D parameters, H hyperparameters.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor

from simulator.algorithms.base import State
from simulator.algorithms.weights import Weights
from simulator.network.network import Network


class PenaltyGossip(ABC):
    """A way of gossiping for the penalty method.

    Attributes:
        weights: what it needs of W_t.
    """

    weights: ClassVar[Weights]

    def init(self, state: State, network: Network) -> State:
        """The entries of the state that the strategy keeps beside ``state``, before the first round; sends nothing."""
        return {}

    @abstractmethod
    def outer_round(self, state: State, lr: float, round_index: int, network: Network) -> State:
        """Moves x by -lr times its tracker and by gossip, and mixes the tracker."""

    @abstractmethod
    def inner_round(self, state: State, lr: float, round_index: int, network: Network) -> State:
        """Moves y and z by -lr times their trackers and by gossip, and mixes the trackers."""

    def announce_(self, state: State, round_index: int, network: Network) -> None:
        """Called after the trackers of an inner round have got the new gradients; may send the new vectors."""

    def x(self, state: State) -> Tensor:
        """The nodes' x, [N, H]."""
        return state["hparams"]

    def with_x(self, state: State, x: Tensor) -> State:
        """``state`` with ``x`` [N, H] as the nodes' x."""
        return {**state, "hparams": x}

    def solvers(self, state: State) -> Tensor:
        """The nodes' y and z, [N, 2, D]."""
        return state["vectors"][:, :2]

    def tracked(self, state: State) -> Mapping[str, tuple[Tensor, Tensor]]:
        """Invariants of the strategy, as in :meth:`SharedBilevel.tracked`."""
        return {}
