"""Runs configurations on several numbers of local processes: ``python -m simulator.testing.on_processes JSON``.

The file holds {"cases": {name: settings}, "num_steps": int, "world_sizes": [int], "folder": str}. For every number of
processes, rank 0 writes the states of all nodes and the counts of the ledger below the folder. It runs in an
interpreter of its own, because one that has computed gradients must not be forked.
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch

from simulator.checkpoint import HUB_PREFIX
from simulator.devices import Compute
from simulator.local_processes import run_local
from simulator.network.mailboxes import MAIL_PREFIX
from simulator.process_group import process_group
from simulator.simulation import Simulation
from simulator.world import World

TIMEOUT_S = 60.0


def run_all(order: dict[str, Any], world: World, store: Any) -> None:
    """Runs all cases as one process of ``world``."""
    torch.set_num_threads(1)
    with process_group(world, store, Compute(torch.device("cpu"), "gloo", ""), TIMEOUT_S):
        for name, settings in order["cases"].items():
            simulation = Simulation.build(settings, world, device=torch.device("cpu"))
            state = simulation.run(simulation.init(), 0, order["num_steps"])
            network = simulation.network
            # Which messages a process has depends on how many processes there are.
            state = {key: x for key, x in state.items() if not key.startswith(MAIL_PREFIX)} | {
                "estimate": simulation.estimate(state)
            }
            rows = {key: x if key.startswith(HUB_PREFIX) else network.gather(x) for key, x in state.items()}
            wire_bytes, _ = network.wire_totals()
            oracle = network.totals(simulation.problem.calls.counts)
            ledger = network.ledger
            if world.rank > 0:
                continue
            stem = Path(order["folder"]) / f"{name}_{world.world_size}"
            torch.save(rows, f"{stem}.pt")
            counts = {
                "by_edge": {key: value.tolist() for key, value in ledger.per_edge().items()},
                "by_phase": {key: [value.bytes, value.messages] for key, value in ledger.phases.items()},
                "sent": ledger.node_sent.tolist(),
                "received": ledger.node_received.tolist(),
                "time_s": ledger.link_time_s,
                "oracle": oracle,
                "clocks": None if network.clocks is None else network.clocks.state_dict(),
                "events": None if network.events is None else network.events.summary(),
            }
            Path(f"{stem}.json").write_text(json.dumps({"counts": counts, "wire_bytes": wire_bytes}))


def main() -> None:
    """Runs the order on every number of processes."""
    torch.set_num_threads(1)
    order = json.loads(Path(sys.argv[1]).read_text())
    for world_size in order["world_sizes"]:
        if world_size == 1:
            run_all(order, World(), None)
        else:
            run_local(world_size, lambda world, store: run_all(order, world, store))


if __name__ == "__main__":
    main()
