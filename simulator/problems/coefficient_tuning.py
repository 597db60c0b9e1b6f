"""Tuning one regularization coefficient per feature of a linear classifier that all nodes share.

Update equations, with y [F, C] a linear model and x [F] log-coefficients, shared by all nodes:
    g_i(x, y) = mean over training samples CE(y' a, b) + coefficient / 2 sum_jk exp(x_j) y_jk^2
    f_i(x, y) = mean over validation samples CE(y' a, b) + outer_regularization / 2 ||x||^2
with coefficient = regularization, divided by F C where ``scale_regularization`` asks for the mean over the entries.
Needs: dataset and partition; no model, because it is always linear.
Sends: nothing; problems compute.
Source: the loss of stocBiO (K. Ji, J. Yang, Y. Liang, "Bilevel Optimization: Convergence Analysis and Enhanced Design",
ICML 2021, and its code); tuned by decentralized nodes in C2DFB, arXiv 2410.14115, of which this is a
re-implementation from the public abstract and standard components.
Departures: none known; x is not clamped here.

Shapes: N local nodes, D = F C parameters, H = F hyperparameters.
"""

import math
from typing import ClassVar

import torch
from torch import Tensor

from simulator.arrays import IntArray
from simulator.checks import require_positive
from simulator.data.base import NodeData, Split
from simulator.data.loading import load_node_data
from simulator.data.partitions.dealing import require_validation_samples
from simulator.data.sampling import MinibatchSampler
from simulator.problems.base import BilevelProblem, Facts, Setting
from simulator.problems.exponential_ridge import ExponentialRidge
from simulator.problems.softmax_regression import SoftmaxRegression, Steps


class CoefficientTuning(BilevelProblem):
    """A linear classifier whose features are regularized one by one.

    Args:
        batch_size: samples per node and step, of the training and of the validation set; None for the full batch.
        drop_last: leave out the smaller last batch of an epoch.
        regularization: of the sum, or of the mean over the entries, at x = 0.
        scale_regularization: whether it is the mean over the F C entries.
        outer_regularization: coefficient of ||x||^2 / 2 in f_i.
    """

    uses_data: ClassVar[bool] = True
    uses_model: ClassVar[bool] = False

    def __init__(
        self,
        *,
        batch_size: int | None,
        drop_last: bool,
        regularization: float,
        scale_regularization: bool,
        outer_regularization: float,
    ) -> None:
        if batch_size is not None and batch_size < 1:
            raise ValueError(f"problem.batch_size={batch_size}: expected a positive number, or null for the full batch")
        require_positive("problem.regularization", regularization)
        if outer_regularization < 0:
            raise ValueError(f"problem.outer_regularization={outer_regularization}: must not be negative")
        self.batch_size = batch_size
        self.drop_last = drop_last
        self.regularization = regularization
        self.scale_regularization = scale_regularization
        self.outer_regularization = outer_regularization

    def setup(self, setting: Setting) -> None:
        assert setting.dataset is not None
        assert setting.partition is not None
        self.prepare(
            setting,
            load_node_data(
                setting.dataset,
                setting.partition,
                setting.num_nodes,
                setting.nodes,
                setting.dtype,
                setting.device,
                keep_sparse=True,
            ),
        )

    def prepare(self, setting: Setting, data: NodeData) -> None:
        """Sets the attributes that depend on the data of the local nodes."""
        require_validation_samples(data.valid.sizes, setting.nodes)
        self._setting = setting
        self.data = data
        self.num_hparams = math.prod(data.input_shape)
        self.num_params = self.num_hparams * data.num_classes
        self.ridge = ExponentialRidge(self.regularization / (self.num_params if self.scale_regularization else 1))
        self._sampler = self._sample(data.train, "minibatch")
        self._train = SoftmaxRegression(data.train, data.num_classes, self._sampler)
        self._outer_sampler = self._sample(data.valid, "minibatch/outer")
        self._outer = SoftmaxRegression(data.valid, data.num_classes, self._outer_sampler)
        self._test = SoftmaxRegression(data.test, data.num_classes)

    def _sample(self, split: Split, stream: str) -> MinibatchSampler:
        return MinibatchSampler(
            split,
            self._setting.nodes,
            batch_size=self.batch_size,
            drop_last=self.drop_last,
            seed=self._setting.seed,
            stream=stream,
            replacement=self.data.replacement,
        )

    def _zeros(self, columns: int) -> Tensor:
        setting = self._setting
        return torch.zeros(len(setting.nodes), columns, dtype=setting.dtype, device=setting.device)

    def init_params(self) -> Tensor:
        return self._zeros(self.num_params)

    def init_hparams(self) -> Tensor:
        return self._zeros(self.num_hparams)

    def add_grad_(self, out: Tensor, params: Tensor, hparams: Tensor, step: Steps, alpha: float) -> None:
        # Everything is read from ``params`` before ``out``, which may be the same tensor, is written to.
        pulls = self._train.pulls(params, step)
        self.ridge.add_params_gradient_(out, params, hparams, alpha)
        self._train.add_pulls_(out, pulls, alpha)

    def grad_at(self, params: Tensor, hparams: Tensor, steps: IntArray) -> Tensor:
        out = torch.zeros_like(params)
        self.add_grad_(out, params, hparams, steps, 1.0)
        return out

    def batch(self, step: int | IntArray, *, outer: bool = False) -> list[IntArray]:
        return (self._outer_sampler if outer else self._sampler).positions(step)

    def batch_sizes(self, step: int | IntArray | None, *, outer: bool = False) -> IntArray:
        return (self._outer_sampler if outer else self._sampler).batch_sizes(step)

    def epoch_lengths(self) -> IntArray:
        return self._sampler.epoch_lengths

    def sample_counts(self) -> IntArray:
        return self.data.train_sizes

    def inner_grads(self, params: Tensor, hparams: Tensor, step: int | None) -> tuple[Tensor, Tensor]:
        return self.grad(params, hparams, step), self.ridge.hparams_gradient(params, hparams)

    def outer_grads(self, params: Tensor, hparams: Tensor, step: int | None = None) -> tuple[Tensor, Tensor]:
        return self.outer_grad(params, hparams, step), self.outer_regularization * hparams

    def outer_grad(self, params: Tensor, hparams: Tensor, step: int | None = None) -> Tensor:
        out = torch.zeros_like(params)
        self._outer.add_pulls_(out, self._outer.pulls(params, step))
        return out

    def second_order(self, params: Tensor, hparams: Tensor, vector: Tensor, step: int | None) -> tuple[Tensor, Tensor]:
        along_params = self._train.hessian_products(params, vector, step)
        self.ridge.add_params_gradient_(along_params, vector, hparams)
        return along_params, self.ridge.cross_product(params, hparams, vector)

    def evaluate(self, params: Tensor, hparams: Tensor) -> dict[str, Tensor]:
        metrics = {}
        for name, part in (("train", self._train), ("valid", self._outer), ("test", self._test)):
            metrics[f"{name}/loss"], metrics[f"{name}/accuracy"] = part.score(params)
        metrics["outer/loss"] = metrics["valid/loss"] + 0.5 * self.outer_regularization * hparams.square().sum(1)
        return metrics

    def facts(self) -> Facts:
        return Facts(label_counts=self.data.label_counts)
