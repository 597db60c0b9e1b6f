"""Training images shifted and flipped at random, as a pure function of (seed, node, step).

Definition: an image, padded with ``padding`` black pixels on each side, is cropped to its size at a uniformly random
place, and mirrored left to right with probability 1/2.
Source: the usual augmentation of CIFAR-10, as in He, Zhang, Ren and Sun, CVPR 2016, section 4.2.
Departures: none.

Shapes: N nodes, B batch.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from simulator import randomness
from simulator.arrays import IntArray
from simulator.uploads import upload


@dataclass(frozen=True)
class CropAndFlip:
    """Random crops and flips.

    Attributes:
        padding: pixels, at least 1.
        black: value of a black pixel after normalisation, by channel.
    """

    padding: int
    black: tuple[float, ...]

    def __call__(
        self,
        images: Tensor,
        seed: int,
        nodes: IntArray,
        step: int | IntArray,
        block: int,
    ) -> Tensor:
        """New images [N, B, channels, height, width] of ``images``.

        Args:
            seed: of the run.
            nodes: keys of the nodes, [N].
            step: of all nodes, or of each of them, [N].
            block: which part of the step's samples this is.
        """
        num_nodes, size, _, height, width = images.shape
        drawn = randomness.uniforms(seed, f"augmentation/{block}", nodes, step, 3 * size).reshape(num_nodes, size, 3)
        shifts = np.floor(drawn[..., :2] * (2 * self.padding + 1)).astype(np.int64) - self.padding
        rows = shifts[..., :1] + np.arange(height)
        columns = shifts[..., 1:] + np.arange(width)
        columns = np.where(drawn[..., 2:] < 0.5, columns[..., ::-1], columns)
        inside = ((rows >= 0) & (rows < height))[..., None] & ((columns >= 0) & (columns < width))[..., None, :]
        places = np.clip(rows, 0, height - 1)[..., None] * width + np.clip(columns, 0, width - 1)[..., None, :]

        def at_images(array: npt.NDArray[np.generic]) -> Tensor:
            return upload(array.reshape(num_nodes, size, 1, height * width), images.device)

        moved = images.flatten(3).gather(3, at_images(places).expand(-1, -1, images.shape[2], -1))
        black = upload(np.array(self.black)[:, None], images.device, images.dtype)
        return torch.where(at_images(inside), moved, black).view(images.shape)
