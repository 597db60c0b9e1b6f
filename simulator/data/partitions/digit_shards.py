"""Label-sorted shards that several nodes may hold: node i holds the shards (i (K + 1) + s) mod C, s < digits_per_node.

**Definition.** The training samples are sorted by label and cut into C shards whose sizes differ by at most one, C
being the number of classes and K that of nodes. Shard c is called digit c although it reaches into the neighbouring
classes where these are not equally large. Nothing is random but which samples of a shard are held out for validation,
the same ones for all nodes that hold it. With C = 10 and K = 5, nodes begin with the digits 0, 6, 2, 8, 4: with two
digits per node every shard is held by exactly one node, with more digits shards overlap. With more classes and few
digits per node some shards are not used.

**Source.** M. Lan, "Decentralized learning with data exchanging", 2022, with MNIST and K = 5:
https://github.com/mh-lan/privacy_performance_tradeoff

**Departures.** Other numbers of classes, nodes and samples; validation samples; test samples by node. Where K + 1 is a
multiple of C all nodes hold the same shards.
"""

from typing import Literal

import numpy as np

from simulator.arrays import IntArray
from simulator.data.base import NodeIndices, Partition, Samples
from simulator.data.partitions.dealing import check_split_settings, hold_out, require_nodes_beside_hub, with_empty_hub
from simulator.randomness import generator


class DigitShards(Partition):
    """The same few label-sorted shards for training, validation and, if asked for, testing.

    Args:
        digits_per_node: shards of every node, from 1 to the number of classes.
        valid_fraction: share of every shard that is held out for validation, in [0, 1), rounded down.
        test_fraction: share of a dataset without official test set that is held out for testing, in [0, 1).
        test: "shared" to test every node on the whole test set, "node" on the shards of the test set that have the
            numbers of its own.
        skip_hub: whether node 0 gets nothing and K counts the others.
        seed: of the samples that are held out.

    Raises:
        ValueError: for numbers out of range.
    """

    def __init__(
        self,
        *,
        digits_per_node: int,
        valid_fraction: float,
        test_fraction: float,
        test: Literal["node", "shared"],
        skip_hub: bool,
        seed: int,
    ) -> None:
        if digits_per_node < 1:
            raise ValueError(f"partition.digits_per_node={digits_per_node}: at least 1 is needed")
        check_split_settings(valid_fraction, test_fraction, test)
        self.digits_per_node = digits_per_node
        self.valid_fraction = valid_fraction
        self.test_fraction = test_fraction
        self.test = test
        self.skip_hub = skip_hub
        self.seed = seed

    def digits(self, num_classes: int, num_holders: int) -> IntArray:
        """The shards of every node that holds data, [K, digits_per_node].

        Raises:
            ValueError: when there are fewer shards than digits per node.
        """
        if self.digits_per_node > num_classes:
            raise ValueError(
                f"partition.digits_per_node={self.digits_per_node}: the dataset has {num_classes} classes, so at most "
                "that many shards"
            )
        first = np.arange(num_holders, dtype=np.int64) * (num_holders + 1)
        return (first[:, None] + np.arange(self.digits_per_node)) % num_classes

    def split(self, samples: Samples, num_nodes: int) -> tuple[NodeIndices, ...]:
        """Cuts the sorted samples and hands the shards out."""
        require_nodes_beside_hub(num_nodes, skip_hub=self.skip_hub)
        labels, num_classes = samples.labels.numpy(), samples.num_classes
        pool, test = hold_out(labels, samples.num_train, self.test_fraction, self.seed)
        train, valid = [], []
        for digit, shard in enumerate(_cut(pool, labels, num_classes)):
            held_out = np.zeros(len(shard), dtype=bool)
            # The small number corrects the rounding of products such as 0.29 * 100.
            count = int(self.valid_fraction * len(shard) + 1e-9)
            order = generator(self.seed, "partition/digit_shards", node=digit).permutation(len(shard))
            held_out[order[:count]] = True
            train.append(shard[~held_out])
            valid.append(shard[held_out])
        test_shards = _cut(test, labels, num_classes)
        nodes = tuple(
            NodeIndices(
                train=np.concatenate([train[digit] for digit in digits]),
                valid=np.concatenate([valid[digit] for digit in digits]),
                test=np.concatenate([test_shards[digit] for digit in digits]) if self.test == "node" else test,
            )
            for digits in self.digits(num_classes, num_nodes - self.skip_hub)
        )
        return with_empty_hub(nodes) if self.skip_hub else nodes

    def remark(self, num_classes: int, num_nodes: int) -> str:
        """Whether all nodes hold the same shards."""
        num_holders = num_nodes - self.skip_hub
        if num_holders < 2 or self.digits_per_node == num_classes or (num_holders + 1) % num_classes:
            return ""
        return (
            f"all {num_holders} nodes hold the same {self.digits_per_node} digits, because {num_holders} + 1 is a "
            f"multiple of the {num_classes} classes; another number of nodes makes them differ"
        )


def _cut(rows: IntArray, labels: IntArray, num_shards: int) -> list[IntArray]:
    """``rows`` sorted by label and cut into shards whose sizes differ by at most one."""
    ordered = rows[np.argsort(labels[rows], kind="stable")]
    bounds = np.arange(num_shards + 1, dtype=np.int64) * len(rows) // num_shards
    return np.split(ordered, bounds[1:-1])
