"""Datasets that stand in known files below a folder, in torchvision's layout, and can be downloaded by it.

The files are read without torchvision, whose import takes four seconds per process. It is imported only to download
files.
"""

from abc import abstractmethod
from http.client import HTTPException
from pathlib import Path
from typing import ClassVar
from zipfile import BadZipFile

from simulator.data.base import Dataset
from simulator.data.download import quiet_and_timed, require_timeout


class FileDataset(Dataset):
    """A dataset in files. Subclasses give ``name``, ``folder`` (below ``root``), ``files`` and ``fetch``.

    Args:
        root: folder that holds the dataset's own folder; relative paths start at the working directory.
        download: whether missing files are downloaded.
        timeout_s: longest wait for an answer of a server, in seconds.

    Raises:
        ValueError: when ``timeout_s`` is not positive.
    """

    name: ClassVar[str]
    folder: ClassVar[str]
    files: ClassVar[tuple[str, ...]]

    def __init__(self, *, root: str, download: bool, timeout_s: float) -> None:
        require_timeout(timeout_s)
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
        """Downloads missing files; raises ValueError when the download fails."""
        if not self._missing():
            return
        if not self.download:
            raise self._not_found("dataset.download is false")
        try:
            with quiet_and_timed(self.timeout_s):
                self.fetch(str(Path(self.root).expanduser()))
        except (RuntimeError, OSError, HTTPException, EOFError, BadZipFile) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise self._not_found(f"the download failed: {reason}") from error
        if self._missing():
            raise self._not_found("the download did not bring them")

    def require_files(self) -> None:
        """Raises ValueError, naming the remedy, when files are missing."""
        if self._missing():
            raise self._not_found("they were not prepared")

    def _missing(self) -> list[str]:
        return [file for file in self.files if not (self.path / file).is_file()]

    def _not_found(self, reason: str) -> ValueError:
        return ValueError(
            f"dataset {self.name}: {', '.join(self._missing())} not found in {self.path} ({reason}); put the "
            "uncompressed files there, set data_root to a folder that has them, or run once with internet access "
            "and dataset.download=true"
        )
