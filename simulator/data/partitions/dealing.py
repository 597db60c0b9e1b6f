"""The common part of partitions of labelled samples: the pool, the test set and each node's own split.

A partition says which node owns which sample of a pool (:meth:`DealtPartition.deal`). With ``test="node"`` the pool
is the official training and test set together, and every node splits what it gets into training, validation and test
samples of its own. With ``test="shared"`` only the official training set is dealt out, nodes split it into training
and validation samples, and every node is tested on the whole official test set; where a dataset has none, a share of
``test_fraction`` of every class is held out at random instead. ``test="held_out"`` is the same, with a validation set
that all nodes share as well: a share ``valid_fraction`` of every class of the pool, which nobody trains on.

Nodes draw their validation and test samples at random from what they own; the sizes are rounded down, so a node with
a single sample trains on it.
"""

from abc import abstractmethod
from typing import Literal

import numpy as np

from simulator.arrays import IntArray
from simulator.data.base import NodeIndices, Partition, Samples
from simulator.randomness import generator

NOBODY = -1
TestSet = Literal["node", "shared", "held_out"]


class DealtPartition(Partition):
    """A partition that gives every sample of a pool to one node, or to none.

    Args:
        valid_fraction: share of a node's samples (``test="held_out"``: of the pool) that is held out for validation, in
            [0, 1).
        test_fraction: share of a node's samples (``test="node"``), or of the whole dataset where it has no official
            test set (otherwise), that is held out for testing, in [0, 1).
        test: "node" for a test set of each node's own, "shared" for the official one, "held_out" for a validation set
            that all nodes share as well.
        seed: of every draw.

    Raises:
        ValueError: for impossible fractions or another word for ``test``.
    """

    def __init__(self, *, valid_fraction: float, test_fraction: float, test: TestSet, seed: int) -> None:
        check_split_settings(valid_fraction, test_fraction, test, ("node", "shared", "held_out"))
        if test == "node" and valid_fraction + test_fraction >= 1:
            raise ValueError(
                f"partition.valid_fraction={valid_fraction} and test_fraction={test_fraction}: together below 1, "
                "so that something is left to train on"
            )
        self.valid_fraction = valid_fraction
        self.test_fraction = test_fraction
        self.test = test
        self.seed = seed

    @abstractmethod
    def deal(self, labels: IntArray, num_classes: int, num_nodes: int) -> IntArray:
        """Returns the node that owns each sample of the pool, or NOBODY.

        Args:
            labels: class of every sample of the pool, shape [S].
            num_classes: number of classes.
            num_nodes: number of nodes.

        Returns:
            Array of shape [S].

        Raises:
            ValueError: when the samples do not allow this partition.
        """

    def split(self, samples: Samples, num_nodes: int) -> tuple[NodeIndices, ...]:
        """Deals out the pool and splits every node's samples; raises ValueError when a node has none to train on."""
        labels = samples.labels.numpy()
        if self.test == "node":
            pool, shared_test = np.arange(len(labels)), None
        else:
            pool, shared_test = hold_out(labels, samples.num_train, self.test_fraction, self.seed)
        shared_valid = None
        if self.test == "held_out":
            kept, held_out = _share_of_classes(labels[pool], self.valid_fraction, self.seed, "partition/valid")
            pool, shared_valid = pool[kept], pool[held_out]
        owners = self.deal(labels[pool], samples.num_classes, num_nodes)
        assert owners.shape == pool.shape

        order = generator(self.seed, "partition/order").permutation(len(pool))
        order = order[np.argsort(owners[order], kind="stable")]
        counts = np.bincount(owners + 1, minlength=num_nodes + 1)
        dealt = pool[order[counts[0] :]]
        sizes = counts[1:]
        require_training_samples(sizes, skip_hub=self.skip_hub)
        starts = np.concatenate([[0], np.cumsum(sizes)])
        # The small number corrects the rounding of products such as 0.29 * 100.
        num_valid = np.floor(self.valid_fraction * sizes + 1e-9).astype(np.int64)
        num_test = np.floor(self.test_fraction * sizes + 1e-9).astype(np.int64)
        if shared_test is not None:
            num_test[:] = 0
        if shared_valid is not None:
            num_valid[:] = 0
        valid_starts = starts[1:] - num_test - num_valid
        test_starts = starts[1:] - num_test
        return tuple(
            NodeIndices(
                train=dealt[starts[node] : valid_starts[node]],
                valid=dealt[valid_starts[node] : test_starts[node]] if shared_valid is None else shared_valid,
                test=dealt[test_starts[node] : starts[node + 1]] if shared_test is None else shared_test,
            )
            for node in range(num_nodes)
        )


def check_split_settings(
    valid_fraction: float, test_fraction: float, test: str, allowed: tuple[str, ...] = ("node", "shared")
) -> None:
    """Checks how samples are held out.

    Raises:
        ValueError: for impossible fractions or another word for ``test``.
    """
    if test not in allowed:
        further = "; or 'held_out' (with a validation set for all nodes)" if "held_out" in allowed else ""
        raise ValueError(f"partition.test={test}: 'node' (each node's own) or 'shared' (one for all nodes){further}")
    for name, fraction in (("valid_fraction", valid_fraction), ("test_fraction", test_fraction)):
        if not 0 <= fraction < 1:
            raise ValueError(f"partition.{name}={fraction}: must be in [0, 1)")


def with_empty_hub(nodes: tuple[NodeIndices, ...]) -> tuple[NodeIndices, ...]:
    """The nodes 1, 2, ... behind a node 0 that holds nothing."""
    nothing = np.zeros(0, dtype=np.int64)
    return (NodeIndices(nothing, nothing, nothing), *nodes)


def require_nodes_beside_hub(num_nodes: int, *, skip_hub: bool) -> None:
    """Raises ValueError when the hub is the only node."""
    if num_nodes <= skip_hub:
        raise ValueError(f"partition.skip_hub=true: num_nodes={num_nodes} counts the hub; at least 2 are needed")


def hold_out(labels: IntArray, num_train: int, test_fraction: float, seed: int) -> tuple[IntArray, IntArray]:
    """Rows to train on and the rows of a test set for all nodes: the official one, or a share of every class.

    Args:
        labels: of all samples, [S]; the first ``num_train`` rows are the official training set.

    Raises:
        ValueError: when there is no official test set and the share is too small to hold out a sample.
    """
    rows = np.arange(len(labels))
    if num_train < len(labels):
        return rows[:num_train], rows[num_train:]
    kept, held_out = _share_of_classes(labels, test_fraction, seed, "partition/held_out")
    if not len(held_out):
        raise ValueError(
            f"partition.test_fraction={test_fraction}: the dataset has no official test set, so a test set that all "
            "nodes share needs a fraction that holds out at least one sample"
        )
    return kept, held_out


def _share_of_classes(labels: IntArray, fraction: float, seed: int, stream: str) -> tuple[IntArray, IntArray]:
    """The rows that are left, and a share of the rows of every class, drawn at random; both ascending."""
    # Taking evenly spaced places of the samples sorted by label gives every class its share, to within one.
    order = generator(seed, stream).permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    places = np.floor(np.arange(len(labels) + 1) * fraction + 1e-9)
    held_out = np.diff(places) > 0
    return np.sort(order[~held_out]), np.sort(order[held_out])


def require_validation_samples(sizes: IntArray, nodes: range) -> None:
    """Checks the number of validation samples of some nodes, shape [N], for problems whose outer objective needs them.

    Raises:
        ValueError: when a node has none.
    """
    empty = np.flatnonzero(sizes == 0)
    if len(empty):
        raise ValueError(
            f"partition: node {nodes[empty[0]]} gets no validation sample, on which the outer objective is defined; "
            "use a larger partition.valid_fraction or fewer nodes"
        )


def require_training_samples(sizes: IntArray, *, skip_hub: bool = False) -> None:
    """Checks the number of training samples of every node, shape [M]; of all but node 0 with ``skip_hub``.

    Raises:
        ValueError: when a node has none.
    """
    empty = np.flatnonzero(sizes == 0)
    empty = empty[empty >= skip_hub]
    if len(empty):
        raise ValueError(
            f"partition: {len(empty)} of {len(sizes)} nodes, first node {empty[0]}, get no training sample out of "
            f"{sizes.sum()}; use fewer nodes or a partition that gives each node a minimum"
        )
