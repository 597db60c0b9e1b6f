"""The local clocks of a run: what the rounds of the network and the steps of the algorithm take in simulated time.

They stand beside the ledger: it counts bytes and messages, they count time. Every process knows all edges of a round
and the bytes on each of them, so all hold the same clocks without communication. How time passes is in
:mod:`simulator.timing.clocks`.

Shapes: M nodes, E edges of a round.
"""

from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from simulator.graphs.base import Edges
from simulator.network.ledger import Links
from simulator.timing.base import Timing
from simulator.timing.clocks import Clocks
from simulator.timing.routes import Routes


class LocalClocks:
    """Clocks that are driven by the rounds that a network counts.

    Args:
        timing: durations of steps and messages.

    Attributes:
        times: the clocks.
    """

    def __init__(self, timing: Timing) -> None:
        self.times = Clocks(timing)
        # A round that is kept for a schedule that repeats keeps its routes.
        self._routes: WeakKeyDictionary[Links, Routes] = WeakKeyDictionary()

    def compute(self, step: int, nodes: npt.NDArray[np.bool_] | None = None) -> None:
        """Charges the computation of ``step`` to every node, or to those of ``nodes`` [M]."""
        self.times.compute(step, nodes)

    def round(self, links: Links, payload_bytes: int) -> None:
        """One round in which every edge of ``links`` carries ``payload_bytes``."""
        self.times.round(self._routes_of(links), payload_bytes)

    def round_each(self, links: Links, payload_bytes: npt.NDArray[np.int64]) -> None:
        """One round in which edge e of ``links`` carries ``payload_bytes[e]``, [E]; no message where that is 0."""
        self.times.round(self._routes_of(links), payload_bytes[np.argsort(links.codes)])

    def state_dict(self) -> dict[str, Any]:
        """Everything, as plain lists for a checkpoint; floats survive JSON exactly."""
        return self.times.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues from :meth:`state_dict`."""
        self.times.load_state_dict(state)

    def _routes_of(self, links: Links) -> Routes:
        """The edges sorted by (source, target), which is the order of their codes."""
        found = self._routes.get(links)
        if found is None:
            source, target = np.divmod(np.sort(links.codes), self.times.timing.num_nodes)
            edges = Edges.build(source, target, 0.0)  # clocks have no use for weights
            found = self._routes[links] = Routes.build(edges, self.times.timing.links)
        return found
