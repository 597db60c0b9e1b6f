"""Label skew with one strength: every class has nodes of its own, which get a share of it; all nodes share the rest.

**Definition.** Let there be C classes and M nodes. The own nodes of class c are all i with i mod C = c; with more
classes than nodes it is the one node c mod M, so that a node has several classes of its own. Of every class a random
share ``heterogeneity`` goes in even parts to its own nodes; everything else is pooled and dealt out at random, in parts
that differ by at most one. 0 is independent and identically distributed; 1 gives every node only classes of its own,
one each where C = M.

**Source.** The finite-data form of "with probability h a sample is of the node's own class, else of any".

**Departures.** None. Where neither of C and M divides the other, some nodes have more samples than others.
"""

import numpy as np

from simulator.arrays import IntArray
from simulator.data.partitions.dealing import NOBODY, DealtPartition, TestSet
from simulator.randomness import generator


class ClassSkew(DealtPartition):
    """Label skew whose strength is ``heterogeneity``.

    Args:
        heterogeneity: share of every class that goes to its own nodes, in [0, 1].
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
        test: TestSet,
        seed: int,
    ) -> None:
        super().__init__(valid_fraction=valid_fraction, test_fraction=test_fraction, test=test, seed=seed)
        if not 0 <= heterogeneity <= 1:
            raise ValueError(f"partition.heterogeneity={heterogeneity}: must be in [0, 1]")
        self.heterogeneity = heterogeneity

    def deal(self, labels: IntArray, num_classes: int, num_nodes: int) -> IntArray:
        """Gives every class's own nodes their share of it, then all nodes the rest."""
        rng = generator(self.seed, "partition/class_skew")
        owners = np.full(len(labels), NOBODY, dtype=np.int64)
        for label in range(num_classes):
            rows = rng.permutation(np.flatnonzero(labels == label))
            kept = rows[: int(self.heterogeneity * len(rows) + 1e-9)]
            own_nodes = np.arange(label % num_nodes, num_nodes, num_classes)
            owners[kept] = own_nodes[_even_parts(len(kept), len(own_nodes))]
        rest = rng.permutation(np.flatnonzero(owners == NOBODY))
        owners[rest] = _even_parts(len(rest), num_nodes)
        return owners


def _even_parts(count: int, num_parts: int) -> IntArray:
    """The part of each of ``count`` samples, in order; the sizes of parts differ by at most one."""
    return np.arange(count, dtype=np.int64) * num_parts // max(count, 1)
