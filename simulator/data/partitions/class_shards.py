"""A few classes per node, in unequal shares, the same for training, validation and test samples.

**Definition.** Let N nodes hold s of C classes each. Every class is prepared in c shares, numbers ~ U(low, high)
divided by their sum, with c = floor(s N / C) + 1, or c = s N / C without a spare share. Node after node draws s
classes, each uniformly among those with most shares left, and takes the last share that is left of each of them.
Classes and shares are drawn once; then in each of the three splits every class is shuffled, and node after node takes
the next floor(n p) of its n samples for a share p. Samples that no node takes are unused: with a spare share, about
1/c of the data.

**Source.** The data of A. Shamsian, A. Navon, E. Fetaya and G. Chechik, "Personalized Federated Learning using
Hypernetworks", ICML 2021 (arXiv 2103.04628), with low 0.4 and high 0.6; code https://github.com/AvivSham/pFedHN.

**Departures.** Other random generators, hence other draws of the same distributions. A hub may be left without data.
As in the original, a node may draw a class twice where s does not divide C.
"""

from dataclasses import dataclass

import numpy as np

from simulator.arrays import FloatArray, IntArray
from simulator.data.base import NodeIndices, Partition, Samples
from simulator.data.partitions.dealing import hold_out, require_nodes_beside_hub, with_empty_hub
from simulator.randomness import generator


@dataclass(frozen=True)
class Assignment:
    """The classes of the N nodes and the nodes' shares of them.

    Attributes:
        classes: int64 [N, s].
        shares: of all samples of that class, float64 [N, s].
    """

    classes: IntArray
    shares: FloatArray


class ClassShards(Partition):
    """A few classes per node, with the same shares in every split.

    Args:
        classes_per_node: s, from 1 to the number of classes.
        low, high: bounds of the uniform numbers to which shares are proportional, 0 < low <= high.
        spare_share: whether every class has one share more than nodes take.
        skip_hub: whether node 0 gets nothing.
        valid_size: samples held out for validation before anything is dealt out: their number, or below 1 their share.
        test_fraction: share of a dataset without official test set that is held out for testing, in [0, 1).
        seed: of every draw.

    Raises:
        ValueError: for numbers out of range.
    """

    def __init__(
        self,
        *,
        classes_per_node: int,
        low: float,
        high: float,
        spare_share: bool,
        skip_hub: bool,
        valid_size: float,
        test_fraction: float,
        seed: int,
    ) -> None:
        if classes_per_node < 1:
            raise ValueError(f"partition.classes_per_node={classes_per_node}: at least 1 is needed")
        if not 0 < low <= high < np.inf:
            raise ValueError(f"partition.low={low}, partition.high={high}: expected 0 < low <= high")
        if valid_size < 0 or (valid_size >= 1 and valid_size != int(valid_size)):
            raise ValueError(f"partition.valid_size={valid_size}: expected a share in [0, 1) or a whole number")
        if not 0 <= test_fraction < 1:
            raise ValueError(f"partition.test_fraction={test_fraction}: must be in [0, 1)")
        self.classes_per_node = classes_per_node
        self.low = low
        self.high = high
        self.spare_share = spare_share
        self.skip_hub = skip_hub
        self.valid_size = valid_size
        self.test_fraction = test_fraction
        self.seed = seed

    def assign(self, num_classes: int, num_holders: int) -> Assignment:
        """Draws the classes and shares of the nodes that hold data.

        Raises:
            ValueError: for more classes per node than there are, or when the number of shares is no multiple of C.
        """
        wanted = self.classes_per_node * num_holders
        if self.classes_per_node > num_classes:
            raise ValueError(
                f"partition.classes_per_node={self.classes_per_node}: the dataset has {num_classes} classes, so at "
                "most that many"
            )
        if not self.spare_share and wanted % num_classes:
            raise ValueError(
                f"partition.spare_share=false: {num_holders} nodes with {self.classes_per_node} classes each take "
                f"{wanted} shares, which must be a multiple of the {num_classes} classes; or use spare_share=true"
            )
        rng = generator(self.seed, "partition/class_shards")
        num_shares = wanted // num_classes + self.spare_share
        shares = rng.uniform(self.low, self.high, size=(num_classes, num_shares))
        shares /= shares.sum(axis=1, keepdims=True)
        left = np.full(num_classes, num_shares)
        classes = np.empty((num_holders, self.classes_per_node), dtype=np.int64)
        taken = np.empty(classes.shape)
        for node in range(num_holders):
            for place in range(self.classes_per_node):
                chosen = rng.choice(np.flatnonzero(left == left.max()))
                left[chosen] -= 1
                classes[node, place] = chosen
                taken[node, place] = shares[chosen, left[chosen]]
        return Assignment(classes, taken)

    def split(self, samples: Samples, num_nodes: int) -> tuple[NodeIndices, ...]:
        """Holds out validation samples, then deals each split out by the same classes and shares."""
        require_nodes_beside_hub(num_nodes, skip_hub=self.skip_hub)
        labels = samples.labels.numpy()
        pool, test = hold_out(labels, samples.num_train, self.test_fraction, self.seed)
        # The small number corrects the rounding of products such as 0.29 * 100.
        num_valid = int(self.valid_size if self.valid_size >= 1 else self.valid_size * len(pool) + 1e-9)
        if num_valid >= len(pool):
            raise ValueError(
                f"partition.valid_size={self.valid_size:g}: the dataset has {len(pool)} training samples, and some of "
                "them must be left to train on"
            )
        pool = generator(self.seed, "partition/order").permutation(pool)
        assignment = self.assign(samples.num_classes, num_nodes - self.skip_hub)
        train, valid, tested = (
            self._deal(name, rows, labels[rows], samples.num_classes, assignment)
            for name, rows in (("train", pool[num_valid:]), ("valid", pool[:num_valid]), ("test", test))
        )
        nodes = tuple(NodeIndices(*rows) for rows in zip(train, valid, tested, strict=True))
        return with_empty_hub(nodes) if self.skip_hub else nodes

    def _deal(
        self, name: str, rows: IntArray, labels: IntArray, num_classes: int, assignment: Assignment
    ) -> list[IntArray]:
        """The rows of one split that every node takes; ``labels`` are those of ``rows``."""
        order = generator(self.seed, f"partition/class_shards/{name}").permutation(len(rows))
        by_class = [rows[order[labels[order] == label]] for label in range(num_classes)]
        start = np.zeros(num_classes, dtype=np.int64)
        dealt = []
        for classes, shares in zip(assignment.classes, assignment.shares, strict=True):
            parts = []
            for label, share in zip(classes, shares, strict=True):
                stop = start[label] + int(share * len(by_class[label]))
                parts.append(by_class[label][start[label] : stop])
                start[label] = stop
            dealt.append(np.concatenate(parts))
        return dealt
