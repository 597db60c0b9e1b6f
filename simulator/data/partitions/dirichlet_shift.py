"""Label skew by a Dirichlet distribution over clusters of labels, and a shift of the features by clusters of nodes.

**Definition.** Labels are shuffled and cut into clusters; a random share ``sample_fraction`` of the pool is kept; the
samples of every label cluster are shared out by Dirichlet(alpha 1_M) weights and multinomial counts. Nodes are
shuffled and cut into ``num_shift_clusters`` nearly equal clusters, and cluster c normalises its images, scaled to
[0, 1], as (x - a_c) / b_c with a_c ~ U(0, 1), b_c ~ U(min_std, 1), in place of the dataset's own normalisation.

**Source.** The personalization data of N. Terashita and S. Hara, arXiv 2210.02129 (code hitachi-rd-cv/pdbo-hgp), whose
label part is that of O. Marfoq et al., NeurIPS 2021 (omarfoq/FedEM).

**Departures.** Other random generators, hence other draws of the same distributions; b_c is bounded away from 0
(``min_std=0`` gives the original); all clusters are drawn anew until every node has ``min_samples`` samples.
"""

import numpy as np

from simulator.arrays import FloatArray, IntArray
from simulator.data.partitions.dealing import NOBODY, DealtPartition, TestSet
from simulator.data.partitions.dirichlet import check_dirichlet, deal_groups
from simulator.randomness import generator


class DirichletShift(DealtPartition):
    """Label skew and feature shift together.

    Args:
        alpha: concentration of the Dirichlet distribution, positive.
        num_label_clusters: clusters of labels that are shared out together; None for one per class.
        sample_fraction: share of the pool that is used, in (0, 1].
        min_samples: fewest samples of a node, all its splits together.
        feature_shift: whether clusters of nodes normalise their images differently.
        num_shift_clusters: number of such clusters, at least 1.
        min_std: smallest b_c, in [0, 1).
        valid_fraction, test_fraction, test, seed: as in
            :class:`simulator.data.partitions.dealing.DealtPartition`.

    Raises:
        ValueError: for numbers out of range.
    """

    def __init__(
        self,
        *,
        alpha: float,
        num_label_clusters: int | None,
        sample_fraction: float,
        min_samples: int,
        feature_shift: bool,
        num_shift_clusters: int,
        min_std: float,
        valid_fraction: float,
        test_fraction: float,
        test: TestSet,
        seed: int,
    ) -> None:
        super().__init__(valid_fraction=valid_fraction, test_fraction=test_fraction, test=test, seed=seed)
        check_dirichlet(alpha, min_samples)
        if num_label_clusters is not None and num_label_clusters < 1:
            raise ValueError(
                f"partition.num_label_clusters={num_label_clusters}: at least 1, or null for one per class"
            )
        if not 0 < sample_fraction <= 1:
            raise ValueError(f"partition.sample_fraction={sample_fraction}: must be in (0, 1]")
        if num_shift_clusters < 1:
            raise ValueError(f"partition.num_shift_clusters={num_shift_clusters}: at least 1 is needed")
        if not 0 <= min_std < 1:
            raise ValueError(f"partition.min_std={min_std}: must be in [0, 1)")
        self.alpha = alpha
        self.num_label_clusters = num_label_clusters
        self.sample_fraction = sample_fraction
        self.min_samples = min_samples
        self.shifts_features = feature_shift
        self.num_shift_clusters = num_shift_clusters
        self.min_std = min_std

    def deal(self, labels: IntArray, num_classes: int, num_nodes: int) -> IntArray:
        """Divides every cluster of labels among the nodes."""
        num_clusters = num_classes if self.num_label_clusters is None else self.num_label_clusters
        if num_clusters > num_classes:
            raise ValueError(
                f"partition.num_label_clusters={num_clusters}: the dataset has {num_classes} classes, "
                "so at most that many clusters"
            )
        rng = generator(self.seed, "partition/label_clusters")
        cluster_of = np.empty(num_classes, dtype=np.int64)
        cluster_of[rng.permutation(num_classes)] = np.arange(num_classes) * num_clusters // num_classes
        kept = rng.permutation(len(labels))[: int(self.sample_fraction * len(labels) + 1e-9)]
        owners = np.full(len(labels), NOBODY, dtype=np.int64)
        owners[kept] = deal_groups(
            cluster_of[labels[kept]], num_clusters, num_nodes, self.alpha, self.min_samples, self.seed
        )
        return owners

    def feature_shift(self, num_nodes: int) -> FloatArray | None:
        """Returns (a_c, b_c) of every node, or None where features are not shifted."""
        if not self.shifts_features:
            return None
        rng = generator(self.seed, "partition/feature_shift")
        means = rng.uniform(0.0, 1.0, size=self.num_shift_clusters)
        stds = rng.uniform(self.min_std, 1.0, size=self.num_shift_clusters)
        clusters = np.empty(num_nodes, dtype=np.int64)
        clusters[rng.permutation(num_nodes)] = np.arange(num_nodes) * self.num_shift_clusters // num_nodes
        return np.column_stack([means, stds])[clusters]
