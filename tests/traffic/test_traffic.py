"""The ledger against an independent count of what torch.distributed was handed."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from simulator.graphs.random_directed import RandomDirected
from simulator.placement import Placement
from tests.traffic.on_processes import NUM_ROUNDS

ROOT = Path(__file__).parents[2]
# One row of what is mixed, exchanged and mixed coded, and a message of its own for every edge.
ROW_BYTES, LINK_BYTES = (5 * 8 + 8) + (7 + 3 * 2) + 3, 4


def chosen_bytes(source, target):
    """Edges from even nodes also carry (source + target) mod 3 rows of 4 bytes, and before them their number."""
    return 8 + 4 * ((source + target) % 3) if source % 2 == 0 else 0


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What every process has written; started once."""
    folder = tmp_path_factory.mktemp("traffic")
    command = [sys.executable, "-W", "error", "-m", "tests.traffic.on_processes", str(folder), "4:4", "7:2", "7:3"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    return folder


def reports_of(folder, num_nodes, num_processes):
    of_run = folder / f"{num_nodes}:{num_processes}"
    return [json.loads((of_run / f"rank_{rank}.json").read_text()) for rank in range(num_processes)]


def edges_by_round(num_nodes):
    graph = RandomDirected(num_nodes=num_nodes, rate_low=0.2, rate_high=0.6, base_probability=1.0, seed=3)
    for step in range(NUM_ROUNDS):
        edges = graph.edges(step)
        yield [(int(s), int(t)) for s, t in zip(edges.source, edges.target, strict=True) if s != t]


@pytest.mark.slow
def test_one_node_per_process_hands_over_exactly_what_the_ledger_counts(folder):
    reports = reports_of(folder, 4, 4)
    ledger = reports[0]["edges"]
    counted = dict(zip(zip(ledger["source"], ledger["target"], strict=True), ledger["bytes"], strict=True))
    messages = dict(zip(zip(ledger["source"], ledger["target"], strict=True), ledger["messages"], strict=True))
    sent, received, calls = Counter(), Counter(), Counter()
    for report in reports:
        assert report["edges"] == ledger
        for key, num_bytes in report["handed"].items():
            kind, source, target = key.split()
            (sent if kind == "sent" else received)[int(source), int(target)] += num_bytes
            calls[int(source), int(target)] += report["calls"][key] if kind == "sent" else 0
    assert dict(sent) == dict(received) == counted
    assert dict(calls) == messages
    expected = Counter()
    for edges in edges_by_round(4):
        for edge in edges:
            expected[edge] += ROW_BYTES + LINK_BYTES + chosen_bytes(*edge)
    assert counted == dict(expected)


@pytest.mark.slow
@pytest.mark.parametrize("num_processes", [2, 3])
def test_a_row_crosses_once_to_each_process_that_needs_it(num_processes, folder):
    """And the ledger of edges does not notice where nodes live."""
    num_nodes = 7
    reports = reports_of(folder, num_nodes, num_processes)
    rank_of = [int(rank) for rank in Placement(num_nodes, num_processes).rank_of(range(num_nodes))]
    crossing, by_edge, calls = Counter(), Counter(), Counter()
    for edges in edges_by_round(num_nodes):
        rows = {(s, rank_of[t]) for s, t in edges if rank_of[s] != rank_of[t]}
        for source, rank in rows:
            crossing[f"sent {rank_of[source]} {rank}"] += ROW_BYTES
        for source, target in edges:
            if rank_of[source] != rank_of[target]:
                crossing[f"sent {rank_of[source]} {rank_of[target]}"] += LINK_BYTES + chosen_bytes(source, target)
        for pair in {(rank_of[source], rank) for source, rank in rows}:
            calls[f"sent {pair[0]} {pair[1]}"] += 4
        apart = [(s, t) for s, t in edges if rank_of[s] != rank_of[t] and s % 2 == 0]
        for pair in {(rank_of[s], rank_of[t]) for s, t in apart}:
            calls[f"sent {pair[0]} {pair[1]}"] += 1
        for pair in {(rank_of[s], rank_of[t]) for s, t in apart if (s + t) % 3}:
            calls[f"sent {pair[0]} {pair[1]}"] += 1
        for edge in edges:
            by_edge[edge] += ROW_BYTES + LINK_BYTES + chosen_bytes(*edge)
    handed, called = Counter(), Counter()
    for report in reports:
        handed.update({key: value for key, value in report["handed"].items() if key.startswith("sent")})
        called.update({key: value for key, value in report["calls"].items() if key.startswith("sent")})
    assert handed == crossing
    assert called == calls, "one buffer per pair of processes and round"
    assert sum(report["wire_bytes"] for report in reports) == sum(crossing.values())
    ledger = reports[0]["edges"]
    assert dict(zip(zip(ledger["source"], ledger["target"], strict=True), ledger["bytes"], strict=True)) == by_edge
