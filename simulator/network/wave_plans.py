"""What a wave of asynchronous events sends from one process to others, and receives from them."""

from dataclasses import dataclass

from simulator.network.peer_rows import PeerRows


@dataclass(frozen=True, eq=False)
class WavePlan:
    """One wave for one process.

    Attributes:
        sends, receives: rows by peer, peers ascending; a row that several nodes of one process need crosses once.
    """

    sends: tuple[PeerRows, ...]
    receives: tuple[PeerRows, ...]
