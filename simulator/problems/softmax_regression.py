"""Softmax regression without a bias on each node's samples: mean cross-entropy of features @ y, and its derivatives.

Features are dense or CSR. With CSR features the cost of a product is proportional to the number of entries, and a
gradient is formed only in the rows to which it is added. Rows y [N, F C] hold a matrix [F, C] per node.

Shapes: N local nodes, F features, C classes, B samples of one node.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from simulator.arrays import IntArray
from simulator.data.base import Split
from simulator.data.sampling import MinibatchSampler
from simulator.data.sparse import is_sparse, to_scipy, to_torch
from simulator.uploads import upload

Steps = int | IntArray | None


class _Block(NamedTuple):
    """Samples of one node: features [B, F], the same transposed [F, B], and labels [B]."""

    features: Tensor
    transposed: Tensor
    labels: Tensor


class Pull(NamedTuple):
    """A gradient of one node that is not formed yet: ``transposed`` [F, B] @ ``residual`` [B, C]."""

    node: int
    transposed: Tensor
    residual: Tensor


class SoftmaxRegression:
    """The data part of linear problems.

    Args:
        split: samples of the local nodes; their features are flattened.
        num_classes: C.
        sampler: draws minibatches; None when all samples are used in every step.
    """

    def __init__(self, split: Split, num_classes: int, sampler: MinibatchSampler | None = None) -> None:
        self._split = split
        self._num_classes = num_classes
        self._sampler = sampler
        self._dense = None if is_sparse(split.inputs) else split.inputs.flatten(1)
        self._sparse = to_scipy(split.inputs) if self._dense is None else None
        self._whole: dict[tuple[int, int], _Block] = {}

    def pulls(self, params: Tensor, step: Steps) -> list[Pull]:
        """The gradients of the losses at ``params``, of nodes that have samples at ``step``."""
        pulls = []
        for node, block in self._blocks(step):
            residual = self._logits(block, params[node]).softmax(1)
            residual[torch.arange(len(residual), device=residual.device), block.labels] -= 1
            pulls.append(Pull(node, block.transposed, residual / len(residual)))
        return pulls

    def add_pulls_(self, out: Tensor, pulls: list[Pull], alpha: float = 1.0) -> None:
        """Adds ``alpha`` times the gradients to ``out`` [N, F C]."""
        for node, transposed, residual in pulls:
            target = out[node].view(-1, self._num_classes)
            torch.addmm(target, transposed, residual, alpha=alpha, out=target)

    def hessian_products(self, params: Tensor, vector: Tensor, step: Steps) -> Tensor:
        """Hessian-vector products [N, F C] of the losses along ``vector`` [N, F C]."""
        pulls = []
        for node, block in self._blocks(step):
            chances = self._logits(block, params[node]).softmax(1)
            along = chances * self._logits(block, vector[node])
            along -= chances * along.sum(1, keepdim=True)
            pulls.append(Pull(node, block.transposed, along / len(along)))
        out = torch.zeros_like(params)
        self.add_pulls_(out, pulls)
        return out

    def score(self, params: Tensor) -> tuple[Tensor, Tensor]:
        """Mean loss and accuracy of every node on all its samples, [N]; NaN for a node without any.

        Nodes with the same samples and parameters are evaluated once.
        """
        scores = params.new_full((2, len(params)), float("nan"))
        scored: dict[int, int] = {}
        for node, block in self._blocks(None):
            first = scored.setdefault(id(block), node)
            if first != node and torch.equal(params[first], params[node]):
                scores[:, node] = scores[:, first]
                continue
            logits = self._logits(block, params[node])
            scores[0, node] = torch.nn.functional.cross_entropy(logits, block.labels)
            scores[1, node] = (logits.argmax(1) == block.labels).to(logits.dtype).mean()
        return scores[0], scores[1]

    def _logits(self, block: _Block, row: Tensor) -> Tensor:
        return block.features @ row.view(-1, self._num_classes)

    def _blocks(self, step: Steps) -> Iterator[tuple[int, _Block]]:
        """The samples of ``step`` of every node that has some; equal blocks of the full batch are one object."""
        split = self._split
        if step is None or self._sampler is None or self._sampler.is_full_batch:
            for node, key in enumerate(zip(split.offsets.tolist(), split.sizes.tolist(), strict=True)):
                if key[1]:
                    if key not in self._whole:
                        self._whole[key] = self._block(slice(key[0], sum(key)))
                    yield node, self._whole[key]
            return
        for node, positions in enumerate(self._sampler.positions(step)):
            if len(positions):
                yield node, self._block(split.offsets[node] + positions)

    def _block(self, rows: slice | IntArray) -> _Block:
        chosen = rows if isinstance(rows, slice) else upload(rows, self._split.labels.device)
        labels = self._split.labels[chosen]
        if self._dense is not None:
            features = self._dense[chosen]
            return _Block(features, features.T, labels)
        assert self._sparse is not None
        matrix, like = self._sparse[rows], self._split.inputs
        # Products with a CSR matrix are several times faster than with its transposed view.
        features, transposed = (to_torch(part, like.dtype, like.device) for part in (matrix, matrix.T.tocsr()))
        return _Block(features, transposed, labels)
