"""How the models of N nodes are computed: node by node, vmapped over chunks of nodes, or in batched products.

Every executor offers the same operations on rows and returns the same numbers up to rounding; which one is fastest
depends on model, batch, device and number of nodes, so ``compute: auto`` times them (see :mod:`simulator.tuning`).

Shapes: N nodes, D parameters of a row, K learners per node (rows hold K models one after the other), B batch,
C classes, H hyperparameters.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from simulator.rows import ModelFunction


@dataclass(frozen=True)
class Batch:
    """Samples of N nodes, padded to the same number; padding has weight 0.

    Attributes:
        inputs: [N, B, ...]; labels: [N, B].
        weights: weight of each sample's loss in the node's loss, [N, B]; 1/size for a mean.
        index: position of each sample in its node's split, [N, B].
        sizes: number of samples of every node, without padding, for executors that go node by node.
        masks: of the model's dropout layers, [N, B, F]; None without dropout.
    """

    inputs: Tensor
    labels: Tensor
    weights: Tensor
    index: Tensor
    sizes: Sequence[int]
    masks: Tensor | None = None

    def part(self, start: int, stop: int) -> "Batch":
        """The batch of nodes ``start``..``stop``-1."""
        return Batch(
            self.inputs[start:stop],
            self.labels[start:stop],
            self.weights[start:stop],
            self.index[start:stop],
            self.sizes[start:stop],
            None if self.masks is None else self.masks[start:stop],
        )

    def node(self, position: int) -> "Batch":
        """The batch of one node, without node axis and padding."""
        size = self.sizes[position]
        return Batch(
            self.inputs[position, :size],
            self.labels[position, :size],
            self.weights[position, :size],
            self.index[position, :size],
            [size],
            None if self.masks is None else self.masks[position, :size],
        )


class Head(ABC):
    """Computes a node's loss from logits, for any leading axes (nodes).

    ``logits`` are [..., B, C], or [..., K, B, C] with K > 1 learners; ``hparams`` are [..., H].
    """

    num_learners: int = 1

    @abstractmethod
    def loss(self, logits: Tensor, hparams: Tensor, batch: Batch) -> Tensor:
        """The weighted loss of every node, shape [...]."""

    @abstractmethod
    def predict(self, logits: Tensor, hparams: Tensor) -> Tensor:
        """Log-probabilities, or scores whose largest entry is the prediction, [..., B, C]."""

    def logit_gradient(self, logits: Tensor, hparams: Tensor, batch: Batch) -> Tensor:
        """Derivative of the loss with respect to ``logits``; may overwrite them."""
        leaf = logits.detach().requires_grad_()
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(self.loss(leaf, hparams, batch).sum(), leaf)
        return gradient


class Executor(ABC):
    """The operations on rows that problems need, for the data part of the loss."""

    def __init__(self, function: ModelFunction, head: Head) -> None:
        self.function = function
        self.head = head

    @abstractmethod
    def add_gradient_(self, out: Tensor, params: Tensor, hparams: Tensor, batch: Batch, alpha: float) -> None:
        """Adds ``alpha`` times the gradient at ``params`` [N, D] to ``out`` [N, D], which may be the same tensor."""

    @property
    @abstractmethod
    def nodes_at_once(self) -> int | None:
        """How many nodes are computed at once; None for all."""

    @abstractmethod
    def logits_of(self, params: Tensor, inputs: Tensor, *, same_inputs: bool) -> Tensor:
        """Logits [N, B, C], or [N, K, B, C], of rows [N, D], without dropout and without gradients.

        Args:
            inputs: the samples of every node [N, B, ...], or those of all nodes [B, ...].
            same_inputs: whether they are those of all nodes.
        """

    @abstractmethod
    def outputs(self, params: Tensor, batch: Batch) -> Tensor:
        """The output of every node's model with row ``params`` [N, D] on its samples, [N, B, ...], without gradients.

        Entries at padded samples are undefined.
        """

    def losses(self, params: Tensor, hparams: Tensor, batch: Batch) -> Tensor:
        """The loss of every node, [N]."""
        with torch.no_grad():
            parts = [self._losses(*piece) for piece in self._pieces(params, hparams, batch)]
        return torch.cat([part.reshape(-1) for part in parts])

    def gradients(self, params: Tensor, hparams: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Gradients with respect to parameters [N, D] and hyperparameters [N, H]."""
        out, out_hparams = torch.zeros_like(params), torch.zeros_like(hparams)
        start = 0
        for views, hparams_part, batch_part in self._pieces(params, hparams, batch):
            stop = start + len(views[0]) // self.head.num_learners
            leaves, hparams_leaf = _leaves(views), hparams_part.detach().requires_grad_()
            loss = self._losses(leaves, hparams_leaf, batch_part).sum()
            gradients = torch.autograd.grad(loss, [*leaves, hparams_leaf], allow_unused=True)
            _store(self._views(out, start, stop), gradients[:-1])
            if gradients[-1] is not None:
                out_hparams[start:stop] = gradients[-1].reshape(stop - start, -1)
            start = stop
        return out, out_hparams

    def second_order(self, params: Tensor, hparams: Tensor, batch: Batch, vector: Tensor) -> tuple[Tensor, Tensor]:
        """Hessian-vector product [N, D] and mixed Jacobian-vector product [N, H] of the loss along ``vector`` [N, D].

        Reverse over reverse: derivatives of <gradient, vector> with respect to parameters and hyperparameters.
        """
        out, out_hparams = torch.zeros_like(params), torch.zeros_like(hparams)
        start = 0
        for views, hparams_part, batch_part in self._pieces(params, hparams, batch):
            stop = start + len(views[0]) // self.head.num_learners
            leaves, hparams_leaf = _leaves(views), hparams_part.detach().requires_grad_()
            loss = self._losses(leaves, hparams_leaf, batch_part).sum()
            gradients = torch.autograd.grad(loss, leaves, create_graph=True)
            along = self._views(vector, start, stop)
            product = sum(((g * v).sum() for g, v in zip(gradients, along, strict=True)), start=loss.new_zeros(()))
            if product.requires_grad:
                seconds = torch.autograd.grad(product, [*leaves, hparams_leaf], allow_unused=True)
                _store(self._views(out, start, stop), seconds[:-1])
                if seconds[-1] is not None:
                    out_hparams[start:stop] = seconds[-1].reshape(stop - start, -1)
            start = stop
        return out, out_hparams

    def logits(self, row: Tensor, inputs: Tensor) -> Tensor:
        """Logits of one node with row [D] on its samples: [B, C], or [K, B, C]."""
        learners, inputs = row.view(self.head.num_learners, -1), self.function.arrange(inputs)
        outputs = [self.function([v[0] for v in self.function.layout.views(r[None])], inputs) for r in learners]
        return outputs[0] if len(outputs) == 1 else torch.stack(outputs)

    def _views(self, rows: Tensor, start: int, stop: int) -> list[Tensor]:
        """Per-tensor views [(stop-start)*K, *shape] of the rows of some nodes."""
        part = rows[start:stop]
        if self.head.num_learners > 1:
            part = part.view(len(part) * self.head.num_learners, -1)
        return self.function.layout.views(part)

    @abstractmethod
    def _pieces(self, params: Tensor, hparams: Tensor, batch: Batch) -> list[tuple[list[Tensor], Tensor, Batch]]:
        """Splits the nodes into pieces that are each computed at once, in order."""

    @abstractmethod
    def _losses(self, views: list[Tensor], hparams: Tensor, batch: Batch) -> Tensor:
        """Losses of the nodes of one piece, differentiable."""


class LoopExecutor(Executor):
    """One node after the other; nodes without samples in the batch are skipped."""

    @property
    def nodes_at_once(self) -> int:
        """One."""
        return 1

    @torch.no_grad()
    def logits_of(self, params: Tensor, inputs: Tensor, *, same_inputs: bool) -> Tensor:
        own = [inputs] * len(params) if same_inputs else inputs
        return torch.stack([self.logits(row, x) for row, x in zip(params, own, strict=True)])

    def _pieces(self, params: Tensor, hparams: Tensor, batch: Batch) -> list[tuple[list[Tensor], Tensor, Batch]]:
        return [(self._views(params, i, i + 1), hparams[i], batch.node(i)) for i in range(len(params))]

    def _losses(self, views: list[Tensor], hparams: Tensor, batch: Batch) -> Tensor:
        inputs = self.function.arrange(batch.inputs)
        outputs = [self.function([v[k] for v in views], inputs, batch.masks) for k in range(self.head.num_learners)]
        return self.head.loss(outputs[0] if len(outputs) == 1 else torch.stack(outputs), hparams, batch)

    def add_gradient_(self, out: Tensor, params: Tensor, hparams: Tensor, batch: Batch, alpha: float) -> None:
        for i in range(len(params)):
            if batch.sizes[i] == 0:
                continue
            leaves = _leaves(self._views(params, i, i + 1))
            gradients = torch.autograd.grad(self._losses(leaves, hparams[i], batch.node(i)), leaves)
            _add(self._views(out, i, i + 1), gradients, alpha)

    @torch.no_grad()
    def outputs(self, params: Tensor, batch: Batch) -> Tensor:
        outputs = []
        for i in range(len(params)):
            own, views = batch.node(i), [view[0] for view in self._views(params, i, i + 1)]
            outputs.append(self.function(views, self.function.arrange(own.inputs), own.masks))
        return pad_sequence(outputs, batch_first=True)


class VmapExecutor(Executor):
    """``torch.vmap`` over ``chunk`` nodes at a time; ``chunk=None`` means all of them."""

    def __init__(self, function: ModelFunction, head: Head, chunk: int | None = None) -> None:
        super().__init__(function, head)
        self.chunk = chunk
        self._batched = torch.vmap(lambda *arguments: function(*arguments))
        self._on_same_inputs = torch.vmap(lambda *arguments: function(*arguments), in_dims=(0, None))

    @property
    def nodes_at_once(self) -> int | None:
        """The size of a chunk."""
        return self.chunk

    @torch.no_grad()
    def logits_of(self, params: Tensor, inputs: Tensor, *, same_inputs: bool) -> Tensor:
        learners, views = self.head.num_learners, self._views(params, 0, len(params))
        if same_inputs:
            logits: Tensor = self._on_same_inputs(views, inputs)
        else:
            logits = self._batched(views, inputs if learners == 1 else inputs.repeat_interleave(learners, dim=0))
        return logits if learners == 1 else logits.unflatten(0, (-1, learners))

    def _pieces(self, params: Tensor, hparams: Tensor, batch: Batch) -> list[tuple[list[Tensor], Tensor, Batch]]:
        size = self.chunk or len(params)
        bounds = [(start, min(start + size, len(params))) for start in range(0, len(params), size)]
        return [(self._views(params, a, b), hparams[a:b], batch.part(a, b)) for a, b in bounds]

    def _losses(self, views: list[Tensor], hparams: Tensor, batch: Batch) -> Tensor:
        learners = self.head.num_learners
        inputs = [batch.inputs] if batch.masks is None else [batch.inputs, batch.masks]
        if learners > 1:
            inputs = [x.repeat_interleave(learners, dim=0) for x in inputs]
        logits = self._batched(views, *inputs)
        if learners > 1:
            logits = logits.unflatten(0, (-1, learners))
        return self.head.loss(logits, hparams, batch)

    def add_gradient_(self, out: Tensor, params: Tensor, hparams: Tensor, batch: Batch, alpha: float) -> None:
        start = 0
        for views, hparams_part, batch_part in self._pieces(params, hparams, batch):
            leaves = _leaves(views)
            gradients = torch.autograd.grad(self._losses(leaves, hparams_part, batch_part).sum(), leaves)
            _add(self._views(out, start, start + len(hparams_part)), gradients, alpha)
            start += len(hparams_part)

    @torch.no_grad()
    def outputs(self, params: Tensor, batch: Batch) -> Tensor:
        outputs = []
        for views, _, part in self._pieces(params, params, batch):
            inputs = [part.inputs] if part.masks is None else [part.inputs, part.masks]
            outputs.append(self._batched(views, *inputs))
        return torch.cat(outputs)


class BatchedExecutor(VmapExecutor):
    """Chains of Flatten, Linear, ReLU and Dropout written out as batched products, forwards and backwards.

    Gradients are accumulated straight into the rows they belong to (one pass over the parameters), and all
    intermediate results live in buffers that are reused. Second-order products are those of the vmapped form.
    """

    def __init__(self, function: ModelFunction, head: Head) -> None:
        super().__init__(function, head)
        assert self.applies_to(function)
        self._buffers: dict[tuple[str, int], Tensor] = {}

    @staticmethod
    def applies_to(function: ModelFunction) -> bool:
        """Whether the model is such a chain."""
        if function.layers is None:
            return False
        chain = [type(layer) for layer in function.layers if not isinstance(layer, nn.Flatten)]
        known = {nn.Linear, nn.ReLU, nn.Dropout}
        return bool(chain) and set(chain) <= known and chain[0] is nn.Linear and chain[-1] is nn.Linear

    @torch.no_grad()
    def add_gradient_(self, out: Tensor, params: Tensor, hparams: Tensor, batch: Batch, alpha: float) -> None:
        layers = self.function.layers or []
        learners = self.head.num_learners
        inputs, masks = batch.inputs, batch.masks
        if learners > 1:
            inputs = inputs.repeat_interleave(learners, dim=0)
            masks = None if masks is None else masks.repeat_interleave(learners, dim=0)
        # Features before samples, [N*K, F, B]: products with a narrow and long result are faster in this layout.
        x = inputs.flatten(2).transpose(1, 2)
        views = self._views(params, 0, params.shape[0])
        tensors = iter(views)
        targets = iter(views if out is params else self._views(out, 0, params.shape[0]))
        # (weight, inputs of the layer, where its gradients go, whether a ReLU feeds it, masks of dropout that feeds it)
        tape: list[tuple[Tensor, Tensor, Tensor, Tensor | None, bool, list[Tensor]]] = []
        factors: list[Tensor] = []
        after_relu, num_masked = False, 0
        for position, layer in enumerate(layers):
            if isinstance(layer, nn.Linear):
                weight = next(tensors)
                bias = next(tensors) if cast(Tensor | None, layer.bias) is not None else None
                tape.append((weight, x, next(targets), None if bias is None else next(targets), after_relu, factors))
                output = self._buffer("output", position, (x.shape[0], weight.shape[1], x.shape[2]), x)
                if bias is None:
                    x = torch.bmm(weight, x, out=output)
                else:
                    x = torch.baddbmm(bias.unsqueeze(2), weight, x, out=output)
                after_relu, factors = False, []
            elif isinstance(layer, nn.ReLU):
                x = x.clamp_min_(0)
                after_relu = True
            elif isinstance(layer, nn.Dropout) and masks is not None:
                factors.append(masks[:, :, num_masked : num_masked + x.shape[1]].transpose(1, 2))
                num_masked += x.shape[1]
                x = x.mul_(factors[-1])
        logits = x.transpose(1, 2)
        if learners > 1:
            logits = logits.unflatten(0, (-1, learners))
        gradient = self.head.logit_gradient(logits, hparams, batch)
        if learners > 1:
            gradient = gradient.flatten(0, 1)
        delta = gradient.transpose(1, 2)
        for position, (weight, layer_inputs, target_weight, target_bias, is_after_relu, masks_before) in reversed(
            list(enumerate(tape))
        ):
            if position > 0:
                # Before the weight is updated, because gradients may be added to its own row.
                before = torch.bmm(
                    weight.transpose(1, 2), delta, out=self._buffer("delta", position, layer_inputs.shape, x)
                )
                if is_after_relu:
                    before.mul_(layer_inputs > 0)
                for factor in masks_before:
                    before.mul_(factor)
            target_weight.baddbmm_(delta, layer_inputs.transpose(1, 2), alpha=alpha)
            if target_bias is not None:
                target_bias.add_(delta.sum(dim=2), alpha=alpha)
            if position > 0:
                delta = before

    def _buffer(self, name: str, position: int, shape: Sequence[int], like: Tensor) -> Tensor:
        key = (name, position)
        if key not in self._buffers or self._buffers[key].shape != shape or self._buffers[key].dtype != like.dtype:
            self._buffers[key] = torch.empty(tuple(shape), dtype=like.dtype, device=like.device)
        return self._buffers[key]


def _leaves(views: Sequence[Tensor]) -> list[Tensor]:
    return [view.detach().requires_grad_() for view in views]


@torch.no_grad()
def _add(targets: Sequence[Tensor], gradients: Sequence[Tensor], alpha: float) -> None:
    for target, gradient in zip(targets, gradients, strict=True):
        target.add_(gradient, alpha=alpha)


@torch.no_grad()
def _store(targets: Sequence[Tensor], values: Sequence[Tensor | None]) -> None:
    for target, value in zip(targets, values, strict=True):
        if value is not None:
            target.copy_(value)
