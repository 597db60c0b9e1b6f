"""Gossip of the penalty method with uncompressed messages: A_i and B_i of undirected_gossip.py are exact.

Sends: 4 D numbers per edge and inner round.
"""

from dataclasses import dataclass

from torch import Tensor

from simulator.algorithms.base import State
from simulator.algorithms.bilevel.undirected_gossip import UndirectedGossip
from simulator.network.network import Network


@dataclass(frozen=True, kw_only=True)
class ExactGossip(UndirectedGossip):
    """Uncompressed messages; arguments as in :class:`UndirectedGossip`."""

    def disagreement(self, state: State, round_index: int, network: Network) -> Tensor:
        vectors = state["vectors"]
        (mixed,) = network.mix((vectors.flatten(1),), round_index)
        return mixed.view_as(vectors).sub_(vectors)
