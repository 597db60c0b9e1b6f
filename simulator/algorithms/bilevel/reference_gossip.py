"""Gossip of the penalty method by compressed residuals against references (see compressed/references.py).

Every vector d_i of a node has a reference d^_i, which the node and its neighbours know alike. In undirected_gossip.py
    A_i = sum_j w_ij (d^_j - d^_i),    B_i = sum_j w_ij (v^_j - v^_i);
after an inner step every node sends Q(d_i - d^_i) and Q(v_i - v^_i) of y and of z, which all holders add to the
references. As iterates and trackers settle, the residuals vanish, and with them the error of the compression.
Sends: 4 compressed vectors of D per edge and inner round, in one message.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from simulator.algorithms.base import State
from simulator.algorithms.bilevel.undirected_gossip import UndirectedGossip
from simulator.algorithms.compressed.references import References
from simulator.network.network import Network
from simulator.padding import zeros_as


@dataclass(frozen=True, kw_only=True)
class ReferenceGossip(UndirectedGossip):
    """Compressed residuals; further arguments as in :class:`UndirectedGossip`.

    Args:
        references: of y, z and their trackers.
    """

    references: References

    def init(self, state: State, network: Network) -> State:
        return self.references.init(state["vectors"], network, known=True)

    def disagreement(self, state: State, round_index: int, network: Network) -> Tensor:
        return self.references.disagreement(state)

    def announce_(self, state: State, round_index: int, network: Network) -> None:
        self.references.send_(state, state["vectors"], network, round_index)

    def tracked(self, state: State) -> Mapping[str, tuple[Tensor, Tensor]]:
        disagreement = self.references.disagreement(state)
        return {"the disagreements of the references cancel": (disagreement, zeros_as(disagreement))}
