"""Every algorithm on two processes under NCCL rules: ``python -m tests.device.battery_on_processes TABLE.json NAMES``.

Both processes run a case on the CPU with gloo, and on the pretended device under the rules of
:mod:`tests.device.nccl_rules`. Rank 0 writes which states differ, and how often it waited per step.
"""

import json
import sys
from functools import partial
from pathlib import Path

import torch

from simulator.devices import Compute
from simulator.local_processes import run_local
from simulator.process_group import process_group
from simulator.testing import pretended_device

TIMEOUT_S = 60.0


def work(names, path, world, store):
    """One process: all cases."""
    from scripts.gpu_checks.two_ranks import compare, wanted_cases
    from tests.device.nccl_rules import rules, watchdog

    torch.set_num_threads(1)
    with process_group(world, store, Compute(torch.device("cpu"), "gloo", ""), TIMEOUT_S):
        table = compare(
            wanted_cases(names), pretended_device.install(), world, rules, watchdog=watchdog(10 * TIMEOUT_S)
        )
    if world.rank == 0:
        path.write_text(json.dumps(table, indent=1))


def main():
    pretended_device.install()
    torch.set_num_threads(1)
    run_local(2, partial(work, sys.argv[2:], Path(sys.argv[1])))


if __name__ == "__main__":
    main()
