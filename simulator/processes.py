"""Processes of the operating system: who started us, joining the others, starting local ones, devices and backends.

A launch is one set of processes that lives from start to end; a job is one run inside it (a multirun has many). Every
job gets a process group of its own on the launch's key-value store, so that a job that fails leaves nothing behind
for the next one.
"""

import contextlib
import logging
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch._C._distributed_c10d import Store

log = logging.getLogger(__name__)

_DEFAULT_SLURM_PORT = 29400


STOPPED_EXIT_CODE = 130
"""Exit status of a run that was stopped by SIGTERM or SIGINT after it had written its checkpoint."""


class RunError(RuntimeError):
    """A run that failed on some process, as one line for the user."""


@dataclass(frozen=True)
class World:
    """This process among the processes of a launch."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    local_world_size: int = 1

    @property
    def is_one_machine(self) -> bool:
        """Whether all processes of the launch are on this machine."""
        return self.local_world_size == self.world_size


def detect_world(environ: dict[str, str] | None = None) -> World | None:
    """Reads torchrun's or SLURM's variables; None when nobody started several processes for us.

    Under SLURM (``srun python launch.py``) the variables that torch.distributed reads are derived and set.

    Raises:
        ValueError: when the variables contradict each other.
    """
    env = os.environ if environ is None else environ
    if "RANK" in env and "WORLD_SIZE" in env:
        return _checked(
            World(
                int(env["RANK"]),
                int(env["WORLD_SIZE"]),
                int(env.get("LOCAL_RANK", 0)),
                int(env.get("LOCAL_WORLD_SIZE", 1)),
            )
        )
    if int(env.get("SLURM_NTASKS", "1")) > 1 and "SLURM_PROCID" in env:
        world = World(
            int(env["SLURM_PROCID"]),
            int(env["SLURM_NTASKS"]),
            int(env.get("SLURM_LOCALID", 0)),
            _slurm_local_tasks(env.get("SLURM_TASKS_PER_NODE", "1"), int(env.get("SLURM_NODEID", 0))),
        )
        port = _DEFAULT_SLURM_PORT + int(env.get("SLURM_JOB_ID", 0)) % 10000
        env.setdefault("MASTER_ADDR", _first_slurm_host(env))
        env.setdefault("MASTER_PORT", str(port))
        env.update(RANK=str(world.rank), WORLD_SIZE=str(world.world_size), LOCAL_RANK=str(world.local_rank))
        return _checked(world)
    return None


def _checked(world: World) -> World:
    if not 0 <= world.rank < world.world_size or not 0 <= world.local_rank < world.local_world_size:
        raise ValueError(f"the launcher's variables contradict each other: {world}")
    return world


def _slurm_local_tasks(text: str, node: int) -> int:
    """Tasks on one machine from SLURM's compressed list, such as ``4(x2),3``."""
    counts: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"(\d+)(?:\(x(\d+)\))?", part)
        if match is None:
            raise ValueError(f"SLURM_TASKS_PER_NODE={text!r} cannot be read; expected something like 4(x2),3")
        counts += [int(match[1])] * int(match[2] or 1)
    return counts[node]


def _first_slurm_host(env: dict[str, str] | os._Environ[str]) -> str:
    """The first machine of the step, from SLURM's compressed list, such as ``gpu[03-05,9],login1``."""
    hosts = env.get("SLURM_STEP_NODELIST") or env.get("SLURM_JOB_NODELIST") or "localhost"
    match = re.match(r"([^\[,]+)(?:\[(\w+))?", hosts)
    assert match is not None
    return match[1] + (match[2] or "")


@dataclass(frozen=True)
class Compute:
    """Where a process computes and how its messages travel."""

    device: "torch.device"
    backend: str
    note: str


def choose_compute(requested: str, world: World) -> Compute:
    """Chooses device and backend: one GPU per process with NCCL when there are enough, gloo otherwise.

    Args:
        requested: ``auto``, ``cpu`` or ``cuda``.

    Raises:
        ValueError: when CUDA is asked for and there is none, or the word is unknown.
    """
    import torch

    if requested not in ("auto", "cpu", "cuda"):
        raise ValueError(f"device={requested!r}: expected auto, cpu or cuda")
    if requested == "cpu":
        return Compute(torch.device("cpu"), "gloo", "CPU, gloo")
    num_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if num_gpus == 0:
        if requested == "cuda":
            raise ValueError("device=cuda: torch sees no GPU on this machine; use device=cpu or device=auto")
        return Compute(torch.device("cpu"), "gloo", "CPU, gloo")
    device = torch.device("cuda", world.local_rank % num_gpus)
    if world.local_world_size <= num_gpus:
        return Compute(device, "nccl", f"one GPU per process ({torch.cuda.get_device_name(device)}), NCCL")
    return Compute(
        device,
        "gloo",
        f"{world.local_world_size} processes on {num_gpus} GPU(s): NCCL refuses two ranks on one GPU, so messages are "
        "staged through pinned memory and gloo",
    )


def set_threads(requested: int | None, world: World) -> int:
    """Divides the cores among the processes of this machine; returns the number of threads of this one."""
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = requested or max(1, cores // world.local_world_size)
    if requested is None and "OMP_NUM_THREADS" in os.environ and "TORCHELASTIC_RUN_ID" not in os.environ:
        threads = int(os.environ["OMP_NUM_THREADS"])
    torch.set_num_threads(threads)
    return threads


@contextlib.contextmanager
def process_group(world: World, store: "Store | None", compute: Compute, timeout_s: float) -> Iterator[None]:
    """Joins the other processes of the launch for one job, and leaves them at the end, also after an error."""
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
    dist.init_process_group(
        compute.backend,
        store=store,
        rank=world.rank,
        world_size=world.world_size,
        timeout=timedelta(seconds=timeout_s),
        **options,
    )
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
    """

    def __init__(self, world: World, store: "Store | None") -> None:
        self.world = world
        self._store = store
        self._job = -1

    @classmethod
    def join(cls, world: World, timeout_s: float = 300.0) -> "Launch":
        """Meets the other processes that torchrun or SLURM started."""
        if world.world_size == 1:
            return cls(world, None)
        import torch.distributed as dist

        store, _, _ = next(dist.rendezvous("env://", timeout=timedelta(seconds=timeout_s)))
        return cls(world, store)

    def announce(self, message: str) -> None:
        """Rank 0 tells the others what to do next: a job's configuration, or that there is none any more."""
        self._job += 1
        if self._store is not None:
            self._store.set(f"job/{self._job}", message)

    def next_message(self) -> str | None:
        """Waits, as long as it takes, for rank 0's next message; None when the launch is gone."""
        assert self._store is not None
        self._job += 1
        key = f"job/{self._job}"
        while True:
            try:
                self._store.wait([key], timedelta(seconds=60))
                return bytes(self._store.get(key)).decode()
            except RuntimeError as error:
                if "timeout" not in str(error).lower():
                    return None

    def leave(self, timeout_s: float = 30.0) -> None:
        """The last act: whoever hosts the store waits until the others have read their last message."""
        self._store = None

    def run(self, job: Callable[["Store | None"], None]) -> None:
        """Runs one job; when it fails anywhere, every process raises, and rank 0's error names the cause.

        Raises:
            RunError: on the lowest surviving rank, with the first cause; its own error on the others.
            ValueError: what a user can mend, unchanged.
        """
        if self._store is None:
            job(None)
            return
        import torch.distributed as dist

        store = dist.PrefixStore(f"job/{self._job}/group", self._store)
        try:
            job(store)
        except Exception as error:
            raise self._first_cause(error) from error

    def _first_cause(self, error: Exception) -> Exception:
        """Tells the others why this process failed, and finds out who failed first."""
        import torch.distributed as dist

        assert self._store is not None
        reports = dist.PrefixStore(f"job/{self._job}/report", self._store)
        secondary = isinstance(error, (TimeoutError, ConnectionError)) or type(error).__name__ == "LostProcessError"
        text = f"{'lost' if secondary else 'cause'} {describe_error(error)}"
        try:
            reports.set(str(self.world.rank), text)
            deadline = time.monotonic() + 3.0
            others = [str(rank) for rank in range(self.world.world_size)]
            while time.monotonic() < deadline and not reports.check(others):
                time.sleep(0.05)
            said = {rank: bytes(reports.get(rank)).decode() for rank in others if reports.check([rank])}
        except RuntimeError:
            return error
        causes = [text.removeprefix("cause ") for text in said.values() if text.startswith("cause ")]
        silent = [rank for rank in others if rank not in said]
        if not secondary:
            return error
        if causes:
            return RunError(causes[0])
        if silent:
            return RunError(f"rank {', '.join(silent)} died or hangs: {describe_error(error)}")
        return RunError(describe_error(error))


def describe_error(error: BaseException) -> str:
    """One line for an error."""
    text = " ".join(str(error).split())
    return text if isinstance(error, (ValueError, RunError)) else f"{type(error).__name__}: {text}"


def run_local(num_processes: int, job: Callable[[World, "Store"], None], grace_s: float = 15.0) -> None:
    """Runs a job on ``num_processes`` local processes forked from this one, which has imported all they need.

    The parent computes nothing: it hosts the store, passes SIGTERM and SIGINT on, and ends the job everywhere when a
    process dies.

    Raises:
        RunError: with the cause of the first process that failed.
        ValueError: when the first cause is something that the user can mend.
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
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    for pipe, _ in pipes:
        pipe.send(store.port)
    previous = {
        number: signal.signal(number, lambda received, _: _signal_all(children, received))
        for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        _supervise(children, [pipe for pipe, _ in pipes], grace_s)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        for child in children:
            if child.is_alive():
                child.kill()
            child.join()


def _signal_all(children: list[Any], number: int) -> None:
    for child in children:
        if child.is_alive() and child.pid is not None:
            os.kill(child.pid, number)


def _local_rank(world: World, pipe: Connection, job: Callable[[World, "Store"], None]) -> None:
    """The life of one local process."""
    import torch.distributed as dist

    if world.rank > 0:
        # One log: that of rank 0.
        logging.disable(logging.WARNING)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    port = pipe.recv()
    store = dist.TCPStore("127.0.0.1", port, is_master=False, wait_for_workers=False)
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
    except BaseException as error:
        kind = "user" if isinstance(error, ValueError) else "run"
        if not isinstance(error, (ValueError, RunError)):
            log.debug("rank %d failed", world.rank, exc_info=True)
        pipe.send((kind, describe_error(error)))
        code = 1
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _supervise(children: list[Any], pipes: list[Connection], grace_s: float) -> None:
    """Waits for all children; after the first failure the others get ``grace_s`` to end by themselves."""
    from multiprocessing.connection import wait

    waiting = {child.sentinel: rank for rank, child in enumerate(children)}
    failures: list[int] = []
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
            _signal_all(children, signal.SIGKILL)
            deadline = time.monotonic() + 5.0
    if not failures:
        return
    for rank in failures:
        code = children[rank].exitcode
        if code < 0 and not (code == -signal.SIGKILL and deadline is not None and rank != failures[0]):
            raise RunError(f"rank {rank} was killed by {signal.Signals(-code).name}; the run was ended everywhere")
    messages = [pipes[rank].recv() for rank in failures if pipes[rank].poll()]
    for kind, text in messages:
        if kind == "user":
            raise ValueError(text)
    if messages:
        raise RunError(messages[0][1])
    code = children[failures[0]].exitcode
    if code == STOPPED_EXIT_CODE:
        raise SystemExit(code)
    raise RunError(f"rank {failures[0]} ended with exit status {code}")


def git_commit() -> str | None:
    """The commit of the checkout that runs, with ``+changes`` when it is not clean; None outside a checkout."""
    folder = os.path.dirname(os.path.abspath(__file__))
    try:
        commit = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, timeout=10, check=True
        )
        status = subprocess.run(
            ["git", "status", "--porcelain", "-uno"], cwd=folder, capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return commit.stdout.strip() + ("+changes" if status.stdout.strip() else "")
