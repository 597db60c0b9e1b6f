"""Minibatches of the local nodes as a pure function of the step.

Every node passes through its samples in epochs, each in a fresh order keyed by (seed, node, epoch), or draws every
minibatch anew, with or without replacement. Shapes: N nodes, B batch.
"""

import copy
from collections.abc import Iterator
from typing import Self

import numpy as np
import torch

from simulator import randomness
from simulator.arrays import IntArray
from simulator.compute.executors import Batch
from simulator.compute.local_step import Chosen, Samples
from simulator.data.base import Split
from simulator.uploads import upload


class MinibatchSampler:
    """Draws minibatches of a split.

    Args:
        split: the samples of the local nodes.
        nodes: their global indices, which key the randomness.
        batch_size: samples per node and step; None for all of them. Nodes with fewer use what they have.
        drop_last: leave out the smaller last batch of an epoch, for nodes that have more than one batch.
        seed: of the run.
        stream: the random stream of the orders; samplers of different streams draw independently.
        replacement: draw the samples of every minibatch with replacement, and not in epochs; batches are then never
            smaller than ``batch_size``.
        uniform: draw every minibatch from all samples of its node, each at most once, independently of earlier
            minibatches; no epochs.
        block_size: samples per node in one block of a pass over all samples.
    """

    def __init__(
        self,
        split: Split,
        nodes: range | IntArray,
        *,
        batch_size: int | None,
        drop_last: bool,
        seed: int,
        stream: str = "minibatch",
        replacement: bool = False,
        uniform: bool = False,
        block_size: int = 512,
    ) -> None:
        self._split = split
        self._nodes = np.asarray(nodes, dtype=np.int64)
        self._seed = seed
        self._stream = stream
        self._replacement = replacement
        self._uniform = uniform
        self._block_size = block_size
        self._sizes = split.sizes
        self._largest = int(self._sizes.max(initial=0))
        # The offset of a node without samples may lie past the last row; its padding reads the last row instead.
        first_rows = np.minimum(split.offsets, max(len(split.labels) - 1, 0))
        self._first_rows = upload(first_rows[:, None], split.inputs.device)
        self._last: tuple[int, torch.dtype, Batch] | None = None
        self._whole: dict[torch.dtype, list[tuple[torch.Tensor, torch.Tensor, IntArray]]] = {}
        self._chosen: tuple[int, IntArray] | None = None
        self.is_full_batch = batch_size is None or batch_size >= self._largest
        # Where the nodes stand among those that share the orders.
        self._locals = np.arange(len(nodes))
        if batch_size is not None and not self.is_full_batch:
            self._batch_size = batch_size
            whole, rest = np.divmod(self._sizes, batch_size)
            short = (rest > 0) & ~(drop_last & (whole > 0))
            self._batches_per_epoch = np.maximum(whole + short, 1)
            if not replacement and not uniform:
                self._epochs = np.full(len(nodes), -1, dtype=np.int64)
                # The order of every node's present epoch by batch, padded with 0: [N, batches, B].
                self._orders = np.zeros((len(nodes), -(-self._largest // batch_size), batch_size), dtype=np.int64)
            self._full_weights: dict[torch.dtype, torch.Tensor] = {}

    def part(self, positions: IntArray) -> Self:
        """The sampler of only the nodes at ``positions`` [n], ascending; shares the samples and the orders."""
        some = copy.copy(self)
        some._locals, some._nodes = self._locals[positions], self._nodes[positions]
        some._sizes = self._sizes[positions]
        some._first_rows = self._first_rows[upload(positions, self._first_rows.device)]
        some._last, some._whole, some._chosen = None, {}, None
        if not self.is_full_batch:
            some._batches_per_epoch = self._batches_per_epoch[positions]
            some._full_weights = {}
        return some

    @property
    def epoch_lengths(self) -> IntArray:
        """Batches in an epoch of every node, at least 1, [N]."""
        if self.is_full_batch:
            return np.ones(len(self._nodes), dtype=np.int64)
        lengths: IntArray = self._batches_per_epoch
        return lengths

    def batches(self, step: int | IntArray | None, dtype: torch.dtype) -> Iterator[Batch]:
        """The samples of ``step``: one minibatch, or blocks that together hold all samples (``step=None``).

        An array [N] gives every node a step of its own; a node whose step is -1 gets no samples.
        The weights of a node's samples over all yielded batches sum to 1 (to 0 for a node without samples).
        """
        if step is None or self.is_full_batch:
            yield from self._blocks(dtype)
        else:
            yield self._remembered(step, dtype)

    def batch_sizes(self, step: int | IntArray | None) -> IntArray:
        """How many samples every node has at ``step``, [N]; see :meth:`batches`."""
        sizes: IntArray = self._sizes
        if step is None:
            return sizes
        if self._chosen is not None and isinstance(step, int) and step == self._chosen[0]:
            return self._chosen[1]
        if not self.is_full_batch:
            if self._replacement:
                sizes = np.where(sizes > 0, self._batch_size, 0)
            elif self._uniform:
                sizes = np.minimum(sizes, self._batch_size)
            else:
                sizes = np.minimum(sizes - step % self._batches_per_epoch * self._batch_size, self._batch_size)
        return sizes if isinstance(step, int) else sizes * (step >= 0)

    def positions(self, step: int | IntArray) -> list[IntArray]:
        """The samples of ``step`` as positions in each node's split."""
        if self.is_full_batch:
            return [np.arange(size) for size in self._sizes]
        index, sizes = self._draw(step)
        return [node_index[:size] for node_index, size in zip(index, sizes, strict=True)]

    def _draw(self, step: int | IntArray) -> tuple[IntArray, IntArray]:
        """Positions of every node's samples, padded, [N, B], and how many of them are no padding, [N]."""
        if self._replacement:
            drawn = randomness.uniforms(self._seed, self._stream, self._nodes, np.maximum(step, 0), self._batch_size)
            index = np.floor(drawn * self._sizes[:, None]).astype(np.int64)
            return index, np.where((self._sizes > 0) & (np.asarray(step) >= 0), self._batch_size, 0)
        if self._uniform:
            return self._draw_uniformly(step)
        epochs, position = np.divmod(step, self._batches_per_epoch)
        rests = np.asarray(step) < 0
        if rests.any():
            epochs, position = np.where(rests, self._epochs[self._locals], epochs), np.where(rests, 0, position)
        stale = np.flatnonzero(epochs != self._epochs[self._locals])
        if stale.size:
            self._shuffle(stale, epochs[stale])
        index = self._orders[self._locals, position]
        return index, np.minimum(self._sizes - position * self._batch_size, self._batch_size) * ~rests

    def _draw_uniformly(self, step: int | IntArray) -> tuple[IntArray, IntArray]:
        """As :meth:`_draw`, each sample of a node as likely as the others, ascending."""
        keys = randomness.uniforms(self._seed, self._stream, self._nodes, np.maximum(step, 0), self._largest)
        keys[np.arange(self._largest) >= self._sizes[:, None]] = 2.0
        chosen = np.sort(np.argpartition(keys, self._batch_size, axis=1)[:, : self._batch_size], axis=1)
        sizes = np.minimum(self._sizes, self._batch_size) * (np.asarray(step) >= 0)
        return np.where(np.arange(self._batch_size) < sizes[:, None], chosen, 0), sizes

    def _remembered(self, step: int | IntArray, dtype: torch.dtype) -> Batch:
        """The minibatch of ``step``; methods of several inner steps ask for the same one many times in a row."""
        if not isinstance(step, int):
            return self._minibatch(step, dtype)
        if self._last is None or self._last[:2] != (step, dtype):
            self._last = None  # its memory is free before the next one is made
            self._last = (step, dtype, self._minibatch(step, dtype))
        return self._last[2]

    def _minibatch(self, step: int | IntArray, dtype: torch.dtype) -> Batch:
        return self.samples.gather(self.choose(step, dtype))

    def choose(self, step: int | IntArray, dtype: torch.dtype) -> Chosen:
        """Which samples the minibatch of ``step`` has, on the device; not for full batches."""
        drawn, sizes = self._draw(step)
        self._chosen = (step, sizes) if isinstance(step, int) else None
        index = upload(drawn, self._split.inputs.device)
        if sizes.min() < self._batch_size:
            return Chosen(index, self._weights(np.arange(self._batch_size), sizes, dtype), sizes.tolist())
        if dtype not in self._full_weights:
            self._full_weights[dtype] = self._weights(np.arange(self._batch_size), sizes, dtype)
        return Chosen(index, self._full_weights[dtype], sizes.tolist())

    @property
    def samples(self) -> Samples:
        """All samples, for minibatches to be gathered from."""
        return Samples(self._split.inputs, self._split.labels, self._first_rows)

    def _shuffle(self, local: IntArray, epochs: IntArray) -> None:
        """Draws the orders of some nodes for the epochs that they have reached."""
        keys = randomness.uniforms(self._seed, self._stream, self._nodes[local], epochs, self._largest)
        padding = np.arange(self._largest) >= self._sizes[local, None]
        keys[padding] = 2.0
        # A stable sort would be five times slower, and keys of 53 random bits are distinct except for the padding.
        order = np.argsort(keys, axis=1)
        order[padding] = 0
        self._epochs[self._locals[local]] = epochs
        self._orders.reshape(len(self._orders), -1)[self._locals[local], : self._largest] = order

    def _blocks(self, dtype: torch.dtype) -> Iterator[Batch]:
        """Blocks that together hold all samples; which they are is kept on the device where every step wants them."""
        if dtype in self._whole:
            yield from (self._batch(*block) for block in self._whole[dtype])
            return
        blocks = []
        for start in range(0, self._largest, self._block_size):
            slots = np.arange(start, min(start + self._block_size, self._largest))
            index = upload(np.where(slots < self._sizes[:, None], slots, 0), self._split.inputs.device)
            sizes = np.clip(self._sizes - start, 0, len(slots))
            blocks.append((index, self._weights(slots, self._sizes, dtype), sizes))
            yield self._batch(*blocks[-1])
        if self.is_full_batch:
            self._whole[dtype] = blocks

    def _weights(self, slots: IntArray, counts: IntArray, dtype: torch.dtype) -> torch.Tensor:
        """1/count for the slots below a node's count, and 0 for padding, [N, B]."""
        weights = (slots < counts[:, None]) / np.maximum(counts, 1)[:, None]
        return upload(weights, self._split.inputs.device, dtype)

    def _batch(self, index: torch.Tensor, weights: torch.Tensor, sizes: IntArray) -> Batch:
        return self.samples.gather(Chosen(index, weights, sizes.tolist()))
