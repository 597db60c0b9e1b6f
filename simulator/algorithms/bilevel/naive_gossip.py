"""Gossip of the penalty method that compresses iterates and trackers themselves, instead of residuals.

For every vector d_i of a node (y, z and their trackers), with e_i = 0 at the start, in undirected_gossip.py
    m_i = Q(d_i + e_i),    e_i <- d_i + e_i - m_i (without error feedback e_i = 0),    A_i = sum_j w_ij (m_j - m_i).
Means over nodes are kept, but Q(d) does not become exact as d settles.
Sends: 4 compressed vectors of D per edge and inner round, in one message.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from simulator.algorithms.base import State
from simulator.algorithms.bilevel.undirected_gossip import UndirectedGossip
from simulator.algorithms.compressed.requirements import require_contraction
from simulator.algorithms.compressed.vector_coding import VectorCoding
from simulator.network.network import Network
from simulator.padding import zeros_as


@dataclass(frozen=True, kw_only=True)
class NaiveGossip(UndirectedGossip):
    """Compressed vectors; further arguments as in :class:`UndirectedGossip`.

    Args:
        coding: how vectors become messages.
        error_feedback: add to each message what compression cut off the messages before, e_i.
    """

    coding: VectorCoding
    error_feedback: bool

    def init(self, state: State, network: Network) -> State:
        if not self.error_feedback:
            return {}
        require_contraction(self.coding.compressor, state["vectors"].shape[2], "error feedback")
        return {"cut_off": zeros_as(state["vectors"])}

    def disagreement(self, state: State, round_index: int, network: Network) -> Tensor:
        vectors = state["vectors"]
        if self.error_feedback:
            vectors = vectors + state["cut_off"]
        values, mixed = self.coding.mix(vectors, network, round_index)
        if self.error_feedback:
            torch.sub(vectors, values, out=state["cut_off"])
        return mixed.sub_(values)
