"""Images of one's own in folders: ``path``/train/<class>/* and ``path``/test/<class>/*, or only ``path``/<class>/*.

**Source.** The layout of ``torchvision.datasets.ImageFolder``: the classes are the folder names in sorted order, and
folders within a class are searched too.

**Departures.** All images are decoded once, at the start, and kept in memory as 8-bit pixels; nothing is written. With
``train`` and no ``test`` folder, and with class folders alone, there is no official test set.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from simulator.data.base import Dataset, Samples

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
_PIL_MODES = {1: "L", 3: "RGB"}


class ImageFolder(Dataset):
    """Labelled images in one folder per class.

    Args:
        path: the folder; relative paths start at the working directory.
        image_size: height and width that every image is resized to (bilinear), in pixels; None keeps the size,
            which must then be the same for all.
        channels: 3 for colour, 1 for grey.
        mean, std: normalisation of pixels in [0, 1], one number per channel; both empty for none.

    Raises:
        ValueError: for an impossible size, number of channels or normalisation.
    """

    def __init__(
        self, *, path: str, image_size: int | None, channels: int, mean: Sequence[float], std: Sequence[float]
    ) -> None:
        if image_size is not None and image_size < 1:
            raise ValueError(f"dataset.image_size={image_size}: at least one pixel, or null to keep the size")
        if channels not in _PIL_MODES:
            raise ValueError(f"dataset.channels={channels}: image_folder reads 1 (grey) or 3 (colour)")
        if len(mean) != len(std) or len(mean) not in (0, channels) or any(not value > 0 for value in std):
            raise ValueError(
                f"dataset.mean={list(mean)}, dataset.std={list(std)}: each needs {channels} numbers (channels), "
                "std positive, or both are empty"
            )
        self.path = path
        self.image_size = image_size
        self.channels = channels
        self.mean = tuple(mean)
        self.std = tuple(std)

    def prepare(self) -> None:
        """Looks for the images; raises ValueError when there are none."""
        self._files()

    def load(self) -> Samples:
        """Decodes all images; raises ValueError for a broken image or unequal sizes."""
        classes, train, test = self._files()
        files = train + test
        first = self._read(files[0][0])
        images = np.empty((len(files), *first.shape), dtype=np.uint8)
        for row, (file, _) in enumerate(files):
            image = self._read(file)
            if image.shape != first.shape:
                raise ValueError(
                    f"dataset image_folder: {file} has {image.shape[1]}x{image.shape[0]} pixels and {files[0][0]} "
                    f"has {first.shape[1]}x{first.shape[0]}; set dataset.image_size to resize all"
                )
            images[row] = image
        return Samples(
            inputs=torch.from_numpy(images).permute(0, 3, 1, 2),
            labels=torch.tensor([label for _, label in files], dtype=torch.int64),
            num_classes=len(classes),
            num_train=len(train),
            mean=self.mean,
            std=self.std,
        )

    def _files(self) -> tuple[list[str], list[tuple[Path, int]], list[tuple[Path, int]]]:
        """The classes, and the (file, label) pairs of the training and of the test set."""
        root = Path(self.path).expanduser().absolute()
        has_train = (root / "train").is_dir()
        train_root = root / "train" if has_train else root
        classes = _folders(train_root)
        if not classes or (not has_train and classes == ["test"]):
            raise ValueError(
                f"dataset image_folder: no class folders in {train_root}; expected {root}/train/<class>/<image> and "
                f"{root}/test/<class>/<image>, or {root}/<class>/<image>; set dataset.path"
            )
        test_root = root / "test"
        test_classes = _folders(test_root) if has_train else []
        unknown = sorted(set(test_classes) - set(classes))
        if unknown:
            raise ValueError(f"dataset image_folder: classes {unknown} of {test_root} are not in {train_root}")
        labels = {name: label for label, name in enumerate(classes)}
        train = [(file, labels[name]) for name in classes for file in _images(train_root / name)]
        test = [(file, labels[name]) for name in test_classes for file in _images(test_root / name)]
        empty = sorted(set(classes) - {classes[label] for _, label in train})
        if empty:
            raise ValueError(
                f"dataset image_folder: no image in the class folders {empty} of {train_root}; images end in "
                f"{', '.join(sorted(SUFFIXES))}"
            )
        return classes, train, test

    def _read(self, file: Path) -> npt.NDArray[np.uint8]:
        """Pixels of one image, shape [height, width, channels]."""
        from PIL import Image

        try:
            with Image.open(file) as opened:
                image = opened.convert(_PIL_MODES[self.channels])
        except OSError as error:
            raise ValueError(f"dataset image_folder: {file} cannot be read as an image ({error})") from error
        if self.image_size is not None and image.size != (self.image_size, self.image_size):
            image = image.resize((self.image_size, self.image_size), Image.Resampling.BILINEAR)
        return np.asarray(image, dtype=np.uint8).reshape(image.height, image.width, self.channels)


def _folders(root: Path) -> list[str]:
    if not root.is_dir():
        return []
    return sorted(entry.name for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _images(root: Path) -> list[Path]:
    return sorted(file for file in root.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
