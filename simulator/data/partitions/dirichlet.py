"""Label skew by a Dirichlet distribution: the samples of every class are shared out unevenly among the nodes.

**Definition.** For every class k: p_k ~ Dirichlet(alpha 1_M) over the M nodes, counts_k ~ Multinomial(n_k, p_k), and
node i gets counts_k[i] of the n_k samples of the class, drawn at random. Small alpha gives every node few classes;
large alpha approaches equal shares.

**Source.** M. Yurochkin et al., "Bayesian Nonparametric Federated Learning of Neural Networks", ICML 2019, section 4;
the multinomial counts are those of O. Marfoq et al., "Federated Multi-Task Learning under a Mixture of Distributions",
NeurIPS 2021.

**Departures.** All classes are drawn anew until every node has ``min_samples`` samples, at most 100 times.
"""

import numpy as np

from simulator.arrays import IntArray
from simulator.data.partitions.dealing import DealtPartition, TestSet
from simulator.randomness import generator

MAX_DRAWS = 100


class Dirichlet(DealtPartition):
    """Label skew whose strength is ``alpha``.

    Args:
        alpha: concentration of the Dirichlet distribution, positive.
        min_samples: fewest samples of a node, all its splits together.
        valid_fraction, test_fraction, test, seed: as in
            :class:`simulator.data.partitions.dealing.DealtPartition`.

    Raises:
        ValueError: for numbers out of range.
    """

    def __init__(
        self,
        *,
        alpha: float,
        min_samples: int,
        valid_fraction: float,
        test_fraction: float,
        test: TestSet,
        seed: int,
    ) -> None:
        super().__init__(valid_fraction=valid_fraction, test_fraction=test_fraction, test=test, seed=seed)
        check_dirichlet(alpha, min_samples)
        self.alpha = alpha
        self.min_samples = min_samples

    def deal(self, labels: IntArray, num_classes: int, num_nodes: int) -> IntArray:
        """Divides every class among the nodes."""
        return deal_groups(labels, num_classes, num_nodes, self.alpha, self.min_samples, self.seed)


def check_dirichlet(alpha: float, min_samples: int) -> None:
    """Checks the arguments of a partition that draws from a Dirichlet distribution.

    Raises:
        ValueError: for numbers out of range.
    """
    if not 0 < alpha < np.inf:
        raise ValueError(f"partition.alpha={alpha}: must be positive and finite")
    if min_samples < 1:
        raise ValueError(f"partition.min_samples={min_samples}: at least 1 is needed")


def deal_groups(
    groups: IntArray, num_groups: int, num_nodes: int, alpha: float, min_samples: int, seed: int
) -> IntArray:
    """Divides every group of samples among the nodes by a Dirichlet distribution of its own.

    Args:
        groups: group of every sample, in 0..num_groups-1, shape [S].
        num_groups: number of groups.
        num_nodes: number of nodes.
        alpha: concentration of the Dirichlet distributions.
        min_samples: fewest samples of a node.
        seed: of every draw.

    Returns:
        The node that owns each sample, shape [S].

    Raises:
        ValueError: when no draw gives every node ``min_samples`` samples.
    """
    group_sizes = np.bincount(groups, minlength=num_groups)
    remedy = "use fewer nodes, a larger partition.alpha or a smaller partition.min_samples"
    if num_nodes * min_samples > len(groups):
        raise ValueError(
            f"partition.min_samples={min_samples} for {num_nodes} nodes needs {num_nodes * min_samples} samples and "
            f"there are {len(groups)}; {remedy}"
        )
    most = 0
    for draw in range(MAX_DRAWS):
        rng = generator(seed, "partition/dirichlet", step=draw)
        shares = rng.dirichlet(np.full(num_nodes, alpha), size=num_groups)
        counts = rng.multinomial(group_sizes, shares)
        most = max(most, int(counts.sum(axis=0).min()))
        if most >= min_samples:
            break
    else:
        raise ValueError(
            f"partition.min_samples={min_samples}: none of {MAX_DRAWS} draws with alpha={alpha} gave it to each of "
            f"{num_nodes} nodes (the best gave {most}); {remedy}"
        )
    order = generator(seed, "partition/within_groups").permutation(len(groups))
    order = order[np.argsort(groups[order], kind="stable")]
    owners = np.empty(len(groups), dtype=np.int64)
    owners[order] = np.repeat(np.tile(np.arange(num_nodes), num_groups), counts.ravel())
    return owners
