"""Losses and accuracies of the models of many nodes, on all samples of a split.

The chosen executor computes as many nodes at once as in training, on blocks of samples. Nodes that hold the same
samples, such as a common test set, share the block; others get blocks of their own samples, padded to the same number.

Shapes: N local nodes, n nodes of a block, B samples of a block, D parameters, C classes.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from simulator.arrays import IntArray
from simulator.compute.executors import Executor
from simulator.data.base import Split
from simulator.uploads import upload

EVALUATION_BLOCK = 2048
"""Samples that are evaluated at once of one node alone."""

_SAMPLES_AT_ONCE = 8192
_NODES_AT_ONCE = 64


@torch.no_grad()
def score(executor: Executor, split: Split, params: Tensor, hparams: Tensor) -> tuple[Tensor, Tensor]:
    """Mean loss and accuracy of every node on its own samples, [N]; NaN for a node without any.

    Nodes with the same samples, parameters and hyperparameters are evaluated once.
    """
    device, scores = params.device, params.new_full((2, len(params)), float("nan"))
    first = _first_alike(split, params, hparams)
    nodes = np.flatnonzero((split.sizes > 0) & (first == np.arange(len(first))))
    for positions, are_same in _groups(split, nodes, min(executor.nodes_at_once or _NODES_AT_ONCE, _NODES_AT_ONCE)):
        index = upload(positions, device)
        rows, own_hparams = params.index_select(0, index), hparams.index_select(0, index)
        totals = rows.new_zeros(2, len(positions))
        for inputs, labels, mask in _blocks(split, positions, are_same):
            count = len(positions) if are_same else len(labels)
            logits = executor.logits_of(rows[:count], inputs.to(rows.dtype), same_inputs=are_same)
            scored = executor.head.predict(logits, own_hparams[:count])
            targets = labels.expand(count, -1)
            losses = -scored.gather(-1, targets.unsqueeze(-1)).squeeze(-1)
            hits = (scored.argmax(-1) == targets).to(losses.dtype)
            both = torch.stack([losses, hits])
            totals[:, :count] += (both if mask is None else both.where(mask, 0.0)).sum(-1)
        scores.index_copy_(1, index, totals / upload(split.sizes[positions], device, rows.dtype))
    copies = np.flatnonzero((split.sizes > 0) & (first != np.arange(len(first))))
    if copies.size:
        scores.index_copy_(1, upload(copies, device), scores.index_select(1, upload(first[copies], device)))
    return scores[0], scores[1]


def _first_alike(split: Split, params: Tensor, hparams: Tensor) -> IntArray:
    """For every node the first one whose scores are its own, because all that they depend on is the same, [N]."""
    first_with: dict[tuple[int, int], int] = {}
    ends = zip(split.offsets.tolist(), split.sizes.tolist(), strict=True)
    first = np.array([first_with.setdefault(pair, i) for i, pair in enumerate(ends)], dtype=np.int64)
    others = np.flatnonzero((first != np.arange(len(first))) & (split.sizes > 0))
    if not others.size:
        return first
    alike = []
    for part in np.array_split(others, -(-others.size // _NODES_AT_ONCE)):
        one, other = upload(part, params.device), upload(first[part], params.device)
        same = [(rows.index_select(0, one) == rows.index_select(0, other)).all(dim=1) for rows in (params, hparams)]
        alike.append(same[0] & same[1])
    differs = others[~torch.cat(alike).cpu().numpy()]
    first[differs] = differs
    return first


def _groups(split: Split, nodes: IntArray, at_once: int) -> Iterator[tuple[IntArray, bool]]:
    """The nodes that are computed at once, and whether they hold the same samples."""
    holders: dict[tuple[int, int], list[int]] = {}
    for node in nodes.tolist():
        holders.setdefault((int(split.offsets[node]), int(split.sizes[node])), []).append(node)
    alone: list[int] = []
    for together in holders.values():
        if len(together) == 1:
            alone += together
        else:
            yield from ((part, True) for part in _parts(together, at_once))
    # Nodes with about the same number of samples need little padding.
    alone.sort(key=lambda node: -int(split.sizes[node]))
    yield from ((part, len(part) == 1) for part in _parts(alone, at_once))


def _parts(nodes: Sequence[int], at_once: int) -> Iterator[IntArray]:
    for start in range(0, len(nodes), at_once):
        yield np.array(nodes[start : start + at_once], dtype=np.int64)


def _blocks(split: Split, positions: IntArray, are_same: bool) -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
    """Inputs and labels of some nodes, block after block, and which of them are no padding (None where all are).

    [B, ...] and [B] where the nodes hold the same samples. Else [n, B, ...] and [n, B] of the first n of the nodes,
    which come with the most samples first; the others have none left.
    """
    offsets, sizes = split.offsets[positions], split.sizes[positions]
    width = EVALUATION_BLOCK if len(positions) == 1 else max(32, _SAMPLES_AT_ONCE // len(positions))
    for start in range(0, int(sizes[0]), width):
        if are_same:
            rows = slice(int(offsets[0]) + start, int(offsets[0]) + min(start + width, int(sizes[0])))
            yield split.inputs[rows], split.labels[rows], None
            continue
        count = int(np.count_nonzero(sizes > start))
        slots = np.arange(start, min(start + width, int(sizes[0])))
        own = slots < sizes[:count, None]
        index = upload(offsets[:count, None] + np.where(own, slots, start), split.inputs.device)
        inputs = split.inputs.index_select(0, index.view(-1)).view(*index.shape, *split.inputs.shape[1:])
        labels = split.labels.index_select(0, index.view(-1)).view(index.shape)
        yield inputs, labels, None if own.all() else upload(own, split.inputs.device)
