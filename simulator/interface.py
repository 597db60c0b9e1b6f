"""``run``: a run from Python, which leaves the interpreter as it was."""

import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from simulator import config, fresh_interpreter, job
from simulator.config.overrides import as_override
from simulator.errors import RunError, describe_error
from simulator.results import Run, load_run
from simulator.resume import implied_overrides
from simulator.run_folders import missing, removed_if_rejected
from simulator.world import World

LOG_FILE = "launch.log"

log = logging.getLogger(__name__)


def run(*overrides: str, processes: int | None = None, folder: str | Path | None = None, **settings: Any) -> Run:
    """Runs what a command line with the same overrides runs, and returns what it has left in the run folder.

    ``run("experiment=personalization_sgp", "graph=ring", num_steps=600)`` is
    ``python launch.py experiment=personalization_sgp graph=ring num_steps=600``.

    Args:
        overrides: as on the command line, such as ``graph=ring`` or ``algorithm.lr=0.1``.
        processes: on this machine, at least 1. With 1 the run computes in this interpreter; with more, in processes
            that a fresh interpreter starts, which finds modules where this one does.
        folder: the run folder; ``outputs/<date>/<time>`` unless given.
        settings: further overrides as Python values, such as ``num_steps=600`` or ``**{"algorithm.lr": 0.1}``.

    Raises:
        ValueError: a user error, as the line that the command line prints.
        RunError: a run that failed, as one line.
        KeyboardInterrupt: after Control-C, when the checkpoint is written; ``run(resume=folder)`` continues it.
    """
    typed = [*overrides, *(as_override(key, value) for key, value in settings.items())]
    if processes is not None:
        typed.append(f"launcher.num_processes={processes}")
    typed += implied_overrides(typed)
    with config.composer() as compose:
        composed = compose(typed)
    run_folder = Path(composed.run_folder if folder is None else folder).resolve()
    made = missing(run_folder)
    run_folder.mkdir(parents=True, exist_ok=True)
    with removed_if_rejected(run_folder, made), _logging_to(run_folder / LOG_FILE) as file, _one_line_errors(file):
        ordered = job.prepare(composed.settings, typed, run_folder, ["simulator.run", *typed])
        try:
            if ordered.config["launcher"]["num_processes"] > 1:
                fresh_interpreter.run(ordered)
            else:
                with _unchanged_torch():
                    job.run_job(ordered, World(), None)
        except SystemExit as stop:
            raise KeyboardInterrupt(f"stopped; run(resume={str(run_folder)!r}) continues") from stop
    return load_run(run_folder)


@contextmanager
def _one_line_errors(file: logging.Handler) -> Iterator[None]:
    """Errors inside the block that have one line are raised with that line, which the log of the run gets as well."""
    from omegaconf.errors import OmegaConfBaseException

    try:
        yield
    except (ValueError, OmegaConfBaseException) as error:
        line = describe_error(error)
        file.handle(log.makeRecord(log.name, logging.ERROR, __file__, 0, line, (), None))
        raise ValueError(line) from error
    except (FloatingPointError, TimeoutError, ConnectionError, RunError) as error:
        line = describe_error(error)
        file.handle(log.makeRecord(log.name, logging.ERROR, __file__, 0, line, (), None))
        raise RunError(line) from error


@contextmanager
def _unchanged_torch() -> Iterator[None]:
    """Gradients are on inside the block; threads and the current GPU are afterwards as they were."""
    threads = torch.get_num_threads()
    gpu = torch.cuda.current_device() if torch.cuda.is_initialized() else None
    try:
        with torch.inference_mode(False), torch.enable_grad():
            yield
    finally:
        torch.set_num_threads(threads)
        if gpu is not None:
            torch.cuda.set_device(gpu)


_LOGGER = logging.getLogger("simulator")
_LEVEL_LOCK = threading.Lock()
_INSIDE: list[int] = []


@contextmanager
def _logging_to(path: Path) -> Iterator[logging.Handler]:
    """The simulator's log lines of this thread go to a file, and to standard output where nobody has set up logging.

    Yields the handler of the file.
    """
    handlers: list[logging.Handler] = [logging.FileHandler(path, encoding="utf-8")]
    if not logging.getLogger().handlers:
        handlers.append(logging.StreamHandler(sys.stdout))
    thread = threading.get_ident()
    for handler in handlers:
        handler.setFormatter(logging.Formatter("[%(asctime)s][%(name)s][%(levelname)s] - %(message)s"))
        handler.addFilter(lambda record: record.thread == thread)
        _LOGGER.addHandler(handler)
    with _lowered_level():
        try:
            yield handlers[0]
        finally:
            for handler in handlers:
                _LOGGER.removeHandler(handler)
                handler.close()


@contextmanager
def _lowered_level() -> Iterator[None]:
    """The simulator's INFO lines are logged inside the block; several threads may be in it at once."""
    with _LEVEL_LOCK:
        if not _INSIDE:
            _INSIDE.append(_LOGGER.level)
            _LOGGER.setLevel(logging.INFO)
        else:
            _INSIDE.append(_INSIDE[0])
    try:
        yield
    finally:
        with _LEVEL_LOCK:
            level = _INSIDE.pop()
            if not _INSIDE:
                _LOGGER.setLevel(level)
