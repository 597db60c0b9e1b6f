"""Pathological label skew: every node gets a few shards of the samples, which are sorted by label.

**Definition.** The pool is sorted by label, in random order within a label, and cut into num_nodes * shards_per_node
consecutive shards whose sizes differ by at most one; every node gets ``shards_per_node`` of them at random, and so at
most about as many classes.

**Source.** B. McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized Data", AISTATS
2017, section 3 (200 shards of 300 samples of MNIST, two for each of 100 nodes).

**Departures.** None; sizes need not divide.
"""

import numpy as np

from simulator.arrays import IntArray
from simulator.data.partitions.dealing import DealtPartition, TestSet
from simulator.randomness import generator


class Shards(DealtPartition):
    """A few label-sorted shards per node.

    Args:
        shards_per_node: shards that each node gets, at least 1.
        valid_fraction, test_fraction, test, seed: as in
            :class:`simulator.data.partitions.dealing.DealtPartition`.

    Raises:
        ValueError: for numbers out of range.
    """

    def __init__(
        self,
        *,
        shards_per_node: int,
        valid_fraction: float,
        test_fraction: float,
        test: TestSet,
        seed: int,
    ) -> None:
        super().__init__(valid_fraction=valid_fraction, test_fraction=test_fraction, test=test, seed=seed)
        if shards_per_node < 1:
            raise ValueError(f"partition.shards_per_node={shards_per_node}: at least 1 is needed")
        self.shards_per_node = shards_per_node

    def deal(self, labels: IntArray, num_classes: int, num_nodes: int) -> IntArray:
        """Gives every node its shards; raises ValueError for more shards than samples."""
        num_shards = num_nodes * self.shards_per_node
        if num_shards > len(labels):
            raise ValueError(
                f"partition.shards_per_node={self.shards_per_node} for {num_nodes} nodes makes {num_shards} shards of "
                f"{len(labels)} samples; use at most {len(labels)} shards"
            )
        rng = generator(self.seed, "partition/shards")
        order = rng.permutation(len(labels))
        order = order[np.argsort(labels[order], kind="stable")]
        shard_owners = rng.permutation(num_shards) // self.shards_per_node
        owners = np.empty(len(labels), dtype=np.int64)
        owners[order] = shard_owners[np.arange(len(labels), dtype=np.int64) * num_shards // len(labels)]
        return owners
