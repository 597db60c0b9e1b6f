"""Links between nodes: latency by ordered pair, and an uplink and a downlink by node.

The model of a message of B bytes from node j to node i:

* Uplink. Messages leave j one after the other: those of an earlier round or event first, those of one round or event in
  ascending order of target. A message occupies the uplink for B / r_ji seconds, where r_ji is the smaller of j's uplink
  and the pair's own limit.
* Travel. Bytes arrive latency_ji after they left.
* Downlink. With the downlink to itself a message would be complete at c = (end on the uplink) + latency_ji
  + max(0, B / downlink_i - B / r_ji): a slower downlink stretches it, a faster one does not shorten it. The downlink
  takes messages in ascending order of c, ties by source, and gives each B / downlink_i seconds; so a message arrives at
  max(c, (arrival of the one before) + B / downlink_i).

Without limits a message arrives latency_ji after it was sent. The homogeneous case (all latencies and all bandwidths
equal) is what ``link:`` of the configuration describes.

Shapes: M nodes, E messages.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from simulator.randomness import normals
from simulator.timing.files import LinkTable

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Links:
    """Latencies and bandwidths.

    Attributes:
        num_nodes: M.
        uplink, downlink: bytes per second of every node, infinite for no limit, shape [M].
        latency_median_s, latency_sigma: of pairs that are not in ``pairs``.
        pairs: ordered pairs with a latency and a limit of their own, or None.
        seed: keys the latencies.
    """

    num_nodes: int
    uplink: FloatArray
    downlink: FloatArray
    latency_median_s: float
    latency_sigma: float
    pairs: LinkTable | None
    seed: int

    @classmethod
    def build(
        cls,
        num_nodes: int,
        *,
        latency_s: float,
        latency_sigma: float,
        uplink: float | None,
        downlink: float | None,
        bandwidth_sigma: float,
        pairs: LinkTable | None,
        seed: int,
    ) -> "Links":
        """Draws the bandwidths: lognormal with these medians, keyed by (seed, node); None for no limit."""

        def limits(median: float | None, stream: str) -> FloatArray:
            if median is None:
                return np.full(num_nodes, math.inf)
            drawn = normals(seed, stream, np.arange(num_nodes), 0, 1)[:, 0]
            drawn_limits: FloatArray = median * np.exp(bandwidth_sigma * drawn)
            return drawn_limits

        return cls(
            num_nodes,
            limits(uplink, "timing/uplink"),
            limits(downlink, "timing/downlink"),
            latency_s,
            latency_sigma,
            pairs,
            seed,
        )

    def latency_s(self, source: IntArray, target: IntArray) -> FloatArray:
        """Seconds by ordered pair, shape [E]; lognormal, keyed by (seed, source, target), or from the file."""
        if self.latency_sigma == 0:
            latency = np.full(source.shape, float(self.latency_median_s))
        else:
            drawn = normals(self.seed, "timing/latency", source, target, 1)[:, 0]
            latency = self.latency_median_s * np.exp(self.latency_sigma * drawn)
        if self.pairs is not None:
            row, known = self._find(self.pairs, source, target)
            latency[known] = self.pairs.latency_s[row]
        return latency

    def rate(self, source: IntArray, target: IntArray) -> FloatArray:
        """r_ji: bytes per second at which a message leaves its sender, shape [E]."""
        rate = self.uplink[source]
        if self.pairs is not None:
            row, known = self._find(self.pairs, source, target)
            rate[known] = np.minimum(rate[known], self.pairs.bandwidth[row])
        return rate

    def _find(self, pairs: LinkTable, source: IntArray, target: IntArray) -> tuple[IntArray, npt.NDArray[np.bool_]]:
        """Rows of the pairs that are in the file, and which ones these are."""
        codes = source * self.num_nodes + target
        if pairs.codes.size == 0:
            return np.zeros(0, dtype=np.int64), np.zeros(codes.shape, dtype=np.bool_)
        row = np.minimum(np.searchsorted(pairs.codes, codes), pairs.codes.size - 1)
        known: npt.NDArray[np.bool_] = pairs.codes[row] == codes
        return row[known], known
