"""The ranks of a launch: joining them, handing them jobs, ending them together, and saying which one failed.

A launch is one set of processes that lives from start to end; a job is one run inside it (a multirun has many). Every
job gets a process group of its own on the launch's key-value store, so that a job that fails leaves nothing behind
for the next one.
"""

import contextlib
import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import timedelta
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

from simulator.errors import SHOWS_TRACEBACKS, Report, RunError, find_cause
from simulator.world import Compute, World

if TYPE_CHECKING:
    from torch._C._distributed_c10d import Store

log = logging.getLogger(__name__)

STOPPED_EXIT_CODE = 130
"""Exit status of a run that was stopped by SIGTERM or SIGINT after it had written its checkpoint."""

_REPORT_WAIT_S = 3.0
_LEAVE_WAIT_S = 10.0
_POLL_S = 0.02


@contextlib.contextmanager
def process_group(world: World, store: "Store | None", compute: Compute, timeout_s: float) -> Iterator[None]:
    """Joins the other processes of the launch for one job, and leaves them at the end, also after an error.

    Raises:
        ConnectionError: when the others do not come.
    """
    import torch
    import torch.distributed as dist

    if compute.device.type == "cuda":
        torch.cuda.set_device(compute.device)
    if world.world_size == 1 or store is None:
        yield
        return
    if world.is_one_machine and sys.platform == "linux":
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    options: dict[str, Any] = {"device_id": compute.device} if compute.backend == "nccl" else {}
    try:
        dist.init_process_group(
            compute.backend,
            store=store,
            rank=world.rank,
            world_size=world.world_size,
            timeout=timedelta(seconds=timeout_s),
            **options,
        )
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise ConnectionError(f"rank {world.rank} could not connect to the other ranks ({reason})") from error
    try:
        if compute.backend == "nccl":
            # NCCL's point-to-point batches need a communicator that every rank has entered.
            dist.all_reduce(torch.zeros(1, device=compute.device))
        yield
    finally:
        dist.destroy_process_group()


class Launch:
    """The processes of one launch and the store they share; jobs run in it one after another.

    Args:
        world: this process.
        store: the launch's key-value store; None when there is one process.

    Attributes:
        lost: ranks that have died or hang; no job can run any more when there are some.
        signals: SIGTERM and SIGINT that came outside a job.
    """

    def __init__(self, world: World, store: "Store | None") -> None:
        self.world = world
        self.lost: set[int] = set()
        self.signals: list[int] = []
        self._store = store
        self._job = -1

    @classmethod
    def join(cls, world: World, timeout_s: float = 300.0) -> "Launch":
        """Meets the other processes that torchrun or SLURM started.

        Raises:
            RunError: when some do not come.
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
                f"has to be started, by torchrun or srun ({reason})"
            ) from error
        if world.is_one_machine:
            # A torchrun that restarts its ranks keeps the store, with all that the attempt before has left in it.
            store = dist.PrefixStore(f"attempt/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)
        launch = cls(world, store)
        for number in (signal.SIGTERM, signal.SIGINT):
            # A rank that the launcher ends because another one has failed must still get to say why.
            signal.signal(number, lambda received, _: launch.signals.append(received))
        return launch

    def announce(self, message: str) -> None:
        """Rank 0 tells the others what to do next: a job's configuration, or that there is none any more."""
        self._job += 1
        if self._store is None:
            return
        with contextlib.suppress(RuntimeError):
            self._store.set(f"job/{self._job}", message)

    def next_message(self, patience_s: float = 5.0) -> str | None:
        """Waits, as long as it takes, for rank 0's next message; None when the launch is gone.

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
        """The last act: rank 0, which may host the store, waits until the others need it no more."""
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
        """Runs one job; when it fails anywhere, every process raises the first cause.

        Raises:
            ValueError: what a user can mend.
            RunError: everything else, as one line that names the rank.
        """
        if self._store is None:
            job(None)
            return
        import torch.distributed as dist

        store = dist.PrefixStore(f"job/{self._job}/group", self._store)
        try:
            job(store)
        except Exception as error:
            if SHOWS_TRACEBACKS:
                log.exception("rank %d", self.world.rank)
            raise self._first_cause(Report.of(error)).as_error() from error

    @property
    def speaks_for_rank_0(self) -> bool:
        """Whether rank 0 is lost and this is the first of the others."""
        return 0 in self.lost and self.world.rank == min(set(range(self.world.world_size)) - self.lost)

    def _first_cause(self, mine: Report) -> Report:
        """Tells the others why this process failed, and finds out who failed first."""
        import torch.distributed as dist

        assert self._store is not None
        box = dist.PrefixStore(f"job/{self._job}/report", self._store)
        ranks = range(self.world.world_size)
        reports = {self.world.rank: mine}
        try:
            box.set(str(self.world.rank), json.dumps(asdict(mine)))
            deadline = time.monotonic() + _REPORT_WAIT_S
            while len(reports) < len(ranks) and not any(report.is_cause for report in reports.values()):
                for rank in ranks:
                    if rank not in reports and box.check([str(rank)]):
                        reports[rank] = Report(**json.loads(box.get(str(rank))))
                if time.monotonic() > deadline:
                    break
                time.sleep(_POLL_S)
        except RuntimeError:
            # The store went down with rank 0.
            self.lost = {0}
            return find_cause(reports, self.lost)
        if not any(report.is_cause for report in reports.values()):
            self.lost = set(ranks) - set(reports)
        return find_cause(reports, self.lost)


def run_local(num_processes: int, job: Callable[[World, "Store"], None], grace_s: float = 8.0) -> None:
    """Runs a job on ``num_processes`` local processes forked from this one, which has imported all they need.

    The parent computes nothing: it hosts the store, passes SIGTERM and SIGINT on, and ends the job everywhere when a
    process dies.

    Args:
        grace_s: how long the others may go on after the first failure.

    Raises:
        RunError: with the cause of the first process that failed.
        ValueError: when the first cause is something that the user can mend.
        SystemExit: when the job was stopped by a signal.
    """
    import multiprocessing

    import torch.distributed as dist

    context = multiprocessing.get_context("fork")
    pipes = [context.Pipe() for _ in range(num_processes)]
    sys.stdout.flush()
    sys.stderr.flush()
    children = [
        context.Process(
            target=_local_rank,
            args=(World(rank, num_processes, rank, num_processes), pipes[rank][1], job),
            name=f"rank {rank}",
        )
        for rank in range(num_processes)
    ]
    for child in children:
        child.start()
    previous = {
        number: signal.signal(number, lambda received, _: _signal_all(children, received))
        for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        for pipe, _ in pipes:
            pipe.send(store.port)
        _supervise(children, [pipe for pipe, _ in pipes], grace_s)
    finally:
        for child in children:
            if child.is_alive():
                child.kill()
            child.join()
        for number, handler in previous.items():
            signal.signal(number, handler)


def _signal_all(children: list[Any], number: int) -> None:
    for child in children:
        if child.is_alive() and child.pid is not None:
            os.kill(child.pid, number)


def _local_rank(world: World, pipe: Connection, job: Callable[[World, "Store"], None]) -> None:
    """The life of one local process."""
    import torch.distributed as dist

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    # Control-C in a terminal reaches a whole group of processes; these here hear of it once, from their parent.
    os.setpgid(0, 0)
    threading.Thread(target=_die_with_parent, args=(os.getppid(),), daemon=True).start()
    if world.rank > 0 and not SHOWS_TRACEBACKS:
        # One log: that of rank 0.
        logging.disable(logging.WARNING)
    store = dist.TCPStore("127.0.0.1", pipe.recv(), is_master=False, wait_for_workers=False)
    launch = Launch(world, store)
    launch.announce("the only job") if world.rank == 0 else launch.next_message()

    def run_job(group_store: "Store | None") -> None:
        assert group_store is not None
        job(world, group_store)

    code = 0
    try:
        launch.run(run_job)
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 1
    except KeyboardInterrupt:
        code = STOPPED_EXIT_CODE
    except (ValueError, RunError) as error:
        pipe.send(asdict(Report.of(error)))
        code = 1
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _die_with_parent(parent: int) -> None:
    """Ends this process when its parent is gone, which could not end it any more."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)


def _supervise(children: list[Any], pipes: list[Connection], grace_s: float) -> None:
    """Waits for all children; after the first failure the others get ``grace_s`` to end by themselves."""
    from multiprocessing.connection import wait

    waiting = {child.sentinel: rank for rank, child in enumerate(children)}
    failures: list[int] = []
    ended_by_us: set[int] = set()
    deadline: float | None = None
    while waiting:
        timeout = None if deadline is None else max(0.0, deadline - time.monotonic())
        for sentinel in wait(list(waiting), timeout=timeout):
            assert isinstance(sentinel, int)
            rank = waiting.pop(sentinel)
            children[rank].join()
            if children[rank].exitcode != 0:
                failures.append(rank)
                deadline = deadline or time.monotonic() + grace_s
        if deadline is not None and time.monotonic() >= deadline:
            ended_by_us |= set(waiting.values())
            _signal_all([children[rank] for rank in waiting.values()], signal.SIGKILL)
            deadline = time.monotonic() + 5.0
    if not failures:
        return
    for rank in failures:
        code = children[rank].exitcode
        if code < 0 and rank not in ended_by_us:
            name = signal.Signals(-code).name
            raise RunError(f"rank {rank} was killed by {name}; the run was ended everywhere")
    reports = [Report(**pipes[rank].recv()) for rank in failures if pipes[rank].poll()]
    if reports:
        raise next((report for report in reports if report.kind == "user"), reports[0]).as_error()
    code = children[failures[0]].exitcode
    if code == STOPPED_EXIT_CODE:
        raise SystemExit(code)
    raise RunError(f"rank {failures[0]} ended with exit status {code}")
