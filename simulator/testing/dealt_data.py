"""A small data set that is dealt out by hand."""

from collections.abc import Sequence

import numpy as np
import torch

from simulator.data.base import Dataset, NodeIndices, Partition, Samples
from simulator.data.sparse import to_torch

NUM_FEATURES, NUM_CLASSES = 4, 3
SIZES = ((7, 5, 4), (12, 0, 2), (3, 4, 0), (20, 6, 3), (1, 1, 1))
"""Training, validation and test samples of five nodes."""


class Fixed(Dataset):
    """Normal features; ``sparse`` sets two thirds of them to 0 and stores the rest only."""

    def __init__(self, num_samples: int, *, sparse: bool = False) -> None:
        rng = np.random.default_rng(0)
        inputs = rng.standard_normal((num_samples, NUM_FEATURES))
        labels = torch.from_numpy(rng.integers(0, NUM_CLASSES, num_samples))
        if sparse:
            from scipy.sparse import csr_matrix

            inputs[rng.random(inputs.shape) < 2 / 3] = 0
            stored = to_torch(csr_matrix(inputs), torch.float64)
        self.dense = torch.from_numpy(inputs)
        self.samples = Samples(
            inputs=stored if sparse else self.dense, labels=labels, num_classes=NUM_CLASSES, num_train=num_samples
        )

    def load(self) -> Samples:
        return self.samples


class Dealt(Partition):
    """Consecutive rows for every node's training, validation and test set, or one test set for all."""

    def __init__(self, sizes: Sequence[Sequence[int]], *, shared_test: bool = False) -> None:
        self.nodes: list[NodeIndices] = []
        start = 0
        for counts in sizes:
            train, valid, test = (
                np.arange(end - count, end) for count, end in zip(counts, start + np.cumsum(counts), strict=True)
            )
            start += sum(counts)
            self.nodes.append(NodeIndices(train, valid, self.nodes[0].test if shared_test and self.nodes else test))
        self.num_samples = start

    def split(self, samples: Samples, num_nodes: int) -> tuple[NodeIndices, ...]:
        return tuple(self.nodes)
