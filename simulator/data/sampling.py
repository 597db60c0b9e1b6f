"""Minibatches of the local nodes as a pure function of the step: the step alone says which samples a node uses.

Every node passes through its samples in epochs, each in a fresh order keyed by (seed, node, epoch). Shapes: N nodes,
B batch.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch

from simulator import randomness
from simulator.compute import Batch
from simulator.data.base import Split


class MinibatchSampler:
    """Draws minibatches of a split.

    Args:
        split: the samples of the local nodes.
        nodes: their global indices, which key the randomness.
        batch_size: samples per node and step; None for all of them. Nodes with fewer use what they have.
        drop_last: leave out the smaller last batch of an epoch, for nodes that have more than one batch.
        seed: of the run.
        block_size: samples per node that a pass over everything handles at once.
    """

    def __init__(
        self,
        split: Split,
        nodes: range,
        *,
        batch_size: int | None,
        drop_last: bool,
        seed: int,
        block_size: int = 512,
    ) -> None:
        self._split = split
        self._nodes = np.arange(nodes.start, nodes.stop)
        self._seed = seed
        self._block_size = block_size
        self._sizes = split.sizes
        self._largest = int(self._sizes.max(initial=0))
        self.is_full_batch = batch_size is None or batch_size >= self._largest
        if batch_size is not None and not self.is_full_batch:
            self._batch_size = batch_size
            whole, rest = np.divmod(self._sizes, batch_size)
            short = (rest > 0) & ~(drop_last & (whole > 0))
            self._batches_per_epoch = np.maximum(whole + short, 1)
            self._epochs = np.full(len(nodes), -1, dtype=np.int64)
            self._orders = np.zeros((len(nodes), self._largest), dtype=np.int64)

    def batches(self, step: int | None, dtype: torch.dtype) -> Iterator[Batch]:
        """The samples of ``step``: one minibatch, or blocks that together are everything (``step=None``).

        The weights of a node's samples over all yielded batches sum to 1 (to 0 for a node without samples).
        """
        if step is None or self.is_full_batch:
            yield from self._blocks(dtype)
        else:
            yield self._minibatch(step, dtype)

    def _minibatch(self, step: int, dtype: torch.dtype) -> Batch:
        epochs, position = np.divmod(step, self._batches_per_epoch)
        stale = np.flatnonzero(epochs != self._epochs)
        if stale.size:
            keys = randomness.uniforms(self._seed, "minibatch", self._nodes[stale], epochs[stale], self._largest)
            keys[np.arange(self._largest) >= self._sizes[stale, None]] = 2.0
            self._orders[stale] = np.argsort(keys, axis=1, kind="stable")
            self._epochs[stale] = epochs[stale]
        slots = position[:, None] * self._batch_size + np.arange(self._batch_size)
        valid = slots < self._sizes[:, None]
        index = np.take_along_axis(self._orders, np.minimum(slots, self._largest - 1), axis=1)
        sizes = valid.sum(axis=1)
        weights = valid / np.maximum(sizes, 1)[:, None]
        return self._batch(np.where(valid, index, 0), weights, sizes, dtype)

    def _blocks(self, dtype: torch.dtype) -> Iterator[Batch]:
        for start in range(0, self._largest, self._block_size):
            slots = np.arange(start, min(start + self._block_size, self._largest))
            valid = slots < self._sizes[:, None]
            weights = valid / np.maximum(self._sizes, 1)[:, None]
            yield self._batch(np.where(valid, slots, 0), weights, valid.sum(axis=1), dtype)

    def _batch(
        self,
        index: npt.NDArray[np.int64],
        weights: npt.NDArray[np.float64],
        sizes: npt.NDArray[np.int64],
        dtype: torch.dtype,
    ) -> Batch:
        split, device = self._split, self._split.inputs.device
        limit = max(len(split.labels) - 1, 0)
        rows = torch.from_numpy(np.minimum(self._split.offsets[:, None] + index, limit)).to(device)
        flat = rows.reshape(-1)
        inputs = split.inputs.index_select(0, flat).unflatten(0, rows.shape).to(dtype)
        return Batch(
            inputs,
            split.labels.index_select(0, flat).view(rows.shape),
            torch.from_numpy(weights).to(device=device, dtype=dtype),
            torch.from_numpy(index).to(device),
            sizes.tolist(),
        )
