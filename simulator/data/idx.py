"""Image datasets stored as IDX files, the format of MNIST and its successors, in torchvision's folder layout.

The files are read here, which takes no import of torchvision (four seconds of start-up per process); torchvision is
imported only where something has to be downloaded.
"""

import contextlib
import io
import socket
from abc import abstractmethod
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path
from typing import ClassVar
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt
import torch

from simulator.data.base import Dataset, Samples

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


@contextlib.contextmanager
def _quiet_and_timed(timeout_s: float) -> Iterator[None]:
    """Hides what is printed inside the block and bounds every wait on a socket."""
    previous = socket.getdefaulttimeout()
    socket.setdefaulttimeout(timeout_s)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        socket.setdefaulttimeout(previous)


class IdxDataset(Dataset):
    """Grey images in four IDX files.

    Subclasses give ``name``, ``folder`` (below ``root``), ``files`` (training images and labels, test images and
    labels), ``num_classes`` and ``transposed`` (whether the files hold images column by column), and ``fetch``.

    Args:
        root: folder that holds the dataset's own folder; relative paths start at the working directory.
        download: whether missing files are downloaded.
        timeout_s: longest wait for an answer of a server, in seconds.

    Raises:
        ValueError: when ``timeout_s`` is not positive.
    """

    name: ClassVar[str]
    folder: ClassVar[str]
    files: ClassVar[tuple[str, str, str, str]]
    num_classes: ClassVar[int]
    transposed: ClassVar[bool] = False
    mean: ClassVar[tuple[float, ...]] = (0.1307,)
    std: ClassVar[tuple[float, ...]] = (0.3081,)

    def __init__(self, *, root: str, download: bool, timeout_s: float) -> None:
        if not timeout_s > 0:
            raise ValueError(f"dataset.timeout_s={timeout_s}: a positive number of seconds is needed")
        self.root = root
        self.download = download
        self.timeout_s = timeout_s

    @abstractmethod
    def fetch(self, root: str) -> None:
        """Downloads the files to their place below ``root``."""

    @property
    def path(self) -> Path:
        """The folder that holds the files."""
        return Path(self.root).expanduser().absolute() / self.folder

    def prepare(self) -> None:
        """Downloads missing files; raises ValueError when they cannot be had."""
        if not self._missing():
            return
        if not self.download:
            raise self._not_found("dataset.download is false")
        try:
            with _quiet_and_timed(self.timeout_s):
                self.fetch(str(Path(self.root).expanduser()))
        except (RuntimeError, OSError, HTTPException, EOFError, BadZipFile) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise self._not_found(f"the download failed: {reason}") from error
        if self._missing():
            raise self._not_found("the download did not bring them")

    def load(self) -> Samples:
        """Reads the four files; raises ValueError when they are missing or broken."""
        if self._missing():
            raise self._not_found("they were not prepared")
        train_images, train_labels, test_images, test_labels = (read_idx(self.path / file) for file in self.files)
        images = np.concatenate([train_images, test_images])[:, None]
        labels = np.concatenate([train_labels, test_labels]).astype(np.int64)
        if images.ndim != 4 or labels.shape != images.shape[:1] or labels.max() >= self.num_classes:
            raise ValueError(
                f"dataset {self.name}: the files in {self.path} do not hold one label in 0..{self.num_classes - 1} "
                f"for every image; images have shape {train_images.shape} and {test_images.shape}, labels "
                f"{train_labels.shape} and {test_labels.shape}"
            )
        inputs = torch.from_numpy(images)
        return Samples(
            inputs=inputs.transpose(-1, -2) if self.transposed else inputs,
            labels=torch.from_numpy(labels),
            num_classes=self.num_classes,
            num_train=len(train_images),
            mean=self.mean,
            std=self.std,
        )

    def _missing(self) -> list[str]:
        return [file for file in self.files if not (self.path / file).is_file()]

    def _not_found(self, reason: str) -> ValueError:
        return ValueError(
            f"dataset {self.name}: {', '.join(self._missing())} not found in {self.path} ({reason}); put the "
            "uncompressed files there, set data_root to a folder that has them, or run once with internet access "
            "and dataset.download=true"
        )
