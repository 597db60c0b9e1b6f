"""Classification with cross-entropy, and its bilevel forms.

Update equations: f_i(x) = mean_j loss(model(x; a_ij), b_ij) + weight_decay / 2 ||x||^2 over node i's training set (or
minibatch); F_i(x) = the bare mean loss on its outer set; r_i = outer_regularization / 2 ||hparams_i||^2.
Needs: dataset, partition, model.
Sends: nothing; problems compute.
Source: Terashita and Hara, arXiv 2210.02129, for the bilevel forms built on it.
Departures: none.

Shapes: N local nodes, D parameters, H hyperparameters, B batch.
"""

import copy
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import ClassVar, Literal, Self

import numpy as np
import torch
from torch import Tensor, nn

from simulator import randomness
from simulator.arrays import IntArray
from simulator.compute.capture import Captured, Function
from simulator.compute.choice import ExecutorChoice
from simulator.compute.executors import Batch, Executor, Head, LoopExecutor
from simulator.compute.local_step import Chosen, LocalStep, add_gradient_
from simulator.data.base import NodeData, Split
from simulator.data.loading import load_node_data
from simulator.data.noisy_sampling import NoisySampler
from simulator.data.sampling import MinibatchSampler
from simulator.padding import padded_copy
from simulator.problems.base import BilevelProblem, Facts, Setting
from simulator.problems.heads import CrossEntropy
from simulator.problems.scores import EVALUATION_BLOCK, score
from simulator.rows import ModelFunction
from simulator.uploads import upload


class Classification(BilevelProblem):
    """Plain classification; subclasses add hyperparameters by another head or another regulariser.

    Args:
        batch_size: samples per node and step, of the training and of the outer set; None for the full batch.
        drop_last: leave out the smaller last batch of an epoch.
        weight_decay: coefficient of ||x||^2 / 2 in f_i.
        outer_split: ``train`` or ``valid``, the samples of F_i.
        outer_regularization: coefficient of ||hparams||^2 / 2 in the outer objective.
        sampling: ``epochs`` to pass through a node's samples in random orders, ``uniform`` to draw every minibatch from
            all of them, each at most once. Partitions that draw with replacement ignore this setting.
    """

    uses_data: ClassVar[bool] = True
    reads_samples: ClassVar[bool] = True
    steps_apart: ClassVar[bool] = True
    hparams_enter_outer: ClassVar[bool] = True
    """Whether the outer loss depends on the hyperparameters; if not, it is the plain loss."""

    def __init__(
        self,
        *,
        batch_size: int | None,
        drop_last: bool,
        weight_decay: float,
        outer_split: Literal["train", "valid"],
        outer_regularization: float = 0.0,
        sampling: Literal["epochs", "uniform"] = "epochs",
    ) -> None:
        if batch_size is not None and batch_size < 1:
            raise ValueError(f"problem.batch_size={batch_size}: expected a positive number, or null for the full batch")
        if outer_split not in ("train", "valid"):
            raise ValueError(f"problem.outer_split={outer_split!r}: expected train or valid")
        if sampling not in ("epochs", "uniform"):
            raise ValueError(f"problem.sampling={sampling!r}: expected epochs or uniform")
        if weight_decay < 0 or outer_regularization < 0:
            raise ValueError("problem.weight_decay and problem.outer_regularization must not be negative")
        self.batch_size = batch_size
        self.drop_last = drop_last
        self.weight_decay = weight_decay
        self.outer_split = outer_split
        self.outer_regularization = outer_regularization
        self.sampling = sampling

    def build_head(self, data: NodeData) -> Head:
        """The loss on logits."""
        return CrossEntropy()

    def count_hparams(self, data: NodeData) -> int:
        """The number H of hyperparameters of a node."""
        return 0

    def initial_hparam(self) -> float:
        """The initial value of every hyperparameter."""
        return 0.0

    def l2_coefficients(self, hparams: Tensor) -> Tensor | float:
        """Coefficient of ||x_i||^2 / 2 in f_i: one number, or [N, 1] where it depends on the hyperparameters."""
        return self.weight_decay

    def add_l2_cross_(self, out: Tensor, params: Tensor, vector: Tensor) -> None:
        """Adds d(coefficient)/dhparams <x_i, v_i> to ``out`` [N, H] where the coefficient depends on hparams."""

    def load_data(self, setting: Setting) -> NodeData:
        """Loads the data of the local nodes."""
        assert setting.dataset is not None
        assert setting.partition is not None
        return load_node_data(
            setting.dataset, setting.partition, setting.num_nodes, setting.nodes, setting.dtype, setting.device
        )

    def setup(self, setting: Setting) -> None:
        self._setting = setting
        self._keys = np.asarray(setting.nodes, dtype=np.int64)
        self.data = self.load_data(setting)
        self._use_model()

    def _use_model(self) -> None:
        """Sets the attributes that depend on the model."""
        setting = self._setting
        assert setting.build_model is not None
        with randomness.torch_seed(setting.seed, "init"):
            module = setting.build_model(input_shape=self.data.input_shape, num_classes=self.data.num_classes)
        self.function = ModelFunction(module)
        self.head = self.build_head(self.data)
        self.num_params = self.function.layout.num_params * self.head.num_learners
        self.num_hparams = self.count_hparams(self.data)
        self._prepare()

    def _prepare(self) -> None:
        """Sets the attributes that depend on which nodes are local."""
        self._train = NoisySampler(
            self.data.train,
            self._keys,
            batch_size=self.batch_size,
            drop_last=self.drop_last,
            seed=self._setting.seed,
            replacement=self.data.replacement,
            uniform=self.sampling == "uniform",
            dropout=self.function.dropout(self.data.input_shape),
            augmentation=self.data.augmentation,
        )
        outer = self.data.train if self.outer_split == "train" else self.data.valid
        self._outer = MinibatchSampler(
            outer,
            self._keys,
            batch_size=self.batch_size,
            drop_last=self.drop_last,
            seed=self._setting.seed,
            stream="minibatch/outer",
            replacement=self.data.replacement,
            uniform=self.sampling == "uniform",
        )
        self.executors = ExecutorChoice(self._setting.compute, self.function, self.head)
        self._graphs = Captured(self._function_of)

    def with_model(self, build_model: Callable[..., nn.Module]) -> Self:
        """This problem for another model, see :class:`simulator.problems.base.Setting`; shares the data."""
        other = copy.copy(self)
        other._setting = replace(self._setting, build_model=build_model)
        other._use_model()
        return other

    def replicate(self, streams: Sequence[int]) -> Self:
        replicas = copy.copy(self)
        copies = len(streams)
        # The streams of copies are keyed by node indices that do not exist.
        replicas._keys = np.add.outer(self._keys, self._setting.num_nodes * np.asarray(streams)).ravel()
        replicas.data = self.data.repeat(copies)
        replicas._prepare()
        return replicas

    def part(self, positions: IntArray) -> Self:
        some = copy.copy(self)
        some._keys = self._keys[positions]
        some.data = self.data.part(positions)
        some._graphs = Captured(some._function_of)
        some._train, some._outer = self._train.part(positions), self._outer.part(positions)
        return some

    def use_train(self, train: Split, generation: int, held_sizes: IntArray | None) -> None:
        """Replaces the training samples; the chosen executors stay.

        Args:
            train: the samples of the local nodes.
            generation, held_sizes: see :class:`simulator.data.base.NodeData`.
        """
        executors = self.executors
        self.data = replace(self.data, train=train, generation=generation, held_sizes=held_sizes)
        self._prepare()
        self.executors = executors

    @torch.no_grad()
    def sample_losses(self, params: Tensor, hparams: Tensor, inputs: Tensor, labels: Tensor) -> Tensor:
        """The loss of one node's model on every sample, [S]; dropout is off.

        Args:
            params, hparams: [D] and [H].
            inputs, labels: [S, ...] and [S].
        """
        executor, losses = LoopExecutor(self.function, self.head), []
        for block, target in zip(inputs.split(EVALUATION_BLOCK), labels.split(EVALUATION_BLOCK), strict=True):
            scored = self.head.predict(executor.logits(params, block.to(params.dtype)), hparams)
            losses.append(torch.nn.functional.nll_loss(scored, target, reduction="none"))
        return torch.cat(losses)

    def _executor(self, operation: str, head: Head | None = None) -> Executor:
        """The executor of ``first_order`` or ``second_order`` operations; chosen at its first use if not earlier."""
        if operation not in self.executors.names:
            self.choose_compute([operation])
        return self.executors.executor(operation, head)

    def choose_compute(self, operations: Sequence[str]) -> dict[str, str]:
        return self.executors.choose(operations, self._timing_sample)

    def adopt_compute(self, choices: Mapping[str, str]) -> None:
        self.executors.adopt(choices)

    def _timing_sample(self) -> tuple[Tensor, Tensor, Batch | None]:
        """The inputs with which executors are timed, see :data:`simulator.compute.choice.Sample`."""
        return self.initial_rows(), self.init_hparams(), next(self.batches(0, self._setting.dtype), None)

    def batch(self, step: int | IntArray, *, outer: bool = False) -> list[IntArray]:
        return (self._outer if outer else self._train).positions(step)

    def batch_sizes(self, step: int | IntArray | None, *, outer: bool = False) -> IntArray:
        return (self._outer if outer else self._train).batch_sizes(step)

    def batches(self, step: int | IntArray | None, dtype: torch.dtype) -> Iterator[Batch]:
        """The batches for gradients of f_i at ``step``, with dropout masks and augmented images.

        Yields one minibatch; with ``step=None``, or with full batches, blocks that together are all samples.
        """
        return self._train.batches(step, dtype)

    def init_params(self) -> Tensor:
        return self.initial_rows()

    def initial_rows(self) -> Tensor:
        """All initial parameters of the model, the same row at every node."""
        setting = self._setting
        rows = []
        for learner in range(self.head.num_learners):
            with randomness.torch_seed(setting.seed, "init", step=learner):
                assert setting.build_model is not None
                module = setting.build_model(input_shape=self.data.input_shape, num_classes=self.data.num_classes)
            rows.append(self.function.layout.flatten(module))
        row = upload(torch.cat(rows), setting.device, setting.dtype)
        repeated = row.expand(len(self._keys), -1)
        # Rows of several models are taken apart into one row per model, which rows with padding cannot be.
        return padded_copy(repeated) if self.head.num_learners == 1 else repeated.clone()

    def init_hparams(self) -> Tensor:
        setting = self._setting
        shape = (len(self._keys), self.num_hparams)
        return torch.full(shape, self.initial_hparam(), dtype=setting.dtype, device=setting.device)

    def add_grad_(
        self, out: Tensor, params: Tensor, hparams: Tensor, step: int | IntArray | None, alpha: float
    ) -> None:
        executor = self._executor("first_order")
        coefficients = self.l2_coefficients(hparams)
        if not self._add_grad_by_graph_(out, params, hparams, step, coefficients, alpha):
            batches = list(self.batches(step, params.dtype))
            add_gradient_(executor, out, params, hparams, batches, coefficients, alpha)

    def local_step(self) -> LocalStep:
        """The device's part of :meth:`add_grad_`, with an executor and buffers of its own; see :meth:`choose`."""
        self._executor("first_order")
        executor = self.executors.build("first_order", self.function, self.head)
        return LocalStep(executor, self._train.samples)

    def choose(self, step: int, dtype: torch.dtype) -> Chosen | None:
        """The host's part of :meth:`add_grad_`; None where batches are full or have noise, which have no such part."""
        if self._train.is_full_batch or self._train.is_noisy:
            return None
        return self._train.choose(step, dtype)

    def _add_grad_by_graph_(
        self,
        out: Tensor,
        params: Tensor,
        hparams: Tensor,
        step: int | IntArray | None,
        coefficients: Tensor | float,
        alpha: float,
    ) -> bool:
        """As :meth:`add_grad_`, by a CUDA graph where ``compute_capture`` is on; whether it was done."""
        if not self._setting.capture or not isinstance(step, int) or not isinstance(coefficients, float):
            return False
        chosen = self.choose(step, params.dtype)
        if chosen is None:
            return False
        key = (alpha, coefficients, tuple(chosen.sizes))
        return self._graphs(key, (out, params, hparams, chosen.index, chosen.weights))

    def _function_of(self, key: Hashable) -> Function:
        """The local step of one learning rate and number of samples, for a graph."""
        assert isinstance(key, tuple)
        alpha, coefficients, sizes = key
        local_step = self.local_step()

        def run(tensors: Sequence[Tensor]) -> None:
            out, params, hparams, index, weights = tensors
            local_step(out, params, hparams, Chosen(index, weights, sizes), coefficients, alpha)

        return run

    def add_grad_at_(self, out: Tensor, params: Tensor, hparams: Tensor, steps: IntArray, alpha: float) -> None:
        self.add_grad_(out, params, hparams, steps, alpha)

    def grad_at(self, params: Tensor, hparams: Tensor, steps: IntArray) -> Tensor:
        out = torch.zeros_like(params)
        self.add_grad_(out, params, hparams, steps, 1.0)
        return out

    def epoch_lengths(self) -> IntArray:
        return self._train.epoch_lengths

    def sample_counts(self) -> IntArray:
        return self.data.train_sizes

    def split_sizes(self) -> Mapping[str, IntArray]:
        held = self.data.train_sizes if self.data.held_sizes is None else self.data.held_sizes
        return {"train": held, "valid": self.data.valid_sizes, "test": self.data.test_sizes}

    def inner_grads(self, params: Tensor, hparams: Tensor, step: int | None) -> tuple[Tensor, Tensor]:
        executor = self._executor("first_order")
        grad_params, grad_hparams = params * self.l2_coefficients(hparams), torch.zeros_like(hparams)
        for batch in self.batches(step, params.dtype):
            block_params, block_hparams = executor.gradients(params, hparams, batch)
            grad_params.add_(block_params)
            grad_hparams.add_(block_hparams)
        # The derivative of c(hparams) ||x||^2 / 2 is that of c(hparams) <x, x/2>.
        self.add_l2_cross_(grad_hparams, params, 0.5 * params)
        return grad_params, grad_hparams

    def outer_grads(self, params: Tensor, hparams: Tensor, step: int | None = None) -> tuple[Tensor, Tensor]:
        plain = None if self.hparams_enter_outer else CrossEntropy()
        executor = self._executor("first_order", plain)
        grad_params, grad_hparams = torch.zeros_like(params), torch.zeros_like(hparams)
        for batch in self._outer.batches(step, params.dtype):
            if self.hparams_enter_outer:
                block_params, block_hparams = executor.gradients(params, hparams, batch)
                grad_params.add_(block_params)
                grad_hparams.add_(block_hparams)
            else:
                executor.add_gradient_(grad_params, params, hparams, batch, 1.0)
        return grad_params, grad_hparams.add_(hparams, alpha=self.outer_regularization)

    def second_order(self, params: Tensor, hparams: Tensor, vector: Tensor, step: int | None) -> tuple[Tensor, Tensor]:
        executor = self._executor("second_order")
        along_params, along_hparams = torch.zeros_like(params), torch.zeros_like(hparams)
        for batch in self.batches(step, params.dtype):
            block_params, block_hparams = executor.second_order(params, hparams, batch, vector)
            along_params.add_(block_params)
            along_hparams.add_(block_hparams)
        along_params.add_(vector * self.l2_coefficients(hparams))
        self.add_l2_cross_(along_hparams, params, vector)
        return along_params, along_hparams

    @torch.no_grad()
    def evaluate(self, params: Tensor, hparams: Tensor) -> dict[str, Tensor]:
        metrics = {}
        # A problem by itself, for which nothing has been chosen, does not stop to time executors.
        is_chosen = "first_order" in self.executors.names
        executor = self._executor("first_order") if is_chosen else LoopExecutor(self.function, self.head)
        for name, sizes in self.split_sizes().items():
            if not sizes.any() or (name == "train" and not self.reading.train):
                continue
            split = getattr(self.data, name).sample(self.reading.num_samples, self._setting.seed, f"evaluation/{name}")
            loss, accuracy = score(executor, split, params, hparams)
            metrics[f"{name}/loss"] = loss
            metrics[f"{name}/accuracy"] = accuracy
        outer = metrics.get(f"{self.outer_split}/loss")
        if self.num_hparams and outer is not None:
            metrics["outer/loss"] = outer + 0.5 * self.outer_regularization * hparams.square().sum(1)
        return metrics

    def facts(self) -> Facts:
        return Facts(label_counts=self.data.label_counts)
