"""Ends waits that last too long where the host only enqueues them, as with NCCL.

There an operation returns before it has run, ``wait()`` makes a stream wait and not the host, and the host blocks
later, where it reads a value of the device. So a thread keeps what is being waited for and since when. When a wait is
overdue, it aborts the group. That lets the blocked host go on, and the next call of :meth:`Watchdog.check` raises the
error.
"""

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Protocol

_CHECKED_AT_ONCE = 4


class Work(Protocol):
    """The part of ``torch.distributed.Work`` that is needed here."""

    def is_completed(self) -> bool:
        """Whether the operation has run on the device."""


Describe = Callable[[], Exception]
"""Makes the error that says what has been waited for."""


class Watchdog:
    """Watches the waits of one process for the others.

    Args:
        timeout_s: how long a wait may last.
        abort: ends all pending operations of the group, so that the host no longer waits for them.
        give_up: ends the process, with the error in one line. It is called when the host does not come back within
            ``grace_s`` after a failure.
        broken: the error of a group that has failed by itself, None while it has not; asked often, from any thread.
        heard: the error that other processes report, None while there is none; asked every ``poll_s`` in a thread of
            its own, because it may block.
        poll_s: how often the threads look.

    Attributes:
        failure: why the group was aborted; None while all is well.
    """

    def __init__(
        self,
        timeout_s: float,
        *,
        abort: Callable[[], object],
        give_up: Callable[[Exception], object],
        broken: Callable[[], Exception | None] = lambda: None,
        heard: Callable[[], Exception | None] = lambda: None,
        grace_s: float = 10.0,
        poll_s: float = 0.5,
    ) -> None:
        self.timeout_s = timeout_s
        self.failure: Exception | None = None
        self._abort = abort
        self._give_up = give_up
        self._broken = broken
        self._heard = heard
        self._rumour: Exception | None = None
        self._grace_s = grace_s
        self._poll_s = poll_s
        self._lock = threading.Lock()
        self._works: deque[tuple[float, Work, Describe]] = deque()
        self._calls: dict[object, tuple[float, Describe]] = {}
        self._done = threading.Event()
        threading.Thread(target=self._run, name="watchdog", daemon=True).start()
        threading.Thread(target=self._listen, name="listener", daemon=True).start()

    def follow(self, work: Work, describe: Describe) -> None:
        """Watches ``work`` from now until it has run; it and ``describe`` are kept until then, or a little longer.

        Works that have run are forgotten here, in the thread that posts them: the watching thread asks only those that
        are overdue, because a query from another thread would break the capture of a CUDA graph.
        """
        with self._lock:
            for _ in range(_CHECKED_AT_ONCE):
                if not self._works or not self._works[0][1].is_completed():
                    break
                self._works.popleft()
            self._works.append((time.monotonic(), work, describe))

    @contextlib.contextmanager
    def calling(self, describe: Describe) -> Iterator[None]:
        """Watches calls that may block the host.

        Raises:
            Exception: ``failure``, when there is one at the end of the block.
        """
        key = object()
        with self._lock:
            self._calls[key] = (time.monotonic(), describe)
        try:
            yield
        except Exception as error:
            if self.failure is not None:
                self._done.set()
                raise self.failure from error
            raise
        finally:
            with self._lock:
                del self._calls[key]
        self.check()

    def check(self) -> None:
        """Raises ``failure`` when there is one, or the group has failed by itself."""
        self.failure = self.failure or self._broken()
        if self.failure is not None:
            self._done.set()
            raise self.failure

    def close(self) -> None:
        """Watches no longer."""
        self._done.set()

    def _run(self) -> None:
        while not self._done.wait(self._poll_s):
            try:
                error = self._find()
            except Exception as unexpected:
                error = unexpected
            if error is not None:
                self.failure = error
                # In a thread of its own, because an abort may hang.
                threading.Thread(target=self._abort, name="abort", daemon=True).start()
                if not self._done.wait(self._grace_s):
                    self._give_up(error)
                return

    def _listen(self) -> None:
        while self._rumour is None and not self._done.wait(self._poll_s):
            self._rumour = self._heard()

    def _find(self) -> Exception | None:
        """The error of the longest wait that is overdue, or of what failed elsewhere; None while all is well."""
        overdue_since = time.monotonic() - self.timeout_s
        with self._lock:
            works = [each for each in self._works if each[0] <= overdue_since]
            calls = [each for each in self._calls.values() if each[0] <= overdue_since]
        waits = [(since, describe) for since, work, describe in works if not work.is_completed()] + calls
        if not waits:
            return self._rumour or self._broken()
        _, describe = min(waits, key=lambda wait: wait[0])
        return describe()
