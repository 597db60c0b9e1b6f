"""Label skew by Dirichlet distributions per node, for two groups of nodes with parameters of their own.

**Definition.** Node i draws its mixture of the C classes, p_i ~ Dirichlet(a_i 1_C), and gets the share
p_ic / sum_j p_jc of the samples of class c, drawn at random, rounded so that every sample has an owner. The last
``num_novel`` nodes take their concentrations a_i from ``novel_alphas`` in turn, the others have a_i = ``alpha``.

**Source.** The study of nodes that come late in A. Shamsian et al., "Personalized Federated Learning using
Hypernetworks", ICML 2021 (arXiv 2103.04628), where a_i is 0.1 for nodes that are trained with, and 0.1 to 1 for others.

**Departures.** All mixtures are drawn anew until every node has ``min_samples`` samples, at most 100 times. A hub may
be left without data.
"""

from collections.abc import Sequence

import numpy as np

from simulator.arrays import FloatArray, IntArray
from simulator.data.partitions.dealing import DealtPartition, TestSet, require_nodes_beside_hub
from simulator.data.partitions.dirichlet import MAX_DRAWS, check_dirichlet
from simulator.randomness import generator


class ClassMixture(DealtPartition):
    """A mixture of classes for every node.

    Args:
        alpha: concentration of most nodes, positive.
        num_novel: nodes at the end that have other concentrations.
        novel_alphas: the concentrations of these nodes, repeated in this order, positive.
        min_samples: fewest samples of a node, all its splits together.
        skip_hub: whether node 0 gets nothing.
        valid_fraction, test_fraction, test, seed: as in
            :class:`simulator.data.partitions.dealing.DealtPartition`.

    Raises:
        ValueError: for numbers out of range.
    """

    def __init__(
        self,
        *,
        alpha: float,
        num_novel: int,
        novel_alphas: Sequence[float],
        min_samples: int,
        skip_hub: bool,
        valid_fraction: float,
        test_fraction: float,
        test: TestSet,
        seed: int,
    ) -> None:
        super().__init__(valid_fraction=valid_fraction, test_fraction=test_fraction, test=test, seed=seed)
        check_dirichlet(alpha, min_samples)
        if num_novel < 0:
            raise ValueError(f"partition.num_novel={num_novel}: must not be negative")
        if num_novel and not (novel_alphas and all(0 < value < np.inf for value in novel_alphas)):
            raise ValueError(f"partition.novel_alphas={list(novel_alphas)}: expected positive and finite numbers")
        self.alpha = alpha
        self.num_novel = num_novel
        self.novel_alphas = tuple(novel_alphas)
        self.min_samples = min_samples
        self.skip_hub = skip_hub

    def alphas(self, num_holders: int) -> FloatArray:
        """The concentration of every node that holds data.

        Raises:
            ValueError: when there are fewer nodes than ``num_novel``.
        """
        if self.num_novel > num_holders:
            raise ValueError(f"partition.num_novel={self.num_novel}: only {num_holders} nodes hold data")
        alphas = np.full(num_holders, self.alpha, dtype=np.float64)
        for place in range(self.num_novel):
            alphas[num_holders - self.num_novel + place] = self.novel_alphas[place % len(self.novel_alphas)]
        return alphas

    def deal(self, labels: IntArray, num_classes: int, num_nodes: int) -> IntArray:
        """Divides every class among the nodes by their mixtures."""
        require_nodes_beside_hub(num_nodes, skip_hub=self.skip_hub)
        alphas = self.alphas(num_nodes - self.skip_hub)
        sizes = np.bincount(labels, minlength=num_classes)
        most = 0
        for draw in range(MAX_DRAWS):
            rng = generator(self.seed, "partition/class_mixture", step=draw)
            mixtures = np.stack([rng.dirichlet(np.full(num_classes, alpha)) for alpha in alphas])
            ends = np.cumsum(mixtures / np.maximum(mixtures.sum(axis=0), 1e-300), axis=0)
            ends[-1] = 1.0
            counts = np.diff(np.floor(ends * sizes + 0.5).astype(np.int64), axis=0, prepend=0)
            most = max(most, int(counts.sum(axis=1).min()))
            if most >= self.min_samples:
                break
        else:
            raise ValueError(
                f"partition.min_samples={self.min_samples}: none of {MAX_DRAWS} draws gave it to each of {len(alphas)} "
                f"nodes (the best gave {most}); use fewer nodes or larger concentrations"
            )
        order = generator(self.seed, "partition/within_groups").permutation(len(labels))
        order = order[np.argsort(labels[order], kind="stable")]
        owners = np.empty(len(labels), dtype=np.int64)
        owners[order] = np.repeat(np.tile(np.arange(self.skip_hub, num_nodes), num_classes), counts.T.ravel())
        return owners
