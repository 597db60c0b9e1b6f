"""Cases on two ranks of a device against the CPU."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

import torch

from scripts.gpu_checks.battery import COUNTED_STEPS, CPU, WARM_STEPS, Entry, Results, compared, on_host
from scripts.gpu_checks.waits import Waits, usable, watched
from simulator.checkpoint import HUB_PREFIX
from simulator.simulation import Simulation
from simulator.watchdog import Watchdog
from simulator.world import World

if TYPE_CHECKING:
    from scripts.gpu_checks.cases import Case

# One algorithm for each way of sending: rows, packets, links, cliques, a hub, any number of rows, models to a few.
NAMES: tuple[str, ...] = ("sgp", "choco", "choco.changing", "dsgd.cliques", "relay_sum", "hgp", "c2dfb")
NAMES += ("fedavg.hub", "clustered_fl", "data_exchange", "pfedhn", "pfedhn_gossip")


def wanted_cases(names: Sequence[str] = NAMES) -> dict[str, "Case"]:
    """The cases of some names."""
    from scripts.gpu_checks.cases import algorithm_cases

    return {name: make() for name, make in algorithm_cases() if name in names}


def run(case: "Case", device: torch.device, world: World, watchdog: Watchdog | None = None) -> tuple[Results, Waits]:
    """The states of all nodes, and the waits of the steps that are counted."""
    simulation = Simulation.build(case.settings, world, components=case.components(), device=device, watchdog=watchdog)
    state = simulation.run(simulation.init(), 0, WARM_STEPS)
    with watched(device) as waits:
        state = simulation.run(state, WARM_STEPS, WARM_STEPS + COUNTED_STEPS)
    rows = {key: x if key.startswith(HUB_PREFIX) else simulation.network.gather(x) for key, x in state.items()}
    rows["estimate"] = simulation.network.gather(simulation.estimate(state))
    simulation.evaluate(state, WARM_STEPS + COUNTED_STEPS, is_last=True)
    return {key: on_host(x) for key, x in rows.items()}, waits


def compare(
    cases: dict[str, "Case"],
    device: torch.device,
    world: World,
    rules: Callable[[], AbstractContextManager[object]] = nullcontext,
    *,
    alone: bool = False,
    watchdog: Watchdog | None = None,
) -> dict[str, Entry]:
    """The table's entries of cases, complete on rank 0.

    Args:
        rules: a context around what runs on the device.
        alone: the CPU's run is that of one process. Otherwise it is of the same ranks, which gloo must connect.
        watchdog: of the process group, on NCCL.
    """
    table = {}
    for name, case in cases.items():
        expected, _ = run(case, CPU, World() if alone else world)
        with rules(), usable(device):
            found, waits = run(case, device, world, watchdog)
        table[name] = compared(expected, found, found, waits)
        if world.rank == 0:
            print(name, table[name]["different"], table[name]["waits"], flush=True)
    return table
