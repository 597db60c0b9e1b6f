"""Runs what is missing of a study: first the trials of every method, then the seeds of the best trial."""

import fcntl
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

from simulator.studies.comparison import Cell, best_trial
from simulator.studies.plan import Spec, Study
from simulator.studies.runs import FAILED, FINISHED, Result, read
from simulator.studies.workers import Workers

RUNS, LOCK, LOG = "runs", ".lock", "workers.log"
_LOCK_PATIENCE_S = 60.0


def run_study(study: Study, folder: Path, jobs: int = 1, *, shows_progress: bool = True) -> list[Cell]:
    """Runs what is missing below ``folder``, and returns every method in every case.

    Args:
        jobs: runs at the same time, at least 1. Each is a process of one thread.
        shows_progress: whether a progress bar with the time left is shown on standard error.

    Raises:
        ValueError: when ``jobs`` is too small, or another process is at work in the folder.
        KeyboardInterrupt: after Ctrl-C or SIGTERM; the next call goes on.
    """
    if jobs < 1:
        raise ValueError(f"--jobs {jobs}: expected at least 1")
    _import_all()
    (folder / RUNS).mkdir(parents=True, exist_ok=True)
    tuning = [spec for case, method in study.pairs for spec in study.trials_of(case, method)]
    with (
        _locked(folder / LOCK),
        _sigterm_as_interrupt(),
        _progress(study, shows_progress) as bar,
        Workers(jobs, folder / RUNS, folder / LOG) as workers,
    ):
        trials = _results(study, tuning, folder, workers, bar)
        cells, finals = [], list[Spec]()
        for case, method in study.pairs:
            own = [trials[spec.folder] for spec in study.trials_of(case, method)]
            cells.append(Cell(case, method, own, best_trial(own, case.select)))
            finals += _reruns(study, cells[-1])
        bar.total = len(tuning) + len(finals)
        reported = _results(study, finals, folder, workers, bar)
    return [replace(cell, finals=[reported[spec.folder] for spec in _reruns(study, cell)]) for cell in cells]


def _reruns(study: Study, cell: Cell) -> list[Spec]:
    """The runs of the best trial with the seeds that are reported."""
    if cell.chosen is None:
        return []
    return [study.spec(cell.case, cell.method, cell.chosen.spec.point, seed) for seed in study.seeds]


def _results(study: Study, specs: Sequence[Spec], folder: Path, workers: Workers, bar: Any) -> dict[Path, Result]:
    """The results of runs by their folders; the missing ones are run now.

    A run that failed or was refused earlier is tried again, because another machine or other code may allow it.
    """
    base = folder / RUNS
    known = {spec.folder: read(spec, base / spec.folder, study.at) for spec in specs}
    results = {path: found for path, found in known.items() if found is not None and found.state == FINISHED}
    bar.initial += len(results)
    bar.update(len(results))
    missing = [spec for spec in specs if spec.folder not in results]
    for spec, killed in workers.perform(missing):
        found = read(spec, base / spec.folder, study.at)
        results[spec.folder] = found or Result(spec, FAILED, killed or "left no result", 0.0, None, study.at)
        bar.update(1)
    return results


def _import_all() -> None:
    """Imports what runs need, before workers are forked."""
    import torch

    from simulator import config

    config.compose([])
    torch.set_num_threads(1)  # a process with threads must not be forked


@contextmanager
def _progress(study: Study, shown: bool) -> Iterator[Any]:
    from tqdm import tqdm

    tqdm.monitor_interval = 0  # its thread would be there when workers are forked
    with tqdm(total=study.num_runs, desc=study.name, unit="run", smoothing=0.02, disable=not shown) as bar:
        yield bar


@contextmanager
def _sigterm_as_interrupt() -> Iterator[None]:
    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Only one study at a time works in a folder; workers that a killed one has left are waited for."""
    with path.open("w") as file:
        until = time.monotonic() + _LOCK_PATIENCE_S
        while True:
            with suppress(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            if time.monotonic() > until:
                raise ValueError(f"{path.parent}: another process is at work on this study")
            time.sleep(0.2)
        yield
