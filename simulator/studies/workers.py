"""Processes that perform runs one after the other, so that torch is imported once.

They are forked from a process that has imported everything and has computed nothing.
"""

import logging
import os
import signal
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from multiprocessing import connection, get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType
from typing import cast

from simulator.studies.plan import Spec
from simulator.studies.runs import perform

_PATIENCE_S = 20.0
_WATCH_S = 1.0


class Workers:
    """Performs runs in several processes; a context manager, which ends them.

    Args:
        jobs: how many processes, at least 1.
        base: folder of the study's runs.
        log: what the processes write to standard output and error.
    """

    def __init__(self, jobs: int, base: Path, log: Path) -> None:
        self._jobs = jobs
        self._base = base
        self._log = log
        self._workers: list[tuple[BaseProcess, Connection]] = []

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for process, pipe in self._workers:
            if kind is not None and process.pid is not None and process.is_alive():
                os.kill(process.pid, signal.SIGTERM)
            with suppress(BrokenPipeError):
                pipe.send(None)
        for process, pipe in self._workers:
            process.join(_PATIENCE_S)
            if process.is_alive():
                process.kill()
                process.join()
            pipe.close()

    def perform(self, specs: Sequence[Spec]) -> Iterator[tuple[Spec, str]]:
        """Performs all runs; yields each when it is over, with what killed its process, which is empty if nothing did.

        In whatever order they end. A run whose process was killed has no outcome.
        """
        waiting, busy = deque(specs), dict[Connection, tuple[BaseProcess, Spec]]()
        while len(self._workers) < min(self._jobs, len(specs)):
            self._workers.append(self._fork())
        idle = list(self._workers)
        while waiting or busy:
            while idle and waiting:
                process, pipe = idle.pop()
                spec = waiting.popleft()
                with suppress(ConnectionError):  # a process that is gone is noticed below
                    pipe.send(spec)
                busy[pipe] = (process, spec)
            for pipe in cast(list[Connection], connection.wait(list(busy))):
                process, spec = busy.pop(pipe)
                killed = ""
                try:
                    pipe.recv()
                    idle.append((process, pipe))
                except (EOFError, ConnectionError):
                    process.join()
                    killed = f"its process ended with status {process.exitcode}"
                    self._workers.remove((process, pipe))
                    pipe.close()
                    self._workers.append(self._fork())
                    idle.append(self._workers[-1])
                yield spec, killed

    def _fork(self) -> tuple[BaseProcess, Connection]:
        context = get_context("fork")
        ours, theirs = context.Pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        process = context.Process(target=_work, args=(theirs, self._base, self._log), daemon=True)
        process.start()
        theirs.close()
        return process, ours


def _work(pipe: Connection, base: Path, log: Path) -> None:
    """Performs runs until there are no more, the parent is gone, or a signal asks to stop."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    parent = os.getppid()
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    logging.getLogger().handlers = [logging.NullHandler()]  # each run has a log file
    with suppress(EOFError, KeyboardInterrupt, BrokenPipeError):
        while True:
            # Other workers hold copies of the parent's end, so that it alone does not tell when the parent is gone.
            while not pipe.poll(_WATCH_S):
                if os.getppid() != parent:
                    return
            spec: Spec | None = pipe.recv()
            if spec is None:
                return
            perform(spec, base / spec.folder)
            pipe.send(None)
