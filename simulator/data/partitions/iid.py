"""Independent and identically distributed: samples are dealt out at random, in nearly equal shares.

**Definition.** A uniformly random permutation of the pool is cut into num_nodes consecutive parts.

**Source.** The IID setting of B. McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized
Data", AISTATS 2017, section 3.

**Departures.** None.
"""

import numpy as np

from simulator.arrays import IntArray
from simulator.data.partitions.dealing import DealtPartition
from simulator.randomness import generator


class Iid(DealtPartition):
    """Equal random shares; arguments as in :class:`simulator.data.partitions.dealing.DealtPartition`."""

    def deal(self, labels: IntArray, num_classes: int, num_nodes: int) -> IntArray:
        """Cuts a random permutation into equal parts."""
        owners = np.empty(len(labels), dtype=np.int64)
        places = np.arange(len(labels), dtype=np.int64)
        owners[generator(self.seed, "partition/iid").permutation(len(labels))] = places * num_nodes // len(labels)
        return owners
