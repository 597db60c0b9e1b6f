"""Minibatches with the other randomness of a training step: dropout masks, and shifted and flipped images.

Both are pure functions of (seed, node, step), so that they depend neither on the executor nor on the placement. With
``step=None`` all samples are returned unchanged, without dropout.

Shapes: N nodes, B batch, F features that reach dropout layers.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from simulator import randomness
from simulator.arrays import IntArray
from simulator.compute.executors import Batch
from simulator.data.augmentation import CropAndFlip
from simulator.data.base import Split
from simulator.data.sampling import MinibatchSampler
from simulator.uploads import upload_like


class NoisySampler(MinibatchSampler):
    """A sampler whose batches include the randomness of their step.

    Args:
        split, nodes, seed, further: as :class:`simulator.data.sampling.MinibatchSampler`.
        dropout: rate and number of features of each dropout layer of the model, in order.
        augmentation: random changes of images; None for no changes.
    """

    def __init__(
        self,
        split: Split,
        nodes: range | IntArray,
        *,
        seed: int,
        dropout: Sequence[tuple[float, int]],
        augmentation: CropAndFlip | None,
        **further: Any,
    ) -> None:
        super().__init__(split, nodes, seed=seed, **further)
        self._augmentation = augmentation
        self._rates = np.concatenate([np.full(features, rate) for rate, features in dropout] or [np.zeros(0)])

    @property
    def is_noisy(self) -> bool:
        """Whether batches have anything random besides their samples."""
        return self._augmentation is not None or len(self._rates) > 0

    def batches(self, step: int | IntArray | None, dtype: torch.dtype) -> Iterator[Batch]:
        """The batches of the base class, with the dropout masks and changed images of ``step``."""
        for block, batch in enumerate(super().batches(step, dtype)):
            yield batch if step is None else self._with_noise(batch, step, block)

    def _with_noise(self, batch: Batch, step: int | IntArray, block: int) -> Batch:
        # A node without a step has step -1; its numbers are not used.
        step = np.maximum(step, 0)
        if self._augmentation is not None:
            batch = replace(batch, inputs=self._augmentation(batch.inputs, self._seed, self._nodes, step, block))
        if len(self._rates):
            shape = (*batch.labels.shape, len(self._rates))
            count = shape[1] * shape[2]
            drawn = randomness.uniforms(self._seed, f"dropout/{block}", self._nodes, step, count).reshape(shape)
            masks = upload_like((drawn >= self._rates) / (1.0 - self._rates), batch.weights)
            batch = replace(batch, masks=masks)
        return batch
