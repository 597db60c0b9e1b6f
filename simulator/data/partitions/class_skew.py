"""Label skew with one strength: every node favours one class, and shares the rest evenly.

**Definition.** Of every class c, a random share ``heterogeneity`` goes in even parts to the nodes i with
i mod C = c; everything else is pooled and dealt out at random, in parts that differ by at most one. 0 is independent
and identically distributed; 1 gives every node one class, where there are as many classes as nodes.

**Source.** The finite-data form of "with probability h a sample is of the node's own class, else of any".

**Departures.** Classes that no node favours (C larger than the number of nodes) are pooled whole.
"""

from typing import Literal

import numpy as np

from simulator.arrays import IntArray
from simulator.data.partitions.dealing import NOBODY, DealtPartition
from simulator.randomness import generator


class ClassSkew(DealtPartition):
    """Label skew whose strength is ``heterogeneity``.

    Args:
        heterogeneity: share of every class that goes to the nodes that favour it, in [0, 1].
        valid_fraction, test_fraction, test, seed: as in
            :class:`simulator.data.partitions.dealing.DealtPartition`.

    Raises:
        ValueError: for numbers out of range.
    """

    def __init__(
        self,
        *,
        heterogeneity: float,
        valid_fraction: float,
        test_fraction: float,
        test: Literal["node", "shared"],
        seed: int,
    ) -> None:
        super().__init__(valid_fraction=valid_fraction, test_fraction=test_fraction, test=test, seed=seed)
        if not 0 <= heterogeneity <= 1:
            raise ValueError(f"partition.heterogeneity={heterogeneity}: must be in [0, 1]")
        self.heterogeneity = heterogeneity

    def deal(self, labels: IntArray, num_classes: int, num_nodes: int) -> IntArray:
        """Gives every class its own nodes' share, then the rest to all."""
        rng = generator(self.seed, "partition/class_skew")
        owners = np.full(len(labels), NOBODY, dtype=np.int64)
        for label in range(min(num_classes, num_nodes)):
            rows = rng.permutation(np.flatnonzero(labels == label))
            kept = rows[: int(self.heterogeneity * len(rows) + 1e-9)]
            favouring = np.arange(label, num_nodes, num_classes)
            owners[kept] = favouring[_even_parts(len(kept), len(favouring))]
        rest = rng.permutation(np.flatnonzero(owners == NOBODY))
        owners[rest] = _even_parts(len(rest), num_nodes)
        return owners


def _even_parts(count: int, num_parts: int) -> IntArray:
    """Part of each of ``count`` things, in order, so that sizes differ by at most one."""
    return np.arange(count, dtype=np.int64) * num_parts // max(count, 1)
