"""The byte ledger: what every edge of the simulated graph carried, independent of placement.

Bytes are the sizes of packed payloads, counted once for every directed edge between two different nodes, whether or
not the edge crosses a process. All processes derive the same graph, so all hold the same ledger without communication;
only ``wire_bytes`` and ``evaluation_bytes``, which this process handed to torch.distributed, differ by process.
"""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from simulator.graphs.base import Edges
from simulator.graphs.dense_edges import DenseEdges
from simulator.pausing import Pausable

_MAX_OPEN_ENTRIES = 2_000_000
_MAX_OPEN_MASKS = 4


@dataclass(frozen=True, eq=False)
class Links:
    """The directed edges of one round without self-loops.

    Attributes:
        out_degrees, in_degrees: edges that leave and enter each node, int64, shape [M].
        max_degree: the largest of both.
        size: the number of edges, E.
        joined: the edges as a mask [M, M] of (target, source), which may have self-loops; None for a list.
    """

    out_degrees: npt.NDArray[np.int64]
    in_degrees: npt.NDArray[np.int64]
    max_degree: int
    size: int
    joined: npt.NDArray[np.bool_] | None
    _codes: npt.NDArray[np.int64] | None

    @classmethod
    def build(cls, source: npt.NDArray[np.int64], target: npt.NDArray[np.int64], num_nodes: int) -> "Links":
        """The edges of an edge list without its self-loops."""
        real = source != target
        source, target = source[real], target[real]
        out_degrees = np.bincount(source, minlength=num_nodes)
        in_degrees = np.bincount(target, minlength=num_nodes)
        largest = int(max(out_degrees.max(), in_degrees.max()))
        return cls(out_degrees, in_degrees, largest, source.size, None, source * num_nodes + target)

    @classmethod
    def of(cls, edges: Edges, num_nodes: int) -> "Links":
        """The edges of a round without its self-loops."""
        if not isinstance(edges, DenseEdges):
            return cls.build(edges.source, edges.target, num_nodes)
        loops = np.diagonal(edges.joined)
        out_degrees, in_degrees = edges.out_degrees - loops, edges.in_degrees - loops
        largest = int(max(out_degrees.max(), in_degrees.max()))
        return cls(out_degrees, in_degrees, largest, int(out_degrees.sum()), edges.joined, None)

    @cached_property
    def codes(self) -> npt.NDArray[np.int64]:
        """Every edge as source * num_nodes + target, sorted by (target, source) if the edge list was, int64, [E]."""
        if self._codes is not None:
            return self._codes
        assert self.joined is not None
        target, source = np.divmod(np.flatnonzero(self.joined), len(self.joined))
        real = source != target
        codes: npt.NDArray[np.int64] = source[real] * len(self.joined) + target[real]
        return codes


@dataclass(frozen=True)
class LinkModel:
    """Simulated links: every node sends and receives at ``bandwidth_bytes_per_s`` in full duplex, one message after
    the other, and a round lasts until the busiest node is done, plus ``latency_s``.
    """

    latency_s: float = 0.0
    bandwidth_bytes_per_s: float = 1.25e8

    def round_s(self, max_degree: int, payload_bytes: int) -> float:
        """Duration of a round in seconds; a round without messages takes none."""
        if max_degree == 0:
            return 0.0
        return self.latency_s + max_degree * payload_bytes / self.bandwidth_bytes_per_s


@dataclass
class Traffic:
    """Bytes and messages of one phase of a run, cumulative over all edges."""

    bytes: int = 0
    messages: int = 0


@dataclass
class Ledger(Pausable):
    """Cumulative counts of a run; shapes: M all nodes.

    Attributes:
        phases: traffic by phase (``inner``, ``hypergradient``, ...).
        node_sent, node_received: bytes by node, int64, shape [M].
        link_time_s: how long all rounds would have lasted under ``link_model``.
        wire_bytes: bytes that this process handed to torch.distributed for algorithms.
        evaluation_bytes: bytes that this process handed to torch.distributed for metrics.
    """

    num_nodes: int
    link_model: LinkModel = LinkModel()
    link_time_s: float = 0.0
    phases: dict[str, Traffic] = field(default_factory=dict)
    wire_bytes: int = 0
    evaluation_bytes: int = 0

    def __post_init__(self) -> None:
        self.node_sent = np.zeros(self.num_nodes, dtype=np.int64)
        self.node_received = np.zeros(self.num_nodes, dtype=np.int64)
        self._codes = np.zeros(0, dtype=np.int64)
        self._bytes = np.zeros(0, dtype=np.int64)
        self._messages = np.zeros(0, dtype=np.int64)
        self._open: dict[int, tuple[Links, int, int]] = {}
        self._open_entries = 0
        # How often every pair (target, source) was an edge of a round that is a mask, by payload: [M, M].
        self._open_masks: dict[int, npt.NDArray[np.int32]] = {}

    @property
    def bytes(self) -> int:
        """All bytes so far."""
        return sum(traffic.bytes for traffic in self.phases.values())

    @property
    def messages(self) -> int:
        """All messages so far: one per edge and round."""
        return sum(traffic.messages for traffic in self.phases.values())

    def record(self, phase: str, links: Links, payload_bytes: int) -> None:
        """Counts one round in which every edge of ``links`` carried ``payload_bytes``."""
        if self.is_paused:
            return
        traffic = self.phases.setdefault(phase, Traffic())
        traffic.bytes += payload_bytes * links.size
        traffic.messages += links.size
        self.link_time_s += self.link_model.round_s(links.max_degree, payload_bytes)
        self.node_sent += payload_bytes * links.out_degrees
        self.node_received += payload_bytes * links.in_degrees
        if links.joined is not None:
            if payload_bytes not in self._open_masks:
                if len(self._open_masks) == _MAX_OPEN_MASKS:
                    self._fold()
                self._open_masks[payload_bytes] = np.zeros(links.joined.shape, dtype=np.int32)
            self._open_masks[payload_bytes] += links.joined
            return
        key = id(links)
        if key not in self._open:
            self._open_entries += links.size
        _, open_bytes, open_messages = self._open.get(key, (links, 0, 0))
        self._open[key] = (links, open_bytes + payload_bytes, open_messages + 1)
        if self._open_entries > _MAX_OPEN_ENTRIES:
            self._fold()

    def record_each(self, phase: str, links: Links, payload_bytes: npt.NDArray[np.int64]) -> None:
        """Counts one round in which edge e of ``links`` carried ``payload_bytes[e]``; no message where that is 0."""
        if self.is_paused:
            return
        spoken = payload_bytes > 0
        codes, sizes = links.codes[spoken], payload_bytes[spoken]
        traffic = self.phases.setdefault(phase, Traffic())
        traffic.bytes += int(sizes.sum())
        traffic.messages += codes.size
        source, target = np.divmod(codes, self.num_nodes)
        sent = np.bincount(source, sizes, self.num_nodes).astype(np.int64)
        received = np.bincount(target, sizes, self.num_nodes).astype(np.int64)
        self.node_sent += sent
        self.node_received += received
        self.link_time_s += self.link_model.round_s(1 if codes.size else 0, int(max(sent.max(), received.max())))
        self._fold()
        self._add_entries(codes, sizes, np.ones(codes.size, dtype=np.int64))

    def record_wire(self, num_bytes: int) -> None:
        """Counts bytes that this process handed to torch.distributed for algorithms."""
        if not self.is_paused:
            self.wire_bytes += num_bytes

    def record_evaluation(self, num_bytes: int) -> None:
        """Counts bytes that this process handed to torch.distributed for metrics."""
        if not self.is_paused:
            self.evaluation_bytes += num_bytes

    def absorb(self, other: "Ledger") -> None:
        """Adds the ledger of a network in which every node has K copies: node i as i * K, ..., i * K + K - 1.

        The bytes and messages of all copies are added. Time is added as if every copy had links of its own.
        """
        if self.is_paused:
            return
        copies = other.num_nodes // self.num_nodes
        for name, traffic in other.phases.items():
            mine = self.phases.setdefault(name, Traffic())
            mine.bytes += traffic.bytes
            mine.messages += traffic.messages
        self.link_time_s += other.link_time_s
        self.node_sent += other.node_sent.reshape(-1, copies).sum(axis=1)
        self.node_received += other.node_received.reshape(-1, copies).sum(axis=1)
        self.wire_bytes += other.wire_bytes
        self.evaluation_bytes += other.evaluation_bytes
        edges = other.per_edge()
        self._fold()
        self._add_entries(
            edges["source"] // copies * self.num_nodes + edges["target"] // copies, edges["bytes"], edges["messages"]
        )

    def per_edge(self) -> dict[str, npt.NDArray[np.int64]]:
        """Bytes and messages of every edge used so far: arrays ``source``, ``target``, ``bytes``, ``messages``."""
        self._fold()
        source, target = np.divmod(self._codes, self.num_nodes)
        return {"source": source, "target": target, "bytes": self._bytes, "messages": self._messages}

    def _fold(self) -> None:
        """Moves the open counts to those by edge."""
        if not self._open and not self._open_masks:
            return
        codes = [links.codes for links, _, _ in self._open.values()]
        num_bytes = [np.full(links.size, total) for links, total, _ in self._open.values()]
        messages = [np.full(links.size, times) for links, _, times in self._open.values()]
        for payload_bytes, counts in self._open_masks.items():
            np.fill_diagonal(counts, 0)
            by_source = counts.T.ravel()
            codes.append(np.flatnonzero(by_source))
            messages.append(by_source[codes[-1]].astype(np.int64))
            num_bytes.append(payload_bytes * messages[-1])
        self._add_entries(np.concatenate(codes), np.concatenate(num_bytes), np.concatenate(messages))
        self._open.clear()
        self._open_entries = 0
        self._open_masks.clear()

    def _add_entries(
        self, codes: npt.NDArray[np.int64], num_bytes: npt.NDArray[np.int64], messages: npt.NDArray[np.int64]
    ) -> None:
        """Adds to the counts of every edge; a code may come several times."""
        new_bytes = np.concatenate([self._bytes, num_bytes])
        new_messages = np.concatenate([self._messages, messages])
        self._codes, position = np.unique(np.concatenate([self._codes, codes]), return_inverse=True)
        self._bytes = np.zeros(self._codes.size, dtype=np.int64)
        self._messages = np.zeros(self._codes.size, dtype=np.int64)
        np.add.at(self._bytes, position, new_bytes)
        np.add.at(self._messages, position, new_messages)

    def state_dict(self) -> dict[str, Any]:
        """Everything, as plain lists and numbers for a checkpoint."""
        self._fold()
        return {
            "phases": {name: [traffic.bytes, traffic.messages] for name, traffic in self.phases.items()},
            "link_time_s": self.link_time_s,
            "node_sent": self.node_sent.tolist(),
            "node_received": self.node_received.tolist(),
            "codes": self._codes.tolist(),
            "bytes": self._bytes.tolist(),
            "messages": self._messages.tolist(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues from :meth:`state_dict`; the counts by process start at what the caller sets."""
        self.phases = {name: Traffic(*counts) for name, counts in state["phases"].items()}
        self.link_time_s = state["link_time_s"]
        self.node_sent = np.asarray(state["node_sent"], dtype=np.int64)
        self.node_received = np.asarray(state["node_received"], dtype=np.int64)
        self._codes = np.asarray(state["codes"], dtype=np.int64)
        self._bytes = np.asarray(state["bytes"], dtype=np.int64)
        self._messages = np.asarray(state["messages"], dtype=np.int64)
        self._open.clear()
        self._open_entries = 0
        self._open_masks.clear()
