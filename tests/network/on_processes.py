"""Several rounds in flight on local processes: ``python -m tests.network.on_processes FOLDER CASE:NUM_PROCESSES ...``.

Every rank writes what it has seen to ``FOLDER/CASE:NUM_PROCESSES/rank_R.json``.
"""

import itertools
import json
import os
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch

from simulator.devices import Compute
from simulator.errors import LostProcessError, RunError, SilentProcessError
from simulator.graphs.exponential import Exponential
from simulator.graphs.random_directed import RandomDirected
from simulator.graphs.ring import Ring
from simulator.local_processes import run_local
from simulator.network.network import Network
from simulator.network.rounds import Inbox
from simulator.placement import Placement
from simulator.process_group import process_group
from simulator.world import World

NUM_NODES = 7
FAILURE_TIMEOUT_S = 5.0
CPU = torch.device("cpu")


def changing() -> RandomDirected:
    return RandomDirected(num_nodes=NUM_NODES, rate_low=0.2, rate_high=0.6, base_probability=1.0, seed=3)


def network_over(graph: Any, world: World, timeout_s: float = 60.0) -> Network:
    return Network(graph, Placement(NUM_NODES, world.world_size, world.rank), CPU, timeout_s=timeout_s)


def draw(network: Network, index: int, *shape: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """The local rows of a tensor that depends on ``index``."""
    rows = torch.randn(NUM_NODES, *shape, generator=torch.Generator().manual_seed(index), dtype=torch.float64)
    return rows[network.nodes.start : network.nodes.stop].to(dtype)


def rows_of(network: Network, index: int) -> tuple[torch.Tensor, ...]:
    """Several tensors in even rounds, one in odd rounds, which may be sent from where it is."""
    one = draw(network, index, 5)
    return (one,) if index % 2 else (one, draw(network, index + 50, dtype=torch.float32), draw(network, index, 2, 3))


def equal(left: tuple[torch.Tensor, ...], right: tuple[torch.Tensor, ...]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(left, right, strict=True))


def same_inbox(left: Inbox, right: Inbox) -> bool:
    return equal(left.rows, right.rows) and left.row.tolist() == right.row.tolist()


def orders(world: World, num_rounds: int) -> dict[str, Any]:
    """Every order of finishing, where ranks use different orders at the same time."""
    one_by_one, network = network_over(changing(), world), network_over(changing(), world)
    permutations = list(itertools.permutations(range(num_rounds)))
    results = []
    for first in range(len(permutations)):
        order = permutations[(first + world.rank) % len(permutations)]
        steps = range(first * num_rounds, (first + 1) * num_rounds)
        expected = [one_by_one.mix(rows_of(one_by_one, step), step) for step in steps]
        rounds = [network.post(rows_of(network, step), step) for step in steps]
        results.append([equal(rounds[position].mixed(), expected[position]) for position in order])
    return {
        "equal": results,
        "same_ledger": network.ledger.state_dict() == one_by_one.ledger.state_dict(),
        "same_wire_bytes": network.ledger.wire_bytes == one_by_one.ledger.wire_bytes,
    }


def beside(world: World) -> dict[str, Any]:
    """Every other operation while two rounds are in flight."""
    alone, network = network_over(changing(), world), network_over(changing(), world)

    def others(network: Network, step: int) -> tuple[Any, ...]:
        inbox = network.exchange((draw(network, step, 3), draw(network, step + 1)), step)
        messages = torch.from_numpy(network.link_plan(step).out_target).double()
        delivered = network.deliver(messages, step)
        counts = network.link_plan(step).out_source % 3
        several, arriving = network.deliver_many(torch.arange(int(counts.sum())), counts, step)
        codes = (draw(network, step, 2) * 10).to(torch.int8)
        coded = network.mix_coded(
            codes.double(), codes.view(torch.uint8), lambda packed: packed.view(torch.int8).double(), step
        )
        whole = network.over(Ring(num_nodes=NUM_NODES)).mix((draw(network, step, 4),), step)
        return inbox, (delivered, several, torch.from_numpy(arriving), coded, *whole, network.gather(draw(network, 9)))

    same = []
    for step in range(0, 6, 2):
        expected_mixed = [alone.mix(rows_of(alone, step + k), step + k) for k in range(2)]
        expected_inbox, expected = others(alone, step)
        first, second = (network.post(rows_of(network, step + k), step + k) for k in range(2))
        inbox, got = others(network, step)
        same += [same_inbox(inbox, expected_inbox), equal(got, expected)]
        same += [equal(second.mixed(), expected_mixed[1]), equal(first.mixed(), expected_mixed[0])]
    return {"equal": same}


def pool(world: World) -> dict[str, Any]:
    """Sizes of the free buffers after many rounds, two of them in flight; plans that are kept copy no index again."""
    sizes = {}
    for name, graph in (("kept", Exponential(num_nodes=NUM_NODES)), ("changing", changing())):
        network = network_over(graph, world)
        plan = network.link_plan(0)
        messages = torch.from_numpy(plan.out_source) if name == "kept" else None
        history = []
        from_numpy = torch.from_numpy
        for step in range(0, 80, 2):
            if step == 40 and name == "kept":
                torch.from_numpy = None  # type: ignore[assignment]
            rounds = [network.post(rows_of(network, step + k), step + k) for k in range(2)]
            for posted in reversed(rounds):
                posted.mixed()
            if messages is not None:
                network.deliver(messages, step)
            free = network._transport.buffers.free
            history.append(sorted([buffer.numel(), buffer.data_ptr()] for buffer in free))
        torch.from_numpy = from_numpy
        sizes[name] = history
    return sizes


def fails(folder: Path, world: World, *, dies: bool, latest_first: bool) -> dict[str, Any]:
    """Rank 1 dies or is silent before the second round; what rank 0 says when it finishes two rounds."""
    network = network_over(Ring(num_nodes=NUM_NODES), world, FAILURE_TIMEOUT_S)
    network.barrier()
    if world.rank == 1:
        network.mix((draw(network, 0, 3),), 0)
        if dies:
            os._exit(1)
        deadline = time.monotonic() + 60
        while not (folder / "rank_0.json").exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        return {}
    try:
        rounds = [network.post((draw(network, step, 3),), step) for step in range(2)]
        for posted in reversed(rounds) if latest_first else rounds:
            posted.mixed()
    except (LostProcessError, SilentProcessError) as error:
        return {"error": type(error).__name__, "text": str(error), "peer": error.peer}
    return {}


def works(_: Path, world: World) -> dict[str, Any]:
    return {
        "two": orders(world, 2),
        "three": orders(world, 3),
        "beside": beside(world),
        "pool": pool(world) if world.world_size > 1 else {},
    }


CASES: dict[str, Any] = {
    "works": works,
    "silent": lambda folder, world: fails(folder, world, dies=False, latest_first=False),
    "lost": lambda folder, world: fails(folder, world, dies=True, latest_first=True),
}


def job(case: str, folder: Path, world: World, store: Any) -> None:
    torch.set_num_threads(1)
    with process_group(world, store, Compute(CPU, "gloo", ""), 60.0):
        report = CASES[case](folder, world)
        (folder / f"rank_{world.rank}.json").write_text(json.dumps(report))


def main() -> None:
    """Every case in its order, each with processes of its own and in a folder of its own."""
    folder = Path(sys.argv[1])
    for order in sys.argv[2:]:
        case, _, num_processes = order.partition(":")
        own = folder / order
        own.mkdir()
        try:
            run_local(int(num_processes), partial(job, case, own))
        except RunError:
            if case != "lost":
                raise


if __name__ == "__main__":
    main()
