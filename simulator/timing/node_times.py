"""The simulated times of all nodes, of synchronous rounds and of asynchronous events alike."""

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]


class NodeTimes:
    """The time that every node has reached, and how much of it was not spent computing.

    Args:
        num_nodes: M.

    Attributes:
        now_s: time of every node, seconds, [M].
        idle_s: how much of it the node has not computed, seconds, [M].
    """

    def __init__(self, num_nodes: int) -> None:
        self.now_s = np.zeros(num_nodes)
        self.idle_s = np.zeros(num_nodes)

    @property
    def sim_mean_s(self) -> float:
        """The mean time of the nodes, seconds."""
        return float(self.now_s.mean())

    @property
    def idle_share(self) -> float:
        """The part of all nodes' time that they have not computed; 0 before anything takes time."""
        total = float(self.now_s.sum())
        return float(self.idle_s.sum()) / total if total > 0 else 0.0

    @property
    def idle_shares(self) -> FloatArray:
        """The part of every node's time that it has not computed, [M]; 0 before anything takes time."""
        shares: FloatArray = np.divide(self.idle_s, self.now_s, out=np.zeros_like(self.now_s), where=self.now_s > 0)
        return shares
