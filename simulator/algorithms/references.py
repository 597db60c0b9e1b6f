"""Reference points: how nodes gossip while only compressed residuals cross the network.

A node's vectors v_i are known to others through references v^_i. Per round every node sends q_i = Q(v_i - v^_i) and
all who hold v^_i, the node itself included, add the same decoded floats. Mixing uses references only, through the
disagreement sum_j w_ij (v^_j - v^_i), which sums to zero over the nodes: compression moves no mean. As v settles the
residuals vanish, and the error of compression with them.

On a static graph all neighbours hear the same q_i, so one reference per node is enough, and instead of the
neighbours' references a node keeps their weighted sum. On a schedule that changes, a node that is not connected in a
round misses that residual; there each directed link has a reference of its own, known to its two ends, which moves
only in the rounds that have the link. Weights must then be symmetric for the disagreement to sum to zero.

Sources: Koloskova, Stich and Jaggi, ICML 2019 (arXiv 1902.00340) for references and their weighted sum; Zhao et al.,
NeurIPS 2022 (arXiv 2201.13320) for iterates and trackers side by side. References by link are this project's.

Shapes: N local nodes, M all nodes, R vectors per node of D columns each, S links a node may ever have.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from simulator.compressors.base import Compressor
from simulator.graphs.base import Graph
from simulator.network import Network
from simulator.randomness import random_bits


@dataclass(frozen=True)
class References:
    """The references of R vectors per node; each vector is compressed by itself, all travel in one message.

    Args:
        compressor: Q.
        seed: of the draws of random compressors.
        name: prefix of the entries in the state, and the stream of the draws.
    """

    compressor: Compressor
    seed: int
    name: str

    def init(self, vectors: Tensor, network: Network) -> dict[str, Tensor]:
        """All references start at zero, which everybody knows.

        Args:
            vectors: [N, R, D]; only shape and type count.
        """
        if network.graph.period == 1:
            return {
                f"{self.name}/reference": torch.zeros_like(vectors),
                f"{self.name}/mixed": torch.zeros_like(vectors),
            }
        slots = vectors.new_zeros(len(vectors), slots_of(network.graph).count, *vectors.shape[1:])
        return {
            f"{self.name}/sent": slots,
            f"{self.name}/received": slots.clone(),
            f"{self.name}/disagreement": torch.zeros_like(vectors),
        }

    def disagreement(self, state: dict[str, Tensor]) -> Tensor:
        """sum_j w_ij (v^_j - v^_i) over the links of the last round, [N, R, D]."""
        if f"{self.name}/mixed" in state:
            return state[f"{self.name}/mixed"] - state[f"{self.name}/reference"]
        return state[f"{self.name}/disagreement"]

    def send_(self, state: dict[str, Tensor], vectors: Tensor, network: Network, round_index: int) -> None:
        """Sends the residuals of ``vectors`` [N, R, D] along the edges of a round; moves the references in place."""
        if f"{self.name}/mixed" in state:
            self._send_to_all_(state, vectors, network, round_index)
        else:
            self._send_by_link_(state, vectors, network, round_index)

    def _send_to_all_(self, state: dict[str, Tensor], vectors: Tensor, network: Network, round_index: int) -> None:
        reference = state[f"{self.name}/reference"]
        packed, values = self._encode(
            vectors - reference, np.arange(network.nodes.start, network.nodes.stop), round_index
        )
        reference += values
        mixed = network.mix_coded(
            values.flatten(1), packed, lambda rows: self._decode(rows, vectors).flatten(1), round_index
        )
        state[f"{self.name}/mixed"] += mixed.view_as(vectors)

    def _send_by_link_(self, state: dict[str, Tensor], vectors: Tensor, network: Network, round_index: int) -> None:
        sent, received = state[f"{self.name}/sent"], state[f"{self.name}/received"]
        plan, slots, first = network.link_plan(round_index), slots_of(network.graph), network.nodes.start
        source, out_slot = plan.out_source - first, slots.find(plan.out_source, plan.out_target)
        target, in_slot = plan.in_target - first, slots.find(plan.in_target, plan.in_source)
        codes = plan.out_source * network.num_nodes + plan.out_target
        packed, values = self._encode(vectors[source] - sent[source, out_slot], codes, round_index)
        arrived = self._decode(network.deliver(packed, round_index), vectors)
        sent[source, out_slot] += values
        received[target, in_slot] += arrived
        weight = torch.from_numpy(plan.in_weight).to(vectors)[:, None, None]
        differences = weight * (received[target, in_slot] - sent[target, in_slot])
        at = torch.from_numpy(target).to(vectors.device)
        state[f"{self.name}/disagreement"].zero_().index_add_(0, at, differences)

    def _encode(self, residuals: Tensor, messages: npt.NDArray[np.int64], round_index: int) -> tuple[Tensor, Tensor]:
        """The packets [E, R * B] of E messages and their values [E, R, D]."""
        keys = random_bits(self.seed, self.name, messages, round_index, residuals.shape[1])
        coded = self.compressor.encode(residuals.flatten(0, 1), keys.reshape(-1))
        return coded.packed.view(len(residuals), -1), coded.values.view_as(residuals)

    def _decode(self, packed: Tensor, like: Tensor) -> Tensor:
        """What packets [E, R * B] say, [E, R, D]."""
        num_vectors, num_columns = like.shape[1:]
        rows = packed.view(len(packed) * num_vectors, packed.shape[1] // num_vectors)
        return self.compressor.decode(rows, num_columns, like.dtype).view(len(packed), num_vectors, num_columns)


@dataclass(frozen=True)
class Slots:
    """Which links a node may ever have, numbered from 0 at every node.

    Attributes:
        num_nodes: M.
        codes: node * M + other of all links of a schedule that repeats, sorted; None where any link may come.
        count: S, the largest number of links of a node.
    """

    num_nodes: int
    codes: npt.NDArray[np.int64] | None
    count: int

    def find(self, node: npt.NDArray[np.int64], other: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The slot of the link to ``other`` at ``node``, elementwise."""
        if self.codes is None:
            return other - (other > node)
        first = np.searchsorted(self.codes, node * self.num_nodes)
        return np.searchsorted(self.codes, node * self.num_nodes + other) - first


@lru_cache(maxsize=8)
def slots_of(graph: Graph) -> Slots:
    """The links of ``graph`` over its period; all pairs where it never repeats."""
    if graph.period is None:
        return Slots(graph.num_nodes, None, graph.num_nodes - 1)
    rounds = [graph.edges(step) for step in range(graph.period)]
    pairs = [(e.source != e.target, e.source, e.target) for e in rounds]
    codes = np.unique(np.concatenate([s[r] * graph.num_nodes + t[r] for r, s, t in pairs]))
    degrees = np.bincount(codes // graph.num_nodes, minlength=graph.num_nodes)
    return Slots(graph.num_nodes, codes, int(degrees.max()))
