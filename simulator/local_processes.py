"""Local ranks: processes of this machine that one parent forks, watches and ends.

The parent has imported what the ranks need. It computes nothing and ends after all of them.
"""

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

from simulator.errors import SHOWS_TRACEBACKS, Report, RunError
from simulator.process_group import GAVE_UP_EXIT_CODE
from simulator.processes import STOPPED_EXIT_CODE, Launch
from simulator.world import World

if TYPE_CHECKING:
    from torch._C._distributed_c10d import Store


def run_local(num_processes: int, job: Callable[[World, "Store"], None], grace_s: float = 8.0) -> None:
    """Runs a job on ``num_processes`` local processes forked from this one, which has imported all they need.

    The parent computes nothing: it hosts the store, passes SIGTERM and SIGINT on, and ends the job everywhere when a
    process dies.

    Args:
        grace_s: how long the others may go on after the first failure.

    Raises:
        RunError: with the cause of the first process that failed.
        ValueError: when the first cause is a user error.
        SystemExit: when the job was stopped by a signal, or a process ended itself after it had said why.
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
    """Runs one local process from its start to its exit."""
    import torch.distributed as dist

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    # Control-C in a terminal signals the whole process group; a rank shall get the signal once, from its parent.
    os.setpgid(0, 0)
    threading.Thread(target=_die_with_parent, args=(os.getppid(),), daemon=True).start()
    if world.rank > 0 and not SHOWS_TRACEBACKS:
        # Only rank 0 writes the log.
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
    """Ends this process when its parent has died, because nobody else would end it."""
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
    if any(children[rank].exitcode == GAVE_UP_EXIT_CODE for rank in failures):
        raise SystemExit(1)  # it has said why
    reports = [Report(**pipes[rank].recv()) for rank in failures if pipes[rank].poll()]
    if reports:
        raise next((report for report in reports if report.kind == "user"), reports[0]).as_error()
    code = children[failures[0]].exitcode
    if code == STOPPED_EXIT_CODE:
        raise SystemExit(code)
    raise RunError(f"rank {failures[0]} ended with exit status {code}")
