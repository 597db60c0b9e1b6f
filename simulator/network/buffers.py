"""Byte buffers for messages, reused from round to round."""

from bisect import bisect_left, insort
from collections.abc import Iterable

import torch
from torch import Tensor


class BufferPool:
    """Buffers that a round takes when it is posted and gives back when it is finished.

    Args:
        device: where the buffers live.
        pinned: whether their memory is pinned, for copies from and to a GPU.

    Attributes:
        free: the buffers that no round holds, by ascending size; uint8.
    """

    def __init__(self, device: torch.device, *, pinned: bool) -> None:
        self.free: list[Tensor] = []
        self._device = device
        self._pinned = pinned

    def take(self, num_bytes: int) -> Tensor:
        """The smallest free buffer of at least ``num_bytes``; a new one of exactly this size when there is none.

        A new buffer replaces the largest free one, which was too small. So there are never more buffers than were
        held at the same time.
        """
        position = bisect_left(self.free, num_bytes, key=Tensor.numel)
        if position < len(self.free):
            return self.free.pop(position)
        if self.free:
            self.free.pop()
        return torch.empty(num_bytes, dtype=torch.uint8, device=self._device, pin_memory=self._pinned)

    def give_back(self, buffers: Iterable[Tensor]) -> None:
        """Takes back buffers that came from :meth:`take`."""
        for buffer in buffers:
            insort(self.free, buffer, key=Tensor.numel)
