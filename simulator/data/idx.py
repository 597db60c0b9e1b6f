"""Image datasets stored as IDX files, the format of MNIST and its successors."""

from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import torch

from simulator.data.base import Samples
from simulator.data.files import FileDataset

_UINT8 = 0x08


def read_idx(path: Path) -> npt.NDArray[np.uint8]:
    """Maps an uncompressed IDX file of bytes into memory.

    Raises:
        ValueError: when the file is not an IDX file of bytes, or is truncated.
    """
    with path.open("rb") as file:
        start = file.read(4)
        if len(start) < 4 or start[:3] != bytes([0, 0, _UINT8]):
            raise ValueError(f"{path} is not an IDX file of unsigned bytes; delete it and fetch it again")
        shape = np.frombuffer(file.read(4 * start[3]), dtype=">i4").astype(np.int64)
    header_bytes = 4 + 4 * len(shape)
    expected_bytes = header_bytes + int(np.prod(shape))
    if len(shape) != start[3] or path.stat().st_size != expected_bytes:
        raise ValueError(
            f"{path} has {path.stat().st_size} bytes where its header asks for {expected_bytes}; "
            "delete it and fetch it again"
        )
    return np.memmap(path, dtype=np.uint8, mode="r", offset=header_bytes, shape=tuple(int(size) for size in shape))


class IdxDataset(FileDataset):
    """Grey images in four IDX files.

    Subclasses give ``name``, ``folder``, ``files`` (training images and labels, test images and labels),
    ``num_classes`` and ``transposed`` (whether the files hold images column by column), and ``fetch``.

    Args:
        pad: black pixels added on each side of an image, 2 for 32x32 instead of 28x28.
        root, download, timeout_s: as :class:`simulator.data.files.FileDataset`.

    Raises:
        ValueError: when ``pad`` is negative.
    """

    files: ClassVar[tuple[str, str, str, str]]
    num_classes: ClassVar[int]
    transposed: ClassVar[bool] = False
    mean: ClassVar[tuple[float, ...]] = (0.1307,)
    std: ClassVar[tuple[float, ...]] = (0.3081,)

    def __init__(self, *, root: str, download: bool, timeout_s: float, pad: int = 0) -> None:
        super().__init__(root=root, download=download, timeout_s=timeout_s)
        if pad < 0:
            raise ValueError(f"dataset.pad={pad}: expected a number of pixels, at least 0")
        self.pad = pad

    def load(self) -> Samples:
        """Reads the four files; raises ValueError when they are missing or broken."""
        self.require_files()
        train_images, train_labels, test_images, test_labels = (read_idx(self.path / file) for file in self.files)
        images = np.concatenate([train_images, test_images])[:, None]
        labels = np.concatenate([train_labels, test_labels]).astype(np.int64)
        if images.ndim != 4 or labels.shape != images.shape[:1] or labels.max() >= self.num_classes:
            raise ValueError(
                f"dataset {self.name}: the files in {self.path} do not hold one label in 0..{self.num_classes - 1} "
                f"for every image; images have shape {train_images.shape} and {test_images.shape}, labels "
                f"{train_labels.shape} and {test_labels.shape}"
            )
        inputs = torch.nn.functional.pad(torch.from_numpy(images), (self.pad,) * 4)
        return Samples(
            inputs=inputs.transpose(-1, -2) if self.transposed else inputs,
            labels=torch.from_numpy(labels),
            num_classes=self.num_classes,
            num_train=len(train_images),
            mean=self.mean,
            std=self.std,
        )
