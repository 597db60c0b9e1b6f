"""Shared data: every node draws its minibatches from the whole training set.

**Definition.** All nodes hold the official training set, but for a share held out for validation, and are tested on the
official test set; where a dataset has none, a share of every class is held out instead. With ``replacement`` every
minibatch is drawn anew and uniformly with replacement; without, every node passes through all samples in epochs of its
own.

**Source.** The training of T. Vogels, H. Hendrikx and M. Jaggi, "Beyond spectral gap", NeurIPS 2022 (arXiv 2206.03093).

**Departures.** None.
"""

import numpy as np

from simulator.data.base import NodeIndices, Partition, Samples
from simulator.data.partitions.dealing import hold_out
from simulator.randomness import generator


class Shared(Partition):
    """The same samples for all nodes.

    Args:
        valid_fraction: share of the training samples that is held out for validation, in [0, 1).
        test_fraction: share of a dataset without official test set that is held out for testing, in [0, 1).
        replacement: whether minibatches are drawn with replacement; full batches never are.
        seed: of every draw.

    Raises:
        ValueError: for impossible fractions.
    """

    def __init__(self, *, valid_fraction: float, test_fraction: float, replacement: bool, seed: int) -> None:
        for name, fraction in (("valid_fraction", valid_fraction), ("test_fraction", test_fraction)):
            if not 0 <= fraction < 1:
                raise ValueError(f"partition.{name}={fraction}: must be in [0, 1)")
        self.valid_fraction = valid_fraction
        self.test_fraction = test_fraction
        self.replacement = replacement
        self.seed = seed

    def split(self, samples: Samples, num_nodes: int) -> tuple[NodeIndices, ...]:
        """The same three arrays for every node, so that they are stored once."""
        pool, test = hold_out(samples.labels.numpy(), samples.num_train, self.test_fraction, self.seed)
        pool = generator(self.seed, "partition/order").permutation(pool)
        # The small number corrects the rounding of products such as 0.29 * 100.
        num_train = len(pool) - int(np.floor(self.valid_fraction * len(pool) + 1e-9))
        return (NodeIndices(train=pool[:num_train], valid=pool[num_train:], test=test),) * num_nodes
