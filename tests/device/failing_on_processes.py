"""A process that stops or fails under NCCL's rules: ``python -m tests.device.failing_on_processes WAY=TIMEOUT_S ...``.

Three processes exchange rows on the pretended device until, in round 3, rank 1 ``fails`` (NaN) or ``stops`` (SIGSTOP).
Messages travel by gloo with a timeout of many minutes, so that nothing but the watchdog ends a wait. An abort lets a
process that waits go on with worthless rows, as NCCL's does; with ``stops-hanging`` it does not.
"""

import os
import signal
import sys
import threading
import time
from datetime import timedelta
from functools import partial
from types import SimpleNamespace
from unittest.mock import patch

import torch
import torch.distributed as dist

from simulator import process_group as groups
from simulator import processes
from simulator.devices import Compute
from simulator.errors import RunError
from simulator.graphs.directed_ring import DirectedRing
from simulator.local_processes import run_local
from simulator.network.network import Network
from simulator.placement import Placement
from simulator.testing import pretended_device
from tests.device.nccl_rules import OneWork, rules

NUM_NODES, ROUND = 6, 3


def connect(_backend, *, store, rank, world_size, **_):
    """Gloo in place of NCCL."""
    plain("gloo", store=store, rank=rank, world_size=world_size, timeout=timedelta(minutes=20), group_name="pretended")


plain = dist.init_process_group


aborted = threading.Event()
wait = OneWork.wait


def wait_or_abort(work, timeout=None):
    """Waits for the messages or for an abort."""
    done = threading.Event()

    def finish():
        wait(work, timeout)
        done.set()

    threading.Thread(target=finish, daemon=True).start()
    while not done.wait(0.005) and not aborted.is_set():
        pass
    return True


def work(way, timeout_s, world, store):
    """One process."""
    torch.set_num_threads(1)
    device = pretended_device.install()
    backend = SimpleNamespace(abort=(lambda: time.sleep(600)) if way == "stops-hanging" else aborted.set)
    with (
        rules(),
        patch.object(OneWork, "wait", wait_or_abort),
        patch.object(dist, "init_process_group", connect),
        patch.object(groups, "_backend", lambda _: backend),
        pretended_device.in_use(),
        groups.process_group(world, store, Compute(device, "nccl", ""), timeout_s) as watchdog,
    ):
        placement = Placement(NUM_NODES, world.world_size, world.rank)
        network = Network(DirectedRing(num_nodes=NUM_NODES), placement, device, timeout_s=timeout_s, watchdog=watchdog)
        rows = torch.ones(len(network.nodes), 2, device=device)
        for step in range(1000):
            if step == ROUND and world.rank == 1:
                print(f"BEGAN {time.time()}", file=sys.stderr, flush=True)
                if way.startswith("stops"):
                    os.kill(os.getpid(), signal.SIGSTOP)
                raise FloatingPointError("NaN or infinity in params of node 2")
            rows = network.mix([rows], step=step)[0]


def main():
    """Runs the ways one after the other, and prints what launch.py would."""
    pretended_device.install()
    # As in use, but for shorter waits where it does not matter how long they are.
    processes._REPORT_WAIT_S = 1.0
    groups.Watchdog = partial(groups.Watchdog, grace_s=1.0)
    for argument in sys.argv[1:]:
        way, timeout_s = argument.split("=")
        print(f"WAY {way}", file=sys.stderr, flush=True)
        try:
            run_local(3, partial(work, way, float(timeout_s)), grace_s=3.0)
        except RunError as error:
            print(f"hypergossip: {error}", file=sys.stderr)
        except SystemExit:
            pass  # a process has said why
        print(f"ENDED {time.time()}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
