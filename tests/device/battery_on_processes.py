"""Every algorithm on two processes under NCCL rules: ``python -m tests.device.battery_on_processes TABLE.json NAMES``.

Both processes run a case on the CPU with gloo, and on the pretended device under the rules of
:mod:`tests.device.nccl_rules`. Rank 0 writes which states differ, and how often it waited per step.
"""

import json
import sys
from pathlib import Path

import torch

from simulator.checkpoint import HUB_PREFIX
from simulator.local_processes import run_local
from simulator.processes import process_group
from simulator.simulation import Simulation
from simulator.testing import pretended_device
from simulator.testing.pretended_device import held
from simulator.world import Compute
from tests.device.battery import COUNTED_STEPS, WARM_STEPS, same, summary

TIMEOUT_S = 60.0


def run(case, device, world):
    """The states of all nodes, and the events of the steps that are counted."""
    simulation = Simulation.build(case.settings, world, components=case.components(), device=device)
    state = simulation.run(simulation.init(), 0, WARM_STEPS)
    with pretended_device.in_use() as counts:
        state = simulation.run(state, WARM_STEPS, WARM_STEPS + COUNTED_STEPS)
    rows = {key: x if key.startswith(HUB_PREFIX) else simulation.network.gather(x) for key, x in state.items()}
    rows["estimate"] = simulation.network.gather(simulation.estimate(state))
    simulation.evaluate(state, WARM_STEPS + COUNTED_STEPS, is_last=True)
    return {key: held(x).clone() for key, x in rows.items()}, counts


def work(cases, path, world, store):
    """One process: all cases."""
    from tests.device.nccl_rules import rules

    torch.set_num_threads(1)
    table = {}
    with process_group(world, store, Compute(torch.device("cpu"), "gloo", ""), TIMEOUT_S):
        for name, case in cases.items():
            expected, _ = run(case, torch.device("cpu"), world)
            with rules(), pretended_device.in_use():
                found, counts = run(case, pretended_device.install(), world)
            different = [key for key in expected if not same(found[key], expected[key])]
            table[name] = {"different": different, "left": [], **summary(counts)}
            if world.rank == 0:
                print(name, different, table[name]["per_step"], flush=True)
    if world.rank == 0:
        path.write_text(json.dumps(table, indent=1))


def main():
    pretended_device.install()
    torch.set_num_threads(1)
    from tests.device.cases import algorithm_cases

    wanted = sys.argv[2:]
    cases = {name: make() for name, make in algorithm_cases() if not wanted or name in wanted}
    run_local(2, lambda world, store: work(cases, Path(sys.argv[1]), world, store))


if __name__ == "__main__":
    main()
