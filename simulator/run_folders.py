"""Run folders of configurations that are rejected: they are removed again, so that every run folder is one of a run."""

import contextlib
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf.errors import OmegaConfBaseException

from simulator.loggers.jsonl import FILE_NAME as METRICS

_SWEEP_SETTINGS = "multirun.yaml"


def missing(folder: Path) -> list[Path]:
    """The folder and those above it, as far as they do not exist; the deepest first."""
    return [path for path in (folder, *folder.parents) if not path.exists()]


def is_unused(folder: Path) -> bool:
    """Whether the folder has nothing but what Hydra writes before a job: its settings and an empty log."""
    return all(
        path.name == ".hydra" or (path.suffix == ".log" and not path.stat().st_size) for path in folder.iterdir()
    )


@contextlib.contextmanager
def removed_if_rejected(folder: Path, made: Sequence[Path]) -> Iterator[None]:
    """Removes the folder when the block raises a user error before the first evaluation of its run.

    Args:
        folder: exists; kept where it has been used before the block.
        made: from :func:`missing`; those that are left empty are removed as well.
    """
    is_new = is_unused(folder)
    try:
        yield
    except (ValueError, OmegaConfBaseException):
        metrics = folder / METRICS
        if is_new and not (metrics.is_file() and metrics.stat().st_size):
            for path in folder.iterdir():
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            _remove_empty(made)
        raise


class CommandFolders(Callback):
    """Hydra's callback that remembers what a command has made, whichever sweeper and launcher run it.

    Attributes:
        made: from :func:`missing`, for the folder of the run or of the sweep.
    """

    made: Sequence[Path] = ()

    def on_run_start(self, config: Any, **kwargs: Any) -> None:
        """Called before Hydra makes the folder of a single run."""
        CommandFolders.made = missing(Path(config.hydra.run.dir).resolve())

    def on_multirun_start(self, config: Any, **kwargs: Any) -> None:
        """Called once, before the sweeper runs the first job."""
        CommandFolders.made = missing(Path(config.hydra.sweep.dir).resolve())


def remove_empty_sweep(folder: Path) -> None:
    """Removes the folder of a sweep that this command has made and of which every job was rejected."""
    if folder not in CommandFolders.made or not folder.is_dir():
        return
    if {path.name for path in folder.iterdir()} <= {_SWEEP_SETTINGS}:
        (folder / _SWEEP_SETTINGS).unlink(missing_ok=True)
        _remove_empty(CommandFolders.made)


def _remove_empty(folders: Sequence[Path]) -> None:
    with contextlib.suppress(OSError):
        for path in folders:
            path.rmdir()
