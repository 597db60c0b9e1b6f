"""Handwritten digits embedded in scikit-learn: 1797 grey images of 8x8 pixels with values 0..16, ten classes.

**Source.** E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI repository, 1998 (its test
part), as shipped with scikit-learn; nothing is downloaded.

**Departures.** None in the pixels: the inputs are v / 16, exact in floating point (8-bit pixels could not hold
them). ``image_size=28`` is a stand-in for MNIST: every pixel is repeated 3x3 and the 24x24 image is padded with two
zeros on each side. There is no official test set, so every sample counts as training.
"""

import gzip
import importlib.util
from pathlib import Path

import numpy as np
import torch

from simulator.arrays import FloatArray
from simulator.data.base import Dataset, Samples

IMAGE_SIZES = (8, 28)


class Digits(Dataset):
    """The 1797 digits of scikit-learn.

    Args:
        image_size: height and width of an image in pixels: 8 as stored, 28 enlarged and padded.

    Raises:
        ValueError: for another image size.
    """

    def __init__(self, *, image_size: int) -> None:
        if image_size not in IMAGE_SIZES:
            raise ValueError(f"dataset.image_size={image_size}: digits has 8 (as stored) and 28 (enlarged and padded)")
        self.image_size = image_size

    def load(self) -> Samples:
        """Reads the file inside scikit-learn."""
        table = _read_table()
        images = table[:, :64].reshape(-1, 1, 8, 8).astype(np.float32) / 16
        if self.image_size == 28:
            enlarged = images.repeat(3, axis=2).repeat(3, axis=3)
            images = np.pad(enlarged, ((0, 0), (0, 0), (2, 2), (2, 2)))
        return Samples(
            inputs=torch.from_numpy(images),
            labels=torch.from_numpy(table[:, 64].astype(np.int64)),
            num_classes=10,
            num_train=len(images),
            levels=16,
        )


def _read_table() -> FloatArray:
    """Pixels and label of every image, shape [1797, 65].

    Importing scikit-learn takes two seconds, so its file is read without the import.
    """
    package = importlib.util.find_spec("sklearn")
    for folder in (package.submodule_search_locations or []) if package else []:
        path = Path(folder) / "datasets" / "data" / "digits.csv.gz"
        if path.is_file():
            with gzip.open(path, "rt") as file:
                return np.loadtxt(file, delimiter=",")
    from sklearn.datasets import load_digits

    digits = load_digits()
    return np.column_stack([digits.data, digits.target])
