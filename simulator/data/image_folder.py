"""Images of one's own in folders: ``path``/train/<class>/* and ``path``/test/<class>/*, or only ``path``/<class>/*.

**Source.** The layout of ``torchvision.datasets.ImageFolder``: the classes are the folder names in sorted order, and
folders within a class are searched too. Names that begin with "." and folders ``__MACOSX`` are left out everywhere.

**Departures.** All images are decoded once, at the start, and kept in memory as 8-bit pixels; nothing is written. A
folder ``val``, ``valid`` or ``validation`` beside ``train`` is the test set where there is no folder ``test``;
otherwise its images belong to the official training set, from which partitions draw validation samples. With neither,
and with class folders alone, there is no official test set.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from simulator.data.base import Dataset, Samples
from simulator.data.image_files import PIL_MODES, read_image

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
VALIDATION = ("val", "valid", "validation")
_SHOWN = 3  # damaged images that are named


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
        if channels not in PIL_MODES:
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
        """Decodes all images; raises ValueError for damaged images or unequal sizes."""
        classes, train, test = self._files()
        files = train + test
        images: npt.NDArray[np.uint8] | None = None
        first = files[0][0]
        damaged: list[str] = []
        for row, (file, _) in enumerate(files):
            try:
                image = read_image(file, self.channels, self.image_size)
            except ValueError as error:
                damaged.append(str(error).removeprefix("dataset image_folder: "))
                continue
            if images is None:
                first, images = file, np.empty((len(files), *image.shape), dtype=np.uint8)
            if image.shape != images.shape[1:]:
                raise ValueError(
                    f"dataset image_folder: {file} has {image.shape[1]}x{image.shape[0]} pixels and {first} "
                    f"has {images.shape[2]}x{images.shape[1]}; set dataset.image_size to resize all"
                )
            images[row] = image
        if damaged or images is None:
            further = f"; and {len(damaged) - _SHOWN} more" if len(damaged) > _SHOWN else ""
            raise ValueError(f"dataset image_folder: {'; '.join(damaged[:_SHOWN])}{further}")
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
        if not classes or (not has_train and set(classes) <= {"test", *VALIDATION}):
            raise ValueError(
                f"dataset image_folder: no class folders in {train_root}; expected {root}/train/<class>/<image> and "
                f"{root}/test/<class>/<image>, or {root}/<class>/<image>; {_advice(root)}"
            )
        if len(classes) == 1:
            raise ValueError(
                f"dataset image_folder: {train_root} has one class folder only, {classes[0]}; {_advice(root)}"
            )
        further = [root / name for name in ("test", *VALIDATION) if (root / name).is_dir()] if has_train else []
        train_roots = [train_root, *(further[1:] if further and further[0].name == "test" else [])]
        test_roots = further[:1] if len(train_roots) > 1 or not further else further
        for each in further:
            unknown = sorted(set(_folders(each)) - set(classes))
            if unknown:
                raise ValueError(f"dataset image_folder: classes {unknown} of {each} are not in {train_root}")
        train, test = (_labelled(roots, classes) for roots in (train_roots, test_roots))
        empty = sorted(set(classes) - {classes[label] for _, label in train})
        if empty:
            raise ValueError(
                f"dataset image_folder: no image in the class folders {empty} of {train_root}; images end in "
                f"{', '.join(sorted(SUFFIXES))}"
            )
        return classes, train, test


def _advice(root: Path) -> str:
    """Which folder near ``root`` has the classes."""
    above = root.parent.parent if root.parent.name == "train" else root.parent
    for candidate in (*(root / name for name in _folders(root)), above):
        top = candidate / "train" if (candidate / "train").is_dir() else candidate
        inside = [name for name in _folders(top) if any(_is_image(file) for file in (top / name).iterdir())]
        if len(inside) > 1:
            return f"the classes seem to be in {top}: set dataset.path={candidate}"
    return "set dataset.path"


def _labelled(roots: list[Path], classes: list[str]) -> list[tuple[Path, int]]:
    return [(file, label) for root in roots for label, name in enumerate(classes) for file in _images(root / name)]


def _folders(root: Path) -> list[str]:
    if not root.is_dir():
        return []
    return sorted(entry.name for entry in root.iterdir() if entry.is_dir() and not _is_hidden(entry.name))


def _images(root: Path) -> list[Path]:
    found = (file for file in root.rglob("*") if not any(map(_is_hidden, file.relative_to(root).parts)))
    return sorted(file for file in found if _is_image(file))


def _is_hidden(name: str) -> bool:
    """What systems write beside the images, such as ".DS_Store" and "._000.jpg" on a Mac."""
    return name.startswith(".") or name == "__MACOSX"


def _is_image(file: Path) -> bool:
    return file.suffix.lower() in SUFFIXES and not _is_hidden(file.name) and file.is_file()
