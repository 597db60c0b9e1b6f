"""Images as the bytes that nodes send each other: one byte per pixel, and one for the label.

Shapes: S samples, P pixels of an image (channels times height times width).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

MAX_LABELS = 256
"""A label is one byte."""


@dataclass(frozen=True)
class PixelCode:
    """Converts the images of a dataset to bytes and back without any loss.

    The input of pixel p, one of 0..levels, is (p / levels - mean) / std with the mean and std of its channel.

    Attributes:
        shape: (channels, height, width) of an image.
        levels: the pixel value that represents 1.
        mean, std: normalisation by channel; empty for none.
    """

    shape: tuple[int, ...]
    levels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def pixels(self, inputs: Tensor) -> Tensor:
        """The pixels of normalised images [S, ...], uint8 [S, P]."""
        if self.mean:
            inputs = inputs * _by_channel(self.std, inputs) + _by_channel(self.mean, inputs)
        return (inputs * self.levels).round_().to(torch.uint8).flatten(1)

    def pack(self, inputs: Tensor, labels: Tensor) -> Tensor:
        """Normalised images [S, ...] and their labels [S] as rows of bytes, uint8 [S, P + 1]."""
        return torch.cat([self.pixels(inputs), labels[:, None].to(torch.uint8)], dim=1)

    def unpack(self, rows: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """The inverse of :meth:`pack`; images have the values with which they are loaded in ``dtype``."""
        inputs = rows[:, :-1].reshape(-1, *self.shape).to(dtype)
        inputs /= self.levels
        normalise_(inputs, self.mean, self.std)
        return inputs, rows[:, -1].long()


def normalise_(inputs: Tensor, mean: Sequence[float], std: Sequence[float]) -> None:
    """Subtracts the mean and divides by the deviation of each channel of images [S, ...], if there are any."""
    if mean:
        inputs -= _by_channel(mean, inputs)
        inputs /= _by_channel(std, inputs)


def _by_channel(values: Sequence[float], like: Tensor) -> Tensor:
    return torch.tensor(values, dtype=like.dtype, device=like.device)[:, None, None]
