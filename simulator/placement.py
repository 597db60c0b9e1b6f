"""Which process hosts which nodes: contiguous blocks whose sizes differ by at most one."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from simulator.arrays import IntArray


@dataclass(frozen=True)
class Placement:
    """``num_nodes`` simulated nodes on ``world_size`` processes; this process is ``rank``.

    Args:
        num_replicas: the number of consecutive nodes that are copies of one node; they stay on one process.

    Raises:
        ValueError: when there are more processes than nodes.
    """

    num_nodes: int
    world_size: int = 1
    rank: int = 0
    num_replicas: int = 1

    def __post_init__(self) -> None:
        if self.num_nodes < 1:
            raise ValueError(f"num_nodes={self.num_nodes}: at least one node is needed")
        if self.world_size > self.num_nodes:
            raise ValueError(
                f"{self.world_size} processes for num_nodes={self.num_nodes}: a process hosts at least one node, "
                f"so start at most {self.num_nodes} processes"
            )
        assert 0 <= self.rank < self.world_size
        assert self.num_nodes % self.num_replicas == 0

    @cached_property
    def starts(self) -> IntArray:
        """First node of every rank, and ``num_nodes`` at the end; shape [world_size + 1]."""
        num_originals = self.num_nodes // self.num_replicas
        return np.arange(self.world_size + 1, dtype=np.int64) * num_originals // self.world_size * self.num_replicas

    @property
    def nodes(self) -> range:
        """The nodes that this process hosts."""
        return self.nodes_of(self.rank)

    def nodes_of(self, rank: int) -> range:
        """The nodes that ``rank`` hosts."""
        return range(int(self.starts[rank]), int(self.starts[rank + 1]))

    def rank_of(self, nodes: npt.ArrayLike) -> IntArray:
        """The rank that hosts each of ``nodes``."""
        return np.searchsorted(self.starts, np.asarray(nodes), side="right").astype(np.int64) - 1
