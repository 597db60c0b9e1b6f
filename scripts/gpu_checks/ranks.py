"""Ranks of a line: processes that are forked before any of them has touched CUDA, and their commands."""

import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from scripts.gpu_checks.child import Task
from simulator.devices import Compute, choose_compute
from simulator.local_processes import run_local
from simulator.process_group import process_group
from simulator.watchdog import Watchdog
from simulator.world import World

TORCHRUN = Path(sys.executable).parent / "torchrun"
TIMEOUT_S = 30.0

Job = Callable[[World, Compute, Watchdog | None], object]


def on_ranks(num_ranks: int, job: Job, *, dry: bool) -> None:
    """Runs ``job(world, compute, watchdog)`` on ranks that are connected: by NCCL, in a dry run by gloo on the CPU."""

    def work(world: World, store: Any) -> None:
        torch.set_num_threads(1)
        compute = choose_compute("cpu" if dry else "cuda", world, store, TIMEOUT_S)
        if not dry and compute.backend != "nccl":
            raise ValueError(f"expected NCCL, and the ranks got: {compute.note}")
        with process_group(world, store, compute, TIMEOUT_S) as watchdog:
            job(world, compute, watchdog)

    run_local(num_ranks, work)


def clean_environment(task: Task, **changes: str) -> dict[str, str]:
    """The environment of a command that starts ranks: without this process's place in a launch."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("SLURM_", "TORCHELASTIC_"))}
    for key in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        kept.pop(key, None)
    return kept | {"OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": str(task.folder / "cache")} | changes


def free_port() -> int:
    """A port of this machine that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def children_of(pid: int) -> list[int]:
    """Process ids of the children of a process, in the order in which they were started."""
    children: list[int] = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        children += map(int, path.read_text().split())
    return sorted(children)


def send_signal(pid: int, number: signal.Signals) -> None:
    """Sends a signal to one process."""
    os.kill(pid, number)
