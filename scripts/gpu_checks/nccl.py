"""Messages by NCCL: of one rank to itself, every way of sending, first contact, and the rate of mixing."""

import json
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from scripts.gpu_checks.child import Task
from scripts.gpu_checks.comparing import TOLERANCE
from scripts.gpu_checks.ranks import TIMEOUT_S, on_ranks
from scripts.gpu_checks.two_ranks import NAMES, compare, wanted_cases
from simulator.devices import Compute
from simulator.graphs.fully_connected import FullyConnected
from simulator.network.network import Network
from simulator.placement import Placement
from simulator.watchdog import Watchdog
from simulator.world import World

_REPETITIONS = 20
_NUM_BYTES = 2**20


def alone(task: Task) -> None:
    """A group of one rank: a collective, and a message to itself. Gloo cannot do the second."""
    device = torch.device("cpu") if task.dry else torch.device("cuda", 0)
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    dist.init_process_group("gloo" if task.dry else "nccl", store=store, rank=0, world_size=1)
    task.report.ran_on("CPU, gloo" if task.dry else f"{torch.cuda.get_device_name(device)}, NCCL")
    sent, received = torch.arange(_NUM_BYTES, device=device) % 251, torch.zeros(_NUM_BYTES, device=device).long()
    dist.all_reduce(sent)
    if task.dry:
        received.copy_(sent)
        task.report.row("a collective; no message to itself by gloo")
    else:
        operations = [dist.P2POp(dist.irecv, received, 0), dist.P2POp(dist.isend, sent, 0)]
        for work in dist.batch_isend_irecv(operations):
            work.wait()
        task.report.row("a collective, and a message to itself")
    if not torch.equal(sent.cpu(), received.cpu()):
        task.report.fail("what arrived is not what was sent")
    dist.destroy_process_group()


def cases(task: Task) -> None:
    """Every way of sending on two ranks, compared with one process on the CPU; in a dry run with gloo on the CPU."""
    path = task.folder / "table.json"
    names = NAMES[:3] if task.dry else NAMES

    def job(world: World, compute: Compute, watchdog: Watchdog | None) -> None:
        table = compare(wanted_cases(names), compute.device, world, alone=True, watchdog=watchdog)
        if world.rank == 0:
            path.write_text(json.dumps({"device": described(compute), "cases": table}))

    on_ranks(2, job, dry=task.dry)
    written = json.loads(path.read_text())
    task.report.ran_on(f"{written['device']}, 2 ranks")
    for name, found in written["cases"].items():
        if found["distance"] > TOLERANCE:
            task.report.fail(f"{name}: {found['different']} apart by {found['distance']:.2g}")
        task.report.row(f"{name}: apart by {found['distance']:.1e}, {found['waits']:g} waits a step", **found)


def described(compute: Compute) -> str:
    """Device and backend, as they truly are."""
    gpu = compute.device.type == "cuda"
    return f"{torch.cuda.get_device_name(compute.device) if gpu else 'CPU'}, {compute.backend}"


def first_contact(task: Task) -> None:
    """A byte between two ranks whose connection the group has set up: the first time, and the median of later ones."""

    def measure(world: World, compute: Compute, _watchdog: Watchdog | None) -> dict[str, Any]:
        buffers = [torch.zeros(1, dtype=torch.uint8, device=compute.device) for _ in range(2)]
        seconds = [_timed(partial(exchange, buffers, 1 - world.rank), compute.device) for _ in range(_REPETITIONS)]
        return {"first_s": seconds[0], "later_s": statistics.median(seconds[1:])}

    found = _measured(task, measure)
    text = f"first {1e3 * found['first_s']:.1f} ms, later {1e3 * found['later_s']:.3f} ms"
    task.report.row(text, first_s=found["first_s"], later_s=found["later_s"])


def mix_rate(task: Task) -> None:
    """Bytes that a rank receives per second: in ``Network.mix``, and in the bare exchange of as many bytes."""
    for num_columns in (1_000, 10_000) if task.dry else (10_000, 1_000_000):
        found = _measured(task, partial(_mix_and_exchange, num_columns))
        rates = {name: found["bytes"] / found[f"{name}_s"] / 1e9 for name in ("mix", "bare")}
        text = f"{found['bytes'] / 1e6:,.2f} MB a round: mix {rates['mix']:.2f} GB/s, bare {rates['bare']:.2f} GB/s"
        task.report.row(text, bytes=found["bytes"], **{f"{name}_gb_per_s": rate for name, rate in rates.items()})


def _mix_and_exchange(num_columns: int, world: World, compute: Compute, watchdog: Watchdog | None) -> dict[str, Any]:
    """Both sides of :func:`mix_rate`, in turn: rows of four nodes on each of two ranks."""
    placement = Placement(8, world.world_size, world.rank)
    network = Network(FullyConnected(num_nodes=8), placement, compute.device, timeout_s=TIMEOUT_S, watchdog=watchdog)
    rows = torch.ones(4, num_columns, device=compute.device)
    buffers = [torch.empty(rows.nbytes, dtype=torch.uint8, device=compute.device) for _ in range(2)]
    bare = partial(exchange, buffers, 1 - world.rank)
    runs: dict[str, Callable[[], object]] = {"mix": partial(network.mix, (rows,), 0), "bare": bare}
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(_REPETITIONS):
        for name, run in runs.items():
            seconds[name].append(_timed(run, compute.device))
    return {"bytes": rows.nbytes} | {f"{name}_s": statistics.median(each) for name, each in seconds.items()}


def exchange(buffers: list[torch.Tensor], peer: int) -> None:
    """Sends one buffer to a peer and receives the other from there."""
    operations = [dist.P2POp(dist.irecv, buffers[0], peer), dist.P2POp(dist.isend, buffers[1], peer)]
    for work in dist.batch_isend_irecv(operations):
        work.wait()


def _timed(run: Callable[[], object], device: torch.device) -> float:
    """Seconds until the device has done it."""
    start = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def _measured(task: Task, measure: Callable[[World, Compute, Watchdog | None], dict[str, Any]]) -> dict[str, Any]:
    """What ``measure`` returns on rank 0 of two."""
    path: Path = task.folder / "measured.json"

    def job(world: World, compute: Compute, watchdog: Watchdog | None) -> None:
        found = measure(world, compute, watchdog)
        if world.rank == 0:
            path.write_text(json.dumps({"device": described(compute), "found": found}))

    on_ranks(2, job, dry=task.dry)
    written: dict[str, Any] = json.loads(path.read_text())
    task.report.ran_on(f"{written['device']}, 2 ranks")
    return dict(written["found"])
