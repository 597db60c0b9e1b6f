"""Mixes and exchanges on local processes and writes down what torch.distributed was handed.

``python -m tests.traffic.on_processes FOLDER NUM_NODES:NUM_PROCESSES ...``, one after the other. The operations of
torch.distributed do their real work; beside it the size of every tensor is noted by sender and receiver, in
``FOLDER/NUM_NODES:NUM_PROCESSES/rank_R.json``.
"""

import json
import sys
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import scipy.sparse.csgraph  # noqa: F401, before the forks
import torch
import torch.distributed as dist

from simulator.devices import Compute
from simulator.graphs.random_directed import RandomDirected
from simulator.local_processes import run_local
from simulator.network.network import Network
from simulator.placement import Placement
from simulator.process_group import process_group
from simulator.world import World

NUM_ROUNDS = 6


def halves(codes: torch.Tensor) -> torch.Tensor:
    return codes.view(torch.int8).double() / 2


def pair_rows(source: Any, target: Any) -> torch.Tensor:
    """A message of 4 bytes that says which edge it is for."""
    pairs = torch.from_numpy(source * 100 + target)
    return torch.stack([pairs, -pairs], dim=1).to(torch.int16)


def job(folder: Path, num_nodes: int, world: World, store: Any) -> None:
    torch.set_num_threads(1)
    handed: Counter[str] = Counter()
    calls: Counter[str] = Counter()

    def noting(operation: Any, describe: Any) -> Any:
        def noted(tensor: torch.Tensor, peer: int, *rest: Any, **named: Any) -> Any:
            handed[describe(peer)] += tensor.numel() * tensor.element_size()
            calls[describe(peer)] += 1
            return operation(tensor, peer, *rest, **named)

        return noted

    dist.isend = noting(dist.isend, lambda peer: f"sent {world.rank} {peer}")
    dist.irecv = noting(dist.irecv, lambda peer: f"received {peer} {world.rank}")
    with process_group(world, store, Compute(torch.device("cpu"), "gloo", ""), 60.0):
        graph = RandomDirected(num_nodes=num_nodes, rate_low=0.2, rate_high=0.6, base_probability=1.0, seed=3)
        network = Network(graph, Placement(num_nodes, world.world_size, world.rank), torch.device("cpu"))
        local = torch.arange(network.nodes.start, network.nodes.stop)
        inboxes = []
        for step in range(NUM_ROUNDS):
            # A payload of three types: 5 float64, 1 float64, and 7 + 3 smaller elements: 40 + 8 + 7 + 6 = 61 bytes.
            network.mix((torch.randn(len(local), 5, dtype=torch.float64), torch.ones(len(local)).double()), step)
            bytes_ = (local[:, None] * 7 + torch.arange(7)).to(torch.uint8)
            shorts = (local[:, None] * 100 + torch.arange(3)).to(torch.int16)
            inbox = network.exchange((bytes_, shorts), step)
            for e in range(len(inbox.source)):
                source = int(inbox.source[e])
                assert inbox.rows[0][inbox.row[e]].tolist() == [(source * 7 + k) % 256 for k in range(7)]
                assert inbox.rows[1][inbox.row[e]].tolist() == [source * 100 + k for k in range(3)]
            codes = (local[:, None] + torch.arange(3)).to(torch.int8)
            mixed = network.mix_coded(codes.double() / 2, codes.view(torch.uint8), halves, step)
            whole = (torch.arange(num_nodes)[:, None] + torch.arange(3)).double() / 2
            matrix = torch.from_numpy(graph.edges(step).to_matrix(num_nodes))
            # torch.testing would import for two seconds, in every process.
            assert (mixed - (matrix @ whole)[local]).abs().max() <= 1e-13
            plan = network.link_plan(step)
            arrived = network.deliver(pair_rows(plan.out_source, plan.out_target), step)
            assert torch.equal(arrived, pair_rows(plan.in_source, plan.in_target))
            assert [matrix[t, s].item() for s, t in zip(plan.in_source, plan.in_target, strict=True)] == list(
                plan.in_weight
            )
            few = network.links_among(step, lambda edges: edges.source % 2 == 0)
            counts = (few.out_source + few.out_target) % 3
            several, arriving = network.deliver_many(
                pair_rows(few.out_source.repeat(counts), few.out_target.repeat(counts)), counts, step, few
            )
            assert (arriving == (few.in_source + few.in_target) % 3).all()
            assert torch.equal(several, pair_rows(few.in_source.repeat(arriving), few.in_target.repeat(arriving)))
            inboxes.append([inbox.source.tolist(), inbox.target.tolist()])
        edges = {key: value.tolist() for key, value in network.ledger.per_edge().items()}
        report = {
            "handed": handed,
            "calls": calls,
            "edges": edges,
            "inboxes": inboxes,
            "wire_bytes": network.ledger.wire_bytes,
        }
        (folder / f"rank_{world.rank}.json").write_text(json.dumps(report))


def main() -> None:
    for order in sys.argv[2:]:
        num_nodes, num_processes = map(int, order.split(":"))
        folder = Path(sys.argv[1], order)
        folder.mkdir()
        run_local(num_processes, partial(job, folder, num_nodes))


if __name__ == "__main__":
    main()
