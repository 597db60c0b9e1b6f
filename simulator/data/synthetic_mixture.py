r"""A mixture of linear binary classifiers, made for every node: the toy data of the hypergradient experiments.

**Definition.** Node i draws mixture weights pi_i ~ Dirichlet(alpha 1_K); component k has a direction
theta_k ~ U(-box, box)^dim. Each of a node's three sets has counts c ~ Multinomial(m, pi_i), features
x ~ U(-box, box)^dim, and labels round(sigmoid(x . theta_k + eps)), eps ~ N(0, noise^2), where component k labels its
c_k rows; then rows are shuffled.

**Source.** N. Terashita and S. Hara, "Decentralized Hyper-Gradient Computation over Time-Varying Directed Networks",
arXiv 2210.02129, whose code (hitachi-rd-cv/pdbo-hgp) takes the generator from O. Marfoq et al., "Federated Multi-Task
Learning under a Mixture of Distributions", NeurIPS 2021 (omarfoq/FedEM). The numbers are drawn from NumPy's legacy
generator in the order of that code, so that equal seeds give equal data.

**Departures.** With ``legacy_labels`` none: there, component k labels the *first* c_k rows, a later component
overwrites an earlier one, and rows beyond the largest count keep label 0. Without it, every component labels rows of
its own.
"""

import numpy as np
import torch

from simulator.arrays import FloatArray, IntArray
from simulator.data.base import Dataset, NodeIndices, Samples


class SyntheticMixture(Dataset):
    """Binary classification data that differ from node to node.

    Args:
        num_nodes: number of nodes.
        dim: number of features.
        num_components: number of linear classifiers that are mixed.
        alpha: concentration of the Dirichlet distribution of a node's mixture weights; small means unlike nodes.
        noise: standard deviation of the noise on the logits.
        num_train, num_valid, num_test: samples per node in each set.
        box: features and directions lie in [-box, box].
        legacy_labels: whether labels are given as in the original code (see the module's text).
        seed: of NumPy's legacy generator.

    Raises:
        ValueError: when a number is out of range.
    """

    def __init__(
        self,
        *,
        num_nodes: int,
        dim: int,
        num_components: int,
        alpha: float,
        noise: float,
        num_train: int,
        num_valid: int,
        num_test: int,
        box: float,
        legacy_labels: bool,
        seed: int,
    ) -> None:
        for name, count in (
            ("num_nodes", num_nodes),
            ("dim", dim),
            ("num_components", num_components),
            ("num_train", num_train),
        ):
            if count < 1:
                raise ValueError(f"dataset.{name}={count}: at least 1 is needed")
        for name, number in (("num_valid", num_valid), ("num_test", num_test), ("noise", noise)):
            if not number >= 0:
                raise ValueError(f"dataset.{name}={number}: must not be negative")
        for name, number in (("alpha", alpha), ("box", box)):
            if not number > 0:
                raise ValueError(f"dataset.{name}={number}: must be positive")
        if not 0 <= seed < 2**32:
            raise ValueError(f"dataset.seed={seed}: NumPy's legacy generator takes 0..2**32-1")
        self.num_nodes = num_nodes
        self.dim = dim
        self.num_components = num_components
        self.alpha = alpha
        self.noise = noise
        self.split_sizes = (num_train, num_valid, num_test)
        self.box = box
        self.legacy_labels = legacy_labels
        self.seed = seed

    def load(self) -> Samples:
        """Draws the data of all nodes."""
        rng = np.random.RandomState(self.seed)
        # The original draws sample sizes here and clips all of them to num_train; the draws only move the generator.
        rng.lognormal(4.0, 2.0, self.num_nodes)
        mixture_weights = rng.dirichlet(np.full(self.num_components, self.alpha), size=self.num_nodes)
        directions = rng.uniform(-self.box, self.box, size=(self.num_components, self.dim))

        starts = np.cumsum([0, *(size * self.num_nodes for size in self.split_sizes)])
        inputs = np.empty((starts[-1], self.dim), dtype=np.float32)
        labels = np.empty(starts[-1], dtype=np.int64)
        node_indices = []
        for node in range(self.num_nodes):
            rows = [
                start + np.arange(node * size, (node + 1) * size)
                for start, size in zip(starts[:3], self.split_sizes, strict=True)
            ]
            for split_rows in rows:
                features, targets = self._draw(rng, len(split_rows), mixture_weights[node], directions)
                inputs[split_rows], labels[split_rows] = features, targets
            node_indices.append(NodeIndices(*rows))
        return Samples(
            inputs=torch.from_numpy(inputs),
            labels=torch.from_numpy(labels),
            num_classes=2,
            num_train=int(starts[2]),
            node_indices=tuple(node_indices),
        )

    def _draw(
        self,
        rng: np.random.RandomState,
        num_samples: int,
        weights: FloatArray,
        directions: FloatArray,
    ) -> tuple[FloatArray, IntArray]:
        """Features [m, dim] and labels [m] of one set of one node."""
        counts = rng.multinomial(num_samples, weights)
        features = rng.uniform(-self.box, self.box, size=(num_samples, self.dim))
        labels = np.zeros(num_samples, dtype=np.int64)
        start = 0
        for count, direction in zip(counts, directions, strict=True):
            rows = slice(0, count) if self.legacy_labels else slice(start, start + count)
            logits = features[rows] @ direction + rng.normal(0.0, self.noise, size=count)
            labels[rows] = np.round(1 / (1 + np.exp(-logits))).astype(np.int64)
            start += count
        order = np.arange(num_samples)
        rng.shuffle(order)
        return features[order], labels[order]
