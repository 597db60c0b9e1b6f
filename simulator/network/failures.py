"""What a process says about messages that do not come: the round, the ranks and an edge."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from simulator.errors import LostProcessError, SilentProcessError
from simulator.graphs.base import Edges
from simulator.network.peer_rows import PeerRows
from simulator.network.waits import first_line
from simulator.placement import Placement


@dataclass(frozen=True)
class Messages:
    """Messages of a round that are finished by one wait. It holds no tensors, because it may outlive the round.

    Attributes:
        placement: which process hosts which nodes.
        edges, step: of the round.
        timeout_s: how long a wait may last.
        parts: the rows of each message, and ``receive`` or ``send``.
    """

    placement: Placement
    edges: Callable[[], Edges]
    step: int
    timeout_s: float
    parts: tuple[tuple[PeerRows, str], ...]

    def silent(self) -> SilentProcessError:
        """The wait took too long: names the first of the messages, and the ranks of the others."""
        part, direction = self.parts[0]
        preposition = "from" if direction == "receive" else "to"
        others = self._other_ranks()
        return SilentProcessError(
            f"round {self.step}: rank {self.placement.rank} waited {self.timeout_s:g} s to {direction} "
            f"{self._describe(part, direction)} {preposition} rank {part.peer}"
            + (f", or for its messages with rank {others}" if others else ""),
            -1 if others else part.peer,
        )

    def lost(self, error: RuntimeError) -> LostProcessError:
        """The connection broke."""
        peer = self.parts[0][0].peer
        others = self._other_ranks()
        nodes = self.placement.nodes_of(peer)
        return LostProcessError(
            f"round {self.step}: rank {self.placement.rank} lost rank {peer}, which hosts nodes "
            f"{nodes.start}..{nodes.stop - 1}" + (f", or rank {others}" if others else "") + f" ({first_line(error)})",
            -1 if others else peer,
        )

    def _other_ranks(self) -> str:
        """The ranks at the other ends of all messages but the first, without that of the first."""
        return ", ".join(map(str, sorted({part.peer for part, _ in self.parts} - {self.parts[0][0].peer})))

    def _describe(self, part: PeerRows, direction: str) -> str:
        """Says how many nodes the rows come from, and names one edge that they travel along."""
        edges = self.edges()
        targets = self.placement.nodes if direction == "receive" else self.placement.nodes_of(part.peer)
        chosen = np.isin(edges.source, part.nodes) & (edges.target >= targets.start) & (edges.target < targets.stop)
        edge = int(np.flatnonzero(chosen)[0])
        plural = "s" if part.nodes.size > 1 else ""
        return (
            f"the row{plural} of {part.nodes.size} node{plural} (such as edge {edges.source[edge]} -> "
            f"{edges.target[edge]})"
        )
