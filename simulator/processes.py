"""The ranks of a launch: connecting them, sending them jobs, ending them together, and reporting which one failed.

A launch is one set of processes from start to end. A job is one run inside it; a multirun has many. Every job has a
process group of its own on the launch's key-value store, so that a failed job does not affect the next one.
"""

import contextlib
import json
import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING

from simulator.errors import SHOWS_TRACEBACKS, Report, RunError, find_cause
from simulator.world import World

if TYPE_CHECKING:
    from torch._C._distributed_c10d import Store

log = logging.getLogger(__name__)

STOPPED_EXIT_CODE = 130
"""Exit status of a run that was stopped by SIGTERM or SIGINT after it had written its checkpoint."""

_REPORT_WAIT_S = 10.0  # a rank on a busy machine needs seconds to notice that another one has ended
_STORE_WAIT_S = 3.0
_LEAVE_WAIT_S = 15.0
_POLL_S = 0.02


class Launch:
    """The processes of one launch and the store they share; jobs run in it one after another.

    Args:
        world: this process.
        store: the launch's key-value store; None when there is one process.

    Attributes:
        lost: ranks that have died or hang; if there are any, no further job can run.
        speaks: whether this rank prints why the last job failed. At most one rank does, as long as there is a store.
        signals: SIGTERM and SIGINT that arrived outside a job.
    """

    def __init__(self, world: World, store: "Store | None") -> None:
        self.world = world
        self.lost: set[int] = set()
        self.speaks = world.rank == 0
        self.signals: list[int] = []
        self._store = store
        self._job = -1

    @classmethod
    def join(cls, world: World, timeout_s: float = 300.0) -> "Launch":
        """Connects to the other processes that torchrun or SLURM started.

        Raises:
            RunError: when some do not connect.
        """
        if world.world_size == 1:
            return cls(world, None)
        import torch.distributed as dist

        try:
            store, _, _ = next(dist.rendezvous("env://", timeout=timedelta(seconds=timeout_s)))
        except (RuntimeError, dist.DistError) as error:
            reason = " ".join(str(error).split())[:200]
            raise RunError(
                f"rank {world.rank} of {world.world_size} did not meet the others within {timeout_s:g} s; every rank "
                f"has to be started, by torchrun, srun or mpirun ({reason})"
            ) from error
        if world.is_one_machine:
            # When torchrun restarts its ranks, the store keeps the keys of the previous attempt.
            store = dist.PrefixStore(f"attempt/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)
        launch = cls(world, store)
        for number in (signal.SIGTERM, signal.SIGINT):
            # A rank that the launcher ends, because another rank failed, must still have time to report the cause.
            signal.signal(number, lambda received, _: launch.signals.append(received))
        return launch

    def announce(self, message: str) -> None:
        """Sends the next job from rank 0 to the others, or that there are no more jobs."""
        self._job += 1
        if self._store is None:
            return
        with contextlib.suppress(RuntimeError):
            self._store.set(f"job/{self._job}", message)

    def next_message(self, patience_s: float = 5.0) -> str | None:
        """Waits without limit for rank 0's next message; None when the launch has ended.

        Args:
            patience_s: how long to wait after this process has been asked to end.
        """
        assert self._store is not None
        self._job += 1
        key = f"job/{self._job}"
        deadline: float | None = None
        try:
            while not self._store.check([key]):
                if self.signals and deadline is None:
                    deadline = time.monotonic() + patience_s
                if deadline is not None and time.monotonic() > deadline:
                    return None
                time.sleep(_POLL_S)
            return bytes(self._store.get(key)).decode()
        except RuntimeError:
            return None

    def leave(self) -> None:
        """Ends the launch: rank 0, which may host the store, waits until the others no longer need it."""
        if self._store is None:
            return
        others = [f"left/{rank}" for rank in range(1, self.world.world_size) if rank not in self.lost]
        with contextlib.suppress(RuntimeError):
            if self.world.rank > 0:
                self._store.set(f"left/{self.world.rank}", "")
            else:
                deadline = time.monotonic() + _LEAVE_WAIT_S
                while others and time.monotonic() < deadline and not self._store.check(others):
                    time.sleep(_POLL_S)
        self._store = None

    def run(self, job: Callable[["Store | None"], None]) -> None:
        """Runs one job; when it fails on any rank, every process raises the first cause.

        Raises:
            ValueError: a user error.
            RunError: any other failure, as one line that names the rank.
        """
        if self._store is None:
            job(None)
            return
        import torch.distributed as dist

        store = dist.PrefixStore(f"job/{self._job}/group", self._store)
        self.speaks = self.world.rank == 0
        try:
            job(store)
        except Exception as error:
            if SHOWS_TRACEBACKS:
                log.exception("rank %d", self.world.rank)
            cause = self._first_cause(Report.of(error))
            # Rank 0, or where it is lost the lowest rank that is not. Where ranks were slow to report the others
            # disagree on who is lost; then the first that wants to speak does.
            self.speaks = self.world.rank == min(set(range(self.world.world_size)) - self.lost)
            if self.speaks and (speaker := self._speaker()) != self.world.rank:
                self.speaks = False
                self.lost.add(speaker)  # it took this rank for lost and has ended
            raise cause.as_error() from error

    def _speaker(self) -> int:
        """The first rank that wanted to report the failure of this job; this one when the store is gone."""
        if self._store is None:
            return self.world.rank
        try:
            return int(self._store.compare_set(f"job/{self._job}/speaker", "", str(self.world.rank)))
        except RuntimeError:
            return self.world.rank

    def _first_cause(self, own: Report) -> Report:
        """Sends the others this process's report, and returns the report of the first cause.

        Requests to a store on a machine that cannot be reached any more do not end.
        """
        found: list[Report] = []
        thread = threading.Thread(target=lambda: found.append(self._exchange_reports(own)), daemon=True)
        thread.start()
        thread.join(2 * _REPORT_WAIT_S + _STORE_WAIT_S)
        if not found:
            self._store = None
            self.lost = {0}
            return find_cause({self.world.rank: own}, self.lost)
        return found[0]

    def _exchange_reports(self, own: Report) -> Report:
        import torch.distributed as dist

        assert self._store is not None
        box = dist.PrefixStore(f"job/{self._job}/report", self._store)
        ranks = range(self.world.world_size)
        reports = {self.world.rank: own}
        try:
            box.set(str(self.world.rank), json.dumps(asdict(own)))
            began = time.monotonic()
            while len(reports) < len(ranks) and not any(report.is_cause for report in reports.values()):
                for rank in ranks:
                    if rank not in reports and box.check([str(rank)]):
                        reports[rank] = Report(**json.loads(box.get(str(rank))))
                # Rank 0 has the most to do, and whoever takes it for lost speaks in its place.
                if time.monotonic() > began + (_REPORT_WAIT_S if 0 in reports else 2 * _REPORT_WAIT_S):
                    break
                time.sleep(_POLL_S)
        except RuntimeError:
            # The store went down with rank 0.
            self.lost = {0}
            return find_cause(reports, self.lost)
        if not any(report.is_cause for report in reports.values()):
            self.lost = set(ranks) - set(reports)
        return find_cause(reports, self.lost)
