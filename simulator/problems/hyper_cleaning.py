"""Data hyper-cleaning: weights of training samples, some with wrong labels, tuned on clean validation samples.

Update equations, with one weight per training sample of all nodes, x [H] shared by all of them, and y the model:
    g_i(x, y) = mean over training samples m of sigmoid(x_m) CE(y; a_m, corrupted b_m) + weight_decay / 2 ||y||^2
    f_i(x, y) = mean over validation samples CE(y; a, b)
A share ``corruption`` of every node's training labels, rounded down, is replaced by another class, once. Node i's
samples have positions first_i, first_i + 1, ... in x, with the samples of nodes 0..i-1 before them.
Needs: dataset, partition, model; with model=logistic_regression g_i is strongly convex in y.
Sends: nothing; problems compute.
Source: A. Shaban et al., "Truncated Back-propagation for Bilevel Optimization", AISTATS 2019; the setting of stocBiO
(K. Ji, J. Yang, Y. Liang, ICML 2021), whose c ||y||^2 is ``weight_decay`` = 2 c.
Departures: labels are corrupted once, where some public code corrupts them again in every step.

Shapes: N local nodes, M all nodes, D parameters, H training samples of all nodes, S of the largest local node.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from simulator import randomness
from simulator.arrays import IntArray
from simulator.compute.executors import Head
from simulator.data.base import NodeData
from simulator.data.partitions.dealing import require_validation_samples
from simulator.problems.base import Setting
from simulator.problems.classification import Classification
from simulator.problems.heads import WeighedSamples


class HyperCleaning(Classification):
    """One shared hyperparameter per training sample of any node.

    Args:
        batch_size: samples per node and step, of the training and of the validation set; None for the full batch.
        drop_last: leave out the smaller last batch of an epoch.
        weight_decay: coefficient of ||y||^2 / 2 in g_i.
        corruption: share of every node's training labels that are wrong, in [0, 1].
    """

    hparams_enter_outer: ClassVar[bool] = False

    def __init__(self, *, batch_size: int | None, drop_last: bool, weight_decay: float, corruption: float) -> None:
        super().__init__(batch_size=batch_size, drop_last=drop_last, weight_decay=weight_decay, outer_split="valid")
        if not 0 <= corruption <= 1:
            raise ValueError(f"problem.corruption={corruption}: must be in [0, 1]")
        self.corruption = corruption

    def build_head(self, data: NodeData) -> Head:
        return WeighedSamples()

    def count_hparams(self, data: NodeData) -> int:
        return int(data.train_sizes.sum())

    def load_data(self, setting: Setting) -> NodeData:
        data = super().load_data(setting)
        require_validation_samples(data.valid.sizes, setting.nodes)
        labels = data.train.labels.cpu().numpy().copy()
        self.is_corrupted = np.zeros(len(labels), dtype=bool)
        for node, offset, size in zip(setting.nodes, data.train.offsets, data.train.sizes, strict=True):
            rng = randomness.generator(setting.seed, "label_corruption", node=node)
            rows = offset + rng.permutation(size)[: int(self.corruption * size + 1e-9)]
            labels[rows] = (labels[rows] + rng.integers(1, data.num_classes, len(rows))) % data.num_classes
            self.is_corrupted[rows] = True
        return replace(data, train=replace(data.train, labels=torch.from_numpy(labels).to(data.train.labels.device)))

    def _prepare(self) -> None:
        super()._prepare()
        ends = np.cumsum(self.data.train_sizes)
        first = (ends - self.data.train_sizes)[self._keys]
        slots = np.arange(int(self.data.train.sizes.max(initial=0)))
        # Slots past a node's own samples hold a position that no batch of the node uses.
        positions = np.minimum(first[:, None] + slots, self.num_hparams - 1)
        self._positions = torch.from_numpy(positions).to(self.data.train.labels.device)

    def part(self, positions: IntArray) -> Self:
        some = super().part(positions)
        some._positions = self._positions[torch.from_numpy(positions).to(self._positions.device)]
        return some

    def replicate(self, streams: Sequence[int]) -> "HyperCleaning":
        raise ValueError("problem: HyperCleaning cannot be computed for several runs at once")

    def _own(self, hparams: Tensor) -> Tensor:
        """The nodes' own entries, [N, S]."""
        return hparams.gather(1, self._positions)

    def _placed(self, own: Tensor, hparams: Tensor) -> Tensor:
        """The opposite: values [N, S] of the nodes' own entries among zeros, [N, H]."""
        return torch.zeros_like(hparams).scatter_add_(1, self._positions, own)

    def add_grad_(
        self, out: Tensor, params: Tensor, hparams: Tensor, step: int | IntArray | None, alpha: float
    ) -> None:
        super().add_grad_(out, params, self._own(hparams), step, alpha)

    def inner_grads(self, params: Tensor, hparams: Tensor, step: int | None) -> tuple[Tensor, Tensor]:
        along_params, own = super().inner_grads(params, self._own(hparams), step)
        return along_params, self._placed(own, hparams)

    def second_order(self, params: Tensor, hparams: Tensor, vector: Tensor, step: int | None) -> tuple[Tensor, Tensor]:
        along_params, own = super().second_order(params, self._own(hparams), vector, step)
        return along_params, self._placed(own, hparams)

    def evaluate(self, params: Tensor, hparams: Tensor) -> dict[str, Tensor]:
        metrics = super().evaluate(params, hparams)
        weights = self._own(hparams).sigmoid()
        split = self.data.train
        means = weights.new_full((2, len(weights)), float("nan"))
        for node, (offset, size) in enumerate(zip(split.offsets.tolist(), split.sizes.tolist(), strict=True)):
            corrupted = torch.from_numpy(self.is_corrupted[offset : offset + size]).to(weights.device)
            means[0, node] = weights[node, :size][~corrupted].mean()
            means[1, node] = weights[node, :size][corrupted].mean()
        return metrics | {"train/weight_of_clean": means[0], "train/weight_of_corrupted": means[1]}
