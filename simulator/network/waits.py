"""Waiting for other processes: every wait is bounded, and every failure says what was waited for."""

import contextlib
from collections.abc import Callable, Iterator
from datetime import timedelta

import torch
import torch.distributed as dist

from simulator.watchdog import Describe, Watchdog


class Waits:
    """How this process waits for others.

    On gloo the host waits, with a timeout. On NCCL only a stream waits, and a watchdog counts the time: a wait with a
    timeout would stop the host in every round, and could not be captured in a CUDA graph.

    Args:
        timeout_s: how long a wait may last.
        watchdog: of the process group, on NCCL, with the same timeout; None elsewhere.
    """

    def __init__(self, timeout_s: float, watchdog: Watchdog | None) -> None:
        self.timeout_s = timeout_s
        self._timeout = timedelta(seconds=timeout_s)
        self.watchdog = watchdog

    @contextlib.contextmanager
    def calling(self, silent: Describe, lost: Callable[[RuntimeError], Exception]) -> Iterator[None]:
        """Around calls of torch.distributed, which may block or fail.

        Args:
            silent: makes the error for a wait that took too long.
            lost: makes the error for any other failure.
        """
        with contextlib.nullcontext() if self.watchdog is None else self.watchdog.calling(silent):
            try:
                yield
            except torch.OutOfMemoryError:
                raise
            except RuntimeError as error:
                raise (silent() if is_timeout(error) else lost(error)) from error

    def finish(self, work: dist.Work, silent: Describe) -> None:
        """Waits for ``work``, or lets the current stream wait; called within :meth:`calling`."""
        if self.watchdog is None:
            work.wait(self._timeout)
        else:
            work.wait()
            self.watchdog.follow(work, silent)

    def check(self) -> None:
        """Raises the error of a failed group, whose results are worthless; on gloo they never come."""
        if self.watchdog is not None:
            self.watchdog.check()


def first_line(error: BaseException) -> str:
    """The first line of an error's text, at most 200 characters; the name of its type when it has no text."""
    return str(error).splitlines()[0][:200] if str(error) else type(error).__name__


def is_timeout(error: BaseException) -> bool:
    """Whether an error of torch.distributed is a timeout, judged by its text."""
    text = str(error).lower()
    return "timed out" in text or "timeout" in text
