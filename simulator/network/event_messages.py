"""Messages of asynchronous events, which follow no rounds."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from torch import Tensor

from simulator.graphs.base import Edges
from simulator.network.connected_nodes import ConnectedNodes
from simulator.network.ledger import Links
from simulator.network.transport import InFlight
from simulator.network.wave_plans import WavePlan
from simulator.timing.event_times import EventTimes


class EventMessages(ConnectedNodes):
    """Sends what a wave of events sends, and counts it."""

    def begin_events(self) -> None:
        """Sets the times of asynchronous events back to the beginning."""
        self.events = EventTimes(self.num_nodes)

    def post_events(self, rows: Sequence[Tensor], plan: WavePlan, edges: Edges) -> InFlight:
        """Posts what a wave of asynchronous events sends; as :meth:`post`, but only bytes on the wire are counted.

        Args:
            rows: tensors with a row per local event.
            plan: what crosses.
            edges: all edges that carry a message, named in errors.
        """
        in_flight = self._transport.post(plan, rows, lambda: edges, 0)
        self.ledger.record_wire(in_flight.sent_bytes)
        return in_flight

    def count_messages(self, source: npt.NDArray[np.int64], target: npt.NDArray[np.int64], payload_bytes: int) -> None:
        """Counts messages of asynchronous events in the ledger; an edge may come several times, [E]."""
        self.ledger.record(self._phase, Links.build(source, target, self.num_nodes), payload_bytes)
