"""The messages of one round of a graph schedule, with what the links make of them.

Shapes: M nodes, E edges between different nodes, sorted by (source, target).
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from simulator.graphs.base import Edges
from simulator.timing.links import Links

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Transfer:
    """How long messages of given lengths take.

    Attributes:
        out_s: from when the sender's uplink begins with this round until the message has left, [E].
        travel_s: from then until the message would be complete with the downlink to itself, [E].
        downlink_s: how long it occupies the downlink, [E].
        busy_s: how long every node's uplink is occupied by the round, [M].
    """

    out_s: FloatArray
    travel_s: FloatArray
    downlink_s: FloatArray
    busy_s: FloatArray


@dataclass(frozen=True, eq=False)
class Routes:
    """The edges of one round between different nodes.

    Attributes:
        source, target: shape [E], sorted by (source, target).
        weight: W_t[target, source], shape [E].
        own_weight: W_t[i, i], shape [M].
        first: where the edges of every source begin, and E at the end, shape [M + 1].
        latency_s: seconds, shape [E].
        rate: bytes per second at which a message leaves its sender, shape [E].
        downlink: bytes per second of the target, shape [E].
    """

    source: IntArray
    target: IntArray
    weight: FloatArray
    own_weight: FloatArray
    first: IntArray
    latency_s: FloatArray
    rate: FloatArray
    downlink: FloatArray

    @classmethod
    def build(cls, edges: Edges, links: Links) -> "Routes":
        """Leaves the self-loops out."""
        is_loop = edges.source == edges.target
        own_weight = np.zeros(links.num_nodes)
        own_weight[edges.source[is_loop]] = edges.weight[is_loop]
        real = np.flatnonzero(~is_loop)
        # Edges are sorted by (target, source), so a stable sort by source leaves the targets in order.
        order = real[np.argsort(edges.source[real], kind="stable")]
        source, target = edges.source[order], edges.target[order]
        first = np.searchsorted(source, np.arange(links.num_nodes + 1)).astype(np.int64)
        return cls(
            source,
            target,
            edges.weight[order],
            own_weight,
            first,
            links.latency_s(source, target),
            links.rate(source, target),
            links.downlink[target],
        )

    def transfer(self, payload_bytes: int | npt.NDArray[np.int64]) -> Transfer:
        """Durations of messages of ``payload_bytes``, the same for all or one length per edge, shape [E]."""
        uplink_s = payload_bytes / self.rate
        downlink_s = payload_bytes / self.downlink
        sums = np.concatenate([[0.0], np.cumsum(uplink_s)])
        counts = np.diff(self.first)
        before = np.repeat(sums[self.first[:-1]], counts)
        return Transfer(
            sums[1:] - before,
            self.latency_s + np.maximum(0.0, downlink_s - uplink_s),
            downlink_s,
            sums[self.first[1:]] - sums[self.first[:-1]],
        )
