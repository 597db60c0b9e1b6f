"""Reference points: how nodes gossip while only compressed residuals cross the network.

A node's vectors v_i are known to others through references v^_i. Per round every node sends q_i = Q(v_i - v^_i) and
all who hold v^_i, the node itself included, add the same decoded floats. Mixing uses references only, through the
disagreement: every node adds what comes in, sum_j w_ij v^_j over its neighbours, and takes away what goes out, sum_j
w_ji v^_i; for symmetric weights together sum_j w_ij (v^_j - v^_i). It sums to zero over the nodes: compression moves no
mean. As v settles the residuals vanish, and the error of compression with them.

On a static graph all neighbours hear the same q_i, so one reference per node is enough, and instead of the
neighbours' references a node keeps their weighted sum. On a schedule that changes, a node that is not connected in a
round misses that residual; there each directed link has a reference of its own, known to its two ends, which moves
only in the rounds that have the link.

The compressor must be a contraction on D columns (requirements.py): otherwise references drift away from v. An unbiased
compressor is one when its error is smaller than the vector, that is for mild compression.

Push-sum mixes biased vectors x = w z with column-stochastic weights. Where these do not change, w and with it x settle,
and references are of x. Where they change only z settles: references are of z, and what a link carries is weighted with
the sender's w, which travels in the same message uncompressed.

Sources: Koloskova, Stich and Jaggi, ICML 2019 (arXiv 1902.00340) for references and their weighted sum; Zhao et al.,
NeurIPS 2022 (arXiv 2201.13320) for iterates and trackers side by side; Taheri, Mokhtari, Hassani and Pedarsani, ICML
2020 (arXiv 2002.09964) for push-sum on static graphs. References by link are this project's.

Shapes: N local nodes, M all nodes, R vectors per node of D columns each, S links a node may ever have.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from simulator.algorithms.compressed.requirements import require_contraction
from simulator.algorithms.compressed.vector_coding import VectorCoding
from simulator.arrays import IntArray
from simulator.compressors.base import Compressor
from simulator.compressors.bits import section
from simulator.faults.base import beneath_faults
from simulator.graphs.base import Graph
from simulator.network.network import Network
from simulator.network.row_sums import add_rows
from simulator.padding import zeros_as
from simulator.uploads import upload, upload_like


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

    @property
    def coding(self) -> VectorCoding:
        """How residuals travel."""
        return VectorCoding(self.compressor, self.seed, self.name)

    def init(self, vectors: Tensor, network: Network, *, known: bool = False) -> dict[str, Tensor]:
        """References before the first round; what everybody knows of everybody.

        Args:
            vectors: [N, R, D]; only shape and type count unless ``known``.
            known: ``vectors`` are the same at all nodes, and references start there. Otherwise they start at zero.

        Raises:
            ValueError: when the compressor is no contraction.
        """
        require_contraction(self.compressor, vectors.shape[2], "gossip with residuals against references")
        start = vectors if known else zeros_as(vectors)
        if network.graph.period == 1:
            plan, first = network.plan(0), network.nodes.start
            sums = np.bincount(plan.in_target - first, plan.in_weight, len(vectors))
            mixed = start * upload_like(sums, start)[:, None, None]
            return {f"{self.name}/reference": start.clone(), f"{self.name}/mixed": mixed}
        slots = start[:, None].repeat(1, slots_of(network.graph).count, 1, 1)
        return {
            f"{self.name}/sent": slots,
            f"{self.name}/received": slots.clone(),
            f"{self.name}/disagreement": zeros_as(vectors),
        }

    def disagreement(self, state: dict[str, Tensor]) -> Tensor:
        """What W_t - I makes of the references over the links of the last round, [N, R, D]."""
        if f"{self.name}/mixed" in state:
            return state[f"{self.name}/mixed"] - state[f"{self.name}/reference"]
        return state[f"{self.name}/disagreement"]

    def send_(self, state: dict[str, Tensor], vectors: Tensor, network: Network, round_index: int) -> None:
        """Sends the residuals of ``vectors`` [N, R, D] along the edges of a round; moves the references in place."""
        self._send_(state, vectors, vectors.new_empty(len(vectors), 0), network, round_index)

    def push_(
        self, state: dict[str, Tensor], biased: Tensor, push_sum_weight: Tensor, network: Network, round_index: int
    ) -> Tensor:
        """As :meth:`send_` for the biased vectors [N, R, D] of push-sum; returns P_t w of the weights w [N]."""
        on_static_graph = f"{self.name}/mixed" in state
        vectors = biased if on_static_graph else biased / push_sum_weight[:, None, None]
        return self._send_(state, vectors, push_sum_weight[:, None], network, round_index)[:, 0]

    def _send_(
        self, state: dict[str, Tensor], vectors: Tensor, weight: Tensor, network: Network, round_index: int
    ) -> Tensor:
        """One round, in which push-sum weights [N, 1] travel along, or none [N, 0]; returns them mixed."""
        send_ = self._send_to_all_ if f"{self.name}/mixed" in state else self._send_by_link_
        return send_(state, vectors, weight, network, round_index)

    def _send_to_all_(
        self, state: dict[str, Tensor], vectors: Tensor, weight: Tensor, network: Network, round_index: int
    ) -> Tensor:
        reference, coding = state[f"{self.name}/reference"], self.coding
        nodes = np.arange(network.nodes.start, network.nodes.stop)
        packed, values = coding.encode(vectors - reference, nodes, round_index)
        reference += values

        def decode(rows: Tensor) -> Tensor:
            weights, residuals = _split(rows, weight)
            return torch.cat([weights, coding.decode(residuals, vectors).flatten(1)], dim=1)

        rows = torch.cat([weight, values.flatten(1)], dim=1)
        mixed = network.mix_coded(rows, _join(weight, packed), decode, round_index)
        state[f"{self.name}/mixed"] += mixed[:, weight.shape[1] :].view_as(vectors)
        return mixed[:, : weight.shape[1]]

    def _send_by_link_(
        self, state: dict[str, Tensor], vectors: Tensor, weight: Tensor, network: Network, round_index: int
    ) -> Tensor:
        sent, received = state[f"{self.name}/sent"], state[f"{self.name}/received"]
        plan, slots, first = network.link_plan(round_index), slots_of(network.graph), network.nodes.start
        leaving = (plan.out_source - first, slots.find(plan.out_source, plan.out_target))
        entering = (plan.in_target - first, slots.find(plan.in_target, plan.in_source))
        source, out_slot, target, in_slot = (upload(rows, vectors.device) for rows in (*leaving, *entering))
        codes = plan.out_source * network.num_nodes + plan.out_target
        packed, values = self.coding.encode(vectors[source] - sent[source, out_slot], codes, round_index)
        arrived_weight, arrived = _split(network.deliver(_join(weight[source], packed), round_index), weight)
        sent[source, out_slot] += values
        received[target, in_slot] += self.coding.decode(arrived, vectors)

        # What leaves a node and what enters it, edge by edge: its share of the weight, and that share of a reference.
        out_share, in_share = (upload_like(w, vectors)[:, None] for w in (plan.out_weight, plan.in_weight))
        out_weight, in_weight = out_share * weight[source], in_share * arrived_weight
        if weight.shape[1]:
            out_share, in_share = out_weight, in_weight
        arrived_at, sent_from = entering[0], leaving[0]
        disagreement = state[f"{self.name}/disagreement"].zero_()
        comes = (in_share[:, :, None] * received[target, in_slot]).flatten(1)
        goes = (out_share[:, :, None] * sent[source, out_slot]).flatten(1)
        sums = add_rows(disagreement.flatten(1), (arrived_at, comes), (sent_from, -goes))
        disagreement.copy_(sums.view_as(disagreement))
        return add_rows(weight, (arrived_at, in_weight), (sent_from, -out_weight))


def _join(weight: Tensor, packed: Tensor) -> Tensor:
    """Packets [E, B] behind push-sum weights [E, 1], or none [E, 0], as they are."""
    return torch.cat([weight.contiguous().view(torch.uint8), packed], dim=1) if weight.shape[1] else packed


def _split(packed: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
    """The inverse; as many weights, and of the type, as ``like`` has."""
    if not like.shape[1]:
        return like.new_empty(len(packed), 0), packed
    size = like.element_size()
    return section(packed, 0, size, like.dtype), packed[:, size:].contiguous()


@dataclass(frozen=True)
class Slots:
    """Which links a node may ever have, numbered from 0 at every node.

    Attributes:
        num_nodes: M.
        codes: node * M + other of all links of a schedule that repeats, sorted; None where any link may come.
        count: S, the largest number of links of a node.
    """

    num_nodes: int
    codes: IntArray | None
    count: int

    def find(self, node: IntArray, other: IntArray) -> IntArray:
        """The slot of the link to ``other`` at ``node``, elementwise."""
        if self.codes is None:
            return other - (other > node)
        first = np.searchsorted(self.codes, node * self.num_nodes)
        return np.searchsorted(self.codes, node * self.num_nodes + other) - first


@lru_cache(maxsize=8)
def slots_of(graph: Graph) -> Slots:
    """The links of ``graph`` over its period; all pairs where it never repeats."""
    graph = beneath_faults(graph)  # which only take links away
    if graph.period is None:
        return Slots(graph.num_nodes, None, graph.num_nodes - 1)
    rounds = [graph.edges(step) for step in range(graph.period)]
    source, target = (np.concatenate([getattr(edges, end) for edges in rounds]) for end in ("source", "target"))
    source, target = source[source != target], target[source != target]
    codes = np.unique(np.concatenate([source * graph.num_nodes + target, target * graph.num_nodes + source]))
    degrees = np.bincount(codes // graph.num_nodes, minlength=graph.num_nodes)
    return Slots(graph.num_nodes, codes, int(degrees.max()))
