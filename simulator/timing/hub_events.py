"""The schedule of an asynchronous hub: clients that download its model, compute, upload, and begin again.

Event (i, k) is round trip k of client i, a node other than 0: the model comes down from node 0, the client computes for
compute_s(i, k) seconds, and its answer goes up. It ends when the answer is complete. Messages take latency and transfer
with links to themselves, see :mod:`simulator.timing.links`; there are no queues at the hub. Answers are taken in the
order of (end time, node). Node 0 has no events. Every event depends on all earlier ones, so a wave is one event.
"""

import numpy as np
import numpy.typing as npt

from simulator.timing.pairs import PairSchedule

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


class HubSchedule(PairSchedule):
    """Round trips of clients; arguments and errors as :class:`simulator.timing.pairs.PairSchedule`."""

    def partners(self, nodes: IntArray, steps: IntArray) -> IntArray:
        """The hub, [n]."""
        return np.zeros_like(nodes)

    def exchange_s(self, nodes: IntArray, partners: IntArray) -> FloatArray:
        """Duration of download and upload, seconds, [n]; endless for the hub, which has no events."""
        both: FloatArray = self._message_s(partners, nodes) + self._message_s(nodes, partners)
        return np.where(nodes == 0, np.inf, both)
