"""Hyper-representation: the feature layers are the outer variable, the linear head is the inner variable.

Update equations, with x the parameters of all layers but the last and y those of the last, both shared by all nodes:
    g_i(x, y) = mean over training samples CE + weight_decay / 2 ||y||^2,    f_i(x, y) = mean over validation samples CE
so that g_i is strongly convex in y. A row of hyperparameters is x, a row of parameters y.
Needs: dataset, partition, and a model that is an ``nn.Sequential`` ending with a linear layer.
Sends: nothing; problems compute.
Source: L. Franceschi et al., "Bilevel Programming for Hyperparameter Optimization and Meta-Learning", ICML 2018;
learned by decentralized nodes in C2DFB, arXiv 2410.14115, of which this is a re-implementation from the public abstract
and standard components.
Departures: none known.

Shapes: N local nodes, D parameters of the head, H parameters of the other layers.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import ClassVar, Self

import torch
from torch import Tensor

from simulator.arrays import IntArray
from simulator.compute.executors import Batch, Executor, VmapExecutor
from simulator.data.base import NodeData
from simulator.data.partitions.dealing import require_validation_samples
from simulator.data.sampling import MinibatchSampler
from simulator.problems.base import Setting
from simulator.problems.classification import Classification


class HyperRepresentation(Classification):
    """Features that are shared and tuned on validation samples.

    Args:
        batch_size: samples per node and step, of the training and of the validation set; None for the full batch.
        drop_last: leave out the smaller last batch of an epoch.
        weight_decay: coefficient of ||y||^2 / 2 in g_i.
    """

    hparams_enter_outer: ClassVar[bool] = False

    def __init__(self, *, batch_size: int | None, drop_last: bool, weight_decay: float) -> None:
        super().__init__(batch_size=batch_size, drop_last=drop_last, weight_decay=weight_decay, outer_split="valid")

    def setup(self, setting: Setting) -> None:
        super().setup(setting)
        require_validation_samples(self.data.valid.sizes, setting.nodes)
        self.num_params -= self.num_hparams

    def count_hparams(self, data: NodeData) -> int:
        self._feature_function, self._head_function = self.function.split_head()
        return self._feature_function.layout.num_params

    def l2_coefficients(self, hparams: Tensor) -> Tensor | float:
        return 0.0  # of rows with all parameters; that of the head is added here

    def _prepare(self) -> None:
        super()._prepare()
        self._is_noisy = self.data.augmentation is not None or bool(self.function.dropout(self.data.input_shape))
        self._kept: dict[int, tuple[Tensor, list[Batch]]] = {}

    def part(self, positions: IntArray) -> Self:
        some = super().part(positions)
        some._kept = {}
        return some

    def init_params(self) -> Tensor:
        return self.initial_rows()[:, self.num_hparams :].clone()

    def init_hparams(self) -> Tensor:
        return self.initial_rows()[:, : self.num_hparams].clone()

    def add_grad_(
        self, out: Tensor, params: Tensor, hparams: Tensor, step: int | IntArray | None, alpha: float
    ) -> None:
        if out is params:
            params = params.clone()
        self._add_head_gradient_(out, params, hparams, self._train, step, alpha)
        out.add_(params, alpha=alpha * self.weight_decay)

    def outer_grad(self, params: Tensor, hparams: Tensor, step: int | None = None) -> Tensor:
        out = torch.zeros_like(params)
        self._add_head_gradient_(out, params, hparams, self._outer, step, 1.0)
        return out

    def inner_grads(self, params: Tensor, hparams: Tensor, step: int | None) -> tuple[Tensor, Tensor]:
        along_params, along_hparams = self._gradients(params, hparams, self._train, step)
        return along_params.add_(params, alpha=self.weight_decay), along_hparams

    def outer_grads(self, params: Tensor, hparams: Tensor, step: int | None = None) -> tuple[Tensor, Tensor]:
        return self._gradients(params, hparams, self._outer, step)

    def second_order(self, params: Tensor, hparams: Tensor, vector: Tensor, step: int | None) -> tuple[Tensor, Tensor]:
        rows, along = torch.cat([hparams, params], 1), torch.cat([torch.zeros_like(hparams), vector], 1)
        products, _ = super().second_order(rows, hparams, along, step)
        along_hparams, along_params = products.split([self.num_hparams, self.num_params], dim=1)
        return along_params + self.weight_decay * vector, along_hparams.contiguous()

    def evaluate(self, params: Tensor, hparams: Tensor) -> dict[str, Tensor]:
        return super().evaluate(torch.cat([hparams, params], 1), hparams)

    def _gradients(
        self, params: Tensor, hparams: Tensor, sampler: MinibatchSampler, step: int | None
    ) -> tuple[Tensor, Tensor]:
        """Gradients of the mean loss with respect to params [N, D] and hparams [N, H]."""
        rows = torch.cat([hparams, params], 1)
        out, executor = torch.zeros_like(rows), self._executor("first_order")
        for batch in sampler.batches(step, rows.dtype):
            executor.add_gradient_(out, rows, hparams, batch, 1.0)
        along_hparams, along_params = out.split([self.num_hparams, self.num_params], dim=1)
        return along_params.contiguous(), along_hparams.contiguous()

    def _add_head_gradient_(
        self,
        out: Tensor,
        params: Tensor,
        hparams: Tensor,
        sampler: MinibatchSampler,
        step: int | IntArray | None,
        alpha: float,
    ) -> None:
        """Adds ``alpha`` times the gradient of the mean loss with respect to params [N, D] to ``out``."""
        self._executor("first_order")
        head = self.executors.build("first_order", self._head_function, self.head)
        for batch in self._featured(hparams, sampler, step):
            head.add_gradient_(out, params, hparams, batch, alpha)

    def _featured(self, hparams: Tensor, sampler: MinibatchSampler, step: int | IntArray | None) -> Iterator[Batch]:
        """Batches whose inputs are the features computed by the layers with parameters ``hparams`` [N, H].

        An inner loop evaluates many steps at the same hyperparameters, so that their features are cached.
        """
        whole = step is None or (sampler.is_full_batch and not self._is_noisy)
        kept = self._kept.get(id(sampler))
        if whole and kept is not None and torch.equal(kept[0], hparams):
            yield from kept[1]
            return
        if self.executors.names["first_order"] == "batched":
            features: Executor = VmapExecutor(self._feature_function, self.head)
        else:
            features = self.executors.build("first_order", self._feature_function, self.head)
        batches = []
        for batch in sampler.batches(step, hparams.dtype):
            featured = replace(batch, inputs=features.outputs(hparams, batch), masks=None)
            if whole:
                batches.append(featured)
            yield featured
        if whole:
            self._kept[id(sampler)] = (hparams.clone(), batches)
