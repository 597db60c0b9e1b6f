"""Datasets stored as the CIFAR datasets are: pickled dictionaries with a row per 32x32 colour image, plane by plane."""

import codecs
import pickle
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch

from simulator.arrays import IntArray
from simulator.data.base import Samples
from simulator.data.files import FileDataset

SHAPE = (3, 32, 32)
CROP_PADDING = 4


class Cifar(FileDataset):
    """Colour images in pickled batches, the last file being the test set.

    Subclasses give ``name``, ``folder``, ``files`` and ``fetch``, ``title`` (its name in messages), ``label_key``
    (the key of the labels), ``num_classes``, ``mean`` and ``std``.

    Args:
        augment: whether training images are padded by 4 pixels, cropped back at random, and mirrored, in every step.
        root, download, timeout_s: as :class:`simulator.data.files.FileDataset`.
    """

    title: ClassVar[str]
    label_key: ClassVar[bytes]
    num_classes: ClassVar[int]
    mean: ClassVar[tuple[float, ...]]
    std: ClassVar[tuple[float, ...]]

    def __init__(self, *, root: str, download: bool, timeout_s: float, augment: bool) -> None:
        super().__init__(root=root, download=download, timeout_s=timeout_s)
        self.augment = augment

    def load(self) -> Samples:
        """Reads the files; raises ValueError when they are missing or broken."""
        self.require_files()
        batches = [self._read(self.path / file) for file in self.files]
        return Samples(
            inputs=torch.from_numpy(np.concatenate([images for images, _ in batches])),
            labels=torch.from_numpy(np.concatenate([labels for _, labels in batches])),
            num_classes=self.num_classes,
            num_train=sum(len(labels) for _, labels in batches[:-1]),
            mean=self.mean,
            std=self.std,
            crop_padding=CROP_PADDING if self.augment else 0,
        )

    def _read(self, path: Path) -> tuple[npt.NDArray[np.uint8], IntArray]:
        """Images [S, 3, 32, 32] and labels [S] of one file; raises ValueError when the file is something else."""
        try:
            with path.open("rb") as file:
                content = _ArraysOnly(file, encoding="bytes").load()
            images = np.asarray(content[b"data"], dtype=np.uint8).reshape(-1, *SHAPE)
            labels = np.asarray(content[self.label_key], dtype=np.int64)
        except (pickle.UnpicklingError, EOFError, KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise ValueError(f"{path} is no batch of {self.title} ({error}); delete it and fetch it again") from error
        if labels.shape != images.shape[:1] or labels.min(initial=0) < 0 or labels.max(initial=0) >= self.num_classes:
            raise ValueError(
                f"{path} does not hold one label in 0..{self.num_classes - 1} for every image; delete it and fetch it "
                "again"
            )
        return images, labels


class _ArraysOnly(pickle.Unpickler):
    """An unpickler that builds only NumPy arrays and plain values, because pickles can run arbitrary code."""

    def find_class(self, module: str, name: str) -> Any:
        """Returns the class or function of a name that pickled arrays need; other names are errors."""
        if module.split(".")[0] == "numpy" and name in ("ndarray", "dtype"):
            return getattr(np, name)
        if module.endswith("core.multiarray") and name == "_reconstruct":
            return np.empty(0).__reduce__()[0]
        if (module, name) == ("_codecs", "encode"):
            return codecs.encode
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")
