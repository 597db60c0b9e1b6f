"""The rows that cross between this process and one other process in a round."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from simulator.network.device_index import DeviceIndex


@dataclass(frozen=True)
class PeerRows:
    """The rows that cross between this process and one peer in a round; R of them.

    Attributes:
        peer: rank of the other process.
        nodes: global index of the node that each row comes from, ascending, int64 [R].
        rows: for rows that leave, where each stands in the tensors that are sent, ascending, int64 [R].
    """

    peer: int
    nodes: npt.NDArray[np.int64]
    rows: npt.NDArray[np.int64]

    @cached_property
    def block(self) -> slice | None:
        """``rows`` as a slice when they follow each other without a gap, otherwise None."""
        first, last = int(self.rows[0]), int(self.rows[-1])
        return slice(first, last + 1) if last - first + 1 == self.rows.size else None

    @cached_property
    def index(self) -> DeviceIndex:
        """``rows`` as a tensor on the device."""
        return DeviceIndex(self.rows)


def by_peer(peers: npt.NDArray[np.int64], nodes: npt.NDArray[np.int64], rows: npt.NDArray[np.int64]) -> list[PeerRows]:
    """Splits rows into one entry per peer; ``peers`` [R] holds the peer of every row and ascends."""
    if peers.size == 0:
        return []
    starts = np.flatnonzero(np.r_[True, peers[1:] != peers[:-1]])
    parts = zip(starts, np.split(nodes, starts[1:]), np.split(rows, starts[1:]), strict=True)
    return [PeerRows(int(peers[s]), from_nodes, at) for s, from_nodes, at in parts]
