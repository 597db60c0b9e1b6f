"""CIFAR-10: 50,000 training and 10,000 test photographs, 32x32 in colour, ten classes.

**Source.** A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009; files in the layout of
``torchvision.datasets.CIFAR10(root)``.

**Departures.** None. Pixels in [0, 1] are normalised by means (0.4914, 0.4822, 0.4465) and standard deviations
(0.2023, 0.1994, 0.2010).
"""

import codecs
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from simulator.data.base import Samples
from simulator.data.files import FileDataset

TRAIN_FILES = tuple(f"data_batch_{number}" for number in range(1, 6))
NUM_CLASSES = 10
SHAPE = (3, 32, 32)
CROP_PADDING = 4


class Cifar10(FileDataset):
    """CIFAR-10 below ``root``/cifar-10-batches-py.

    Args:
        augment: whether training images are padded by 4 pixels, cropped back at random, and mirrored, in every step.
        root, download, timeout_s: as :class:`simulator.data.files.FileDataset`.
    """

    name = "cifar10"
    folder = "cifar-10-batches-py"
    files = (*TRAIN_FILES, "test_batch")

    def __init__(self, *, root: str, download: bool, timeout_s: float, augment: bool) -> None:
        super().__init__(root=root, download=download, timeout_s=timeout_s)
        self.augment = augment

    def fetch(self, root: str) -> None:
        """Lets torchvision download and unpack the files."""
        from torchvision.datasets import CIFAR10

        CIFAR10(root, download=True)

    def load(self) -> Samples:
        """Reads the six files; raises ValueError when they are missing or broken."""
        self.require_files()
        batches = [_read(self.path / file) for file in self.files]
        return Samples(
            inputs=torch.from_numpy(np.concatenate([images for images, _ in batches])),
            labels=torch.from_numpy(np.concatenate([labels for _, labels in batches])),
            num_classes=NUM_CLASSES,
            num_train=sum(len(labels) for _, labels in batches[:-1]),
            mean=(0.4914, 0.4822, 0.4465),
            std=(0.2023, 0.1994, 0.2010),
            crop_padding=CROP_PADDING if self.augment else 0,
        )


class _ArraysOnly(pickle.Unpickler):
    """Builds NumPy arrays and plain values, and nothing else that a pickle may ask for."""

    def find_class(self, module: str, name: str) -> Any:
        """The few names that arrays are made of."""
        if module.split(".")[0] == "numpy" and name in ("ndarray", "dtype"):
            return getattr(np, name)
        if module.endswith("core.multiarray") and name == "_reconstruct":
            return np.empty(0).__reduce__()[0]
        if (module, name) == ("_codecs", "encode"):
            return codecs.encode
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")


def _read(path: Path) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Images [S, 3, 32, 32] and labels [S] of one file: a pickled dictionary, with a row per image, plane by plane.

    Raises:
        ValueError: when the file is something else.
    """
    try:
        with path.open("rb") as file:
            content = _ArraysOnly(file, encoding="bytes").load()
        images = np.asarray(content[b"data"], dtype=np.uint8).reshape(-1, *SHAPE)
        labels = np.asarray(content[b"labels"], dtype=np.int64)
    except (pickle.UnpicklingError, EOFError, KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise ValueError(f"{path} is no batch of CIFAR-10 ({error}); delete it and fetch it again") from error
    if labels.shape != images.shape[:1] or labels.min(initial=0) < 0 or labels.max(initial=0) >= NUM_CLASSES:
        raise ValueError(f"{path} does not hold one label in 0..9 for every image; delete it and fetch it again")
    return images, labels
