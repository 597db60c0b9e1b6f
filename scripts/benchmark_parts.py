"""The parts of the benchmark: each measures one thing and prints its lines."""

import gc
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from statistics import median

import torch
from torch import Tensor

from scripts.benchmark_contenders import MODELS, HandWritten, Ours, PlainLoop, RandomImages
from scripts.benchmark_measuring import Candidate, Effort, Table, Times, measure, rate
from scripts.benchmark_processes import Exchanges, NodeSteps, RankGroup
from simulator.compute.choice import EXECUTORS
from simulator.graphs.b_connected_directed import BConnectedDirected
from simulator.graphs.base import Graph
from simulator.graphs.erdos_renyi import ErdosRenyi
from simulator.graphs.matcha import Matcha
from simulator.graphs.random_directed import RandomDirected
from simulator.graphs.slowly_changing import SlowlyChanging
from simulator.models.logistic_regression import LogisticRegression
from simulator.network.plans import Plan
from simulator.placement import Placement
from simulator.world import World

HAND_WRITTEN_WIDTHS = {"logistic regression": [784, 10], "MLP": [784, 128, 10]}
DIGITS_SHAPE = (1, 8, 8)
_ROOT = Path(__file__).resolve().parents[1]


def node_counts(model: str, effort: Effort) -> list[int]:
    if effort.quick:
        return [16] if model != "CNN" else [4]
    return [16, 64, 256]


def windows(model: str, effort: Effort) -> Effort:
    """Fewer windows where a single step takes long."""
    return Effort(3, effort.window_s, effort.quick, effort.clock) if model == "CNN" else effort


def steps(table: Table, effort: Effort, threads: int) -> None:
    """Ours against a loop over modules and optimizers, and against hand-written products."""
    table.section("Node-steps per second: ours / one module and optimizer per node / hand-written products")
    with tempfile.TemporaryDirectory() as cache:
        os.environ["XDG_CACHE_HOME"] = cache
        for model in MODELS:
            for num_nodes in node_counts(model, effort):
                _compare_steps(table, windows(model, effort), model, num_nodes)
                gc.collect()


def _compare_steps(table: Table, effort: Effort, model: str, num_nodes: int) -> None:
    ours = Ours(MODELS[model], num_nodes)
    contenders: dict[str, Ours | PlainLoop | HandWritten] = {"ours": ours, "plain": PlainLoop(model, num_nodes)}
    if model in HAND_WRITTEN_WIDTHS:
        contenders["written"] = HandWritten(HAND_WRITTEN_WIDTHS[model], num_nodes)
    for mixing in (False, True):
        runs: dict[str, Candidate] = {
            name: contender.step_and_mix if mixing else contender.step for name, contender in contenders.items()
        }
        times = measure(runs, effort, multiple=1 if model == "CNN" else 8)
        what = f"{model}, {num_nodes} nodes, {'with' if mixing else 'without'} mixing ({ours.choice})"
        rates = " / ".join(rate(num_nodes / times.median(name)) for name in contenders)
        speedup = times.speedup("ours", "plain")
        target = 3.0 if num_nodes == 16 and model != "CNN" else 1.0
        table.line(what, f"{rates}: {speedup:.2f}x of plain", f">= {target:g}x", speedup >= target)
        if "written" in contenders:
            share = times.speedup("ours", "written")
            least = 0.8 if not mixing else 1.25 if model == "MLP" else 0.9 if num_nodes == 16 else 1.0
            table.line("", f"{share:.2f}x of written", f">= {least:g}x", share >= least)


def compute_choices(table: Table, effort: Effort, threads: int) -> None:
    """Every way to compute, and what auto picks."""
    _compare_choices(table, effort, "cpu", None)


def gpu(table: Table, effort: Effort, threads: int) -> None:
    """The same on a GPU."""
    if torch.cuda.is_available():
        _compare_choices(table, effort, "cuda", [64, 256])


def _compare_choices(table: Table, effort: Effort, device: str, counts: list[int] | None) -> None:
    table.section(f"Node-steps per second without mixing, by compute, on {device}")
    for model in MODELS:
        for num_nodes in counts or node_counts(model, effort):
            if model == "CNN" and device == "cpu" and num_nodes > 64:
                continue
            with tempfile.TemporaryDirectory() as cache:
                os.environ["XDG_CACHE_HOME"] = cache
                auto = Ours(MODELS[model], num_nodes, device=device)
            names = [name for name in EXECUTORS if not (name == "batched" and model == "CNN")]
            ways = {name: Ours(MODELS[model], num_nodes, compute=name, device=device) for name in names}
            times = measure({name: way.step for name, way in ways.items()}, windows(model, effort))
            best = min(names, key=times.median)
            share = times.speedup(auto.choice, best)
            rates = ", ".join(f"{name} {rate(num_nodes / times.median(name))}" for name in names)
            table.line(f"{model}, {num_nodes} nodes: auto picks {auto.choice}", rates, ">= 0.9 of best", share >= 0.9)
            del auto, ways
            gc.collect()


def communication(table: Table, effort: Effort, threads: int) -> None:
    """Rounds of mixing against bare exchanges of the same buffers between two processes.

    The target is for the exchange together with the products of a round, because gloo's thread runs less often beside
    a main thread that computes, which slows any exchange down.
    """
    table.section("Network.mix between two processes, 1 thread each: MB/s received by each")
    cases = [("ring", 2, 100_000), ("ring", 2, 1_000_000), ("ring", 64, 101_770), ("fully connected", 16, 101_770)]
    for graph, num_nodes, num_columns in cases[:1] if effort.quick else cases:
        make = partial(Exchanges, graph=graph, num_nodes=num_nodes, num_columns=num_columns)
        with RankGroup(2, 1, make) as group:
            times = measure({name: group.method(name) for name in ("mix", "bare", "by_hand")}, effort)
            (received, *_) = group.call("received_bytes", 1)
        assert isinstance(received, int)
        rates = ", ".join(f"{name} {rate(received / times.median(name) / 1e6)}" for name in times)
        ratio = times.speedup("by_hand", "mix")
        what = f"{graph} of {num_nodes}, rows of {num_columns * 4 / 1e6:.1f} MB"
        table.line(what, f"{rates}; mix takes {ratio:.2f}x by hand", "<= 1.3x", ratio <= 1.3)


def processes(table: Table, effort: Effort, threads: int) -> None:
    """Rounds per second by number of processes."""
    table.section("Rounds per second by processes and threads of each, D-SGD on a ring")
    shapes = [(1, 1), (1, 2), (2, 1), (4, 1)]
    for model, num_nodes, compute in (("MLP", 64, "batched"), ("CNN", 16, "loop")):
        if effort.quick and model == "CNN":
            continue
        nodes = 16 if effort.quick else num_nodes
        make = partial(NodeSteps, model=model, num_nodes=nodes, compute=compute)
        groups = {shape: RankGroup(*shape, make) for shape in shapes}
        try:
            names = {shape: f"{shape[0]} x {shape[1]}" for shape in shapes}
            runs = {names[shape]: groups[shape].method("step") for shape in shapes}
            times = measure(runs, windows(model, effort))
        finally:
            for group in groups.values():
                group.close()
        rates = ", ".join(f"{name}: {rate(1 / times.median(name))}" for name in names.values())
        table.line(f"{model}, {nodes} nodes", rates)
        speedup = times.speedup("2 x 1", "1 x 1")
        target = 1.5 if model == "CNN" else 1.0
        against_two_threads = f"; {times.speedup('2 x 1', '1 x 2'):.2f}x of 1 x 2"
        table.line("", f"2 x 1 is {speedup:.2f}x of 1 x 1{against_two_threads}", f">= {target:g}x", speedup >= target)


def startup(table: Table, effort: Effort, threads: int) -> None:
    """From the command to the end of the first step, two local ranks."""
    table.section("Start-up of two ranks, seconds (default experiment, 16 nodes)")
    records = [_start_once() for _ in range(1 if effort.quick else 5)]
    for name in records[0]:
        table.line(name, f"{median(record[name] for record in records):.2f}")
    total = median(sum(record.values()) for record in records)
    table.line("command to first step", f"{total:.2f}", "<= 5", total <= 5)


def _start_once() -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        overrides = ["launcher.num_processes=2", "num_threads=1", "num_steps=1", "figures=false", "checkpoint.every=0"]
        overrides += ["device=cpu", f"hydra.run.dir={folder}/run"]
        command = [sys.executable, str(_ROOT / "scripts" / "benchmark_startup.py"), str(time.time()), *overrides]
        environment = {**os.environ, "XDG_CACHE_HOME": folder, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, timeout=300)
    lines = [line for line in done.stdout.splitlines() if line.startswith("STARTUP ") and "tuning" in line]
    if not lines:
        raise RuntimeError(f"the launch failed: {done.stdout[-500:]}{done.stderr[-500:]}")
    times = json.loads(lines[0].removeprefix("STARTUP "))
    assert isinstance(times, dict)
    return times


def memory(table: Table, effort: Effort, threads: int) -> None:
    """Largest resident memory of each process after some steps."""
    table.section("Peak memory of each process, 64 nodes, 256 samples of 1x28x28 each")
    for model, compute in (("MLP", "batched"), ("CNN", "loop")):
        for num_processes in (1, 2):
            with RankGroup(num_processes, 1, partial(NodeSteps, model=model, num_nodes=64, compute=compute)) as group:
                group.call("step", 3)
                peak = max(group.peak_bytes())
            table.line(f"{model}, {num_processes} process(es)", f"{peak / 1e6:,.0f} MB", "< 1000 MB", peak < 1e9)


def graphs(table: Table, effort: Effort, threads: int) -> None:
    """Drawing and preparing a round of graphs that change, and setting MATCHA up."""
    table.section("A round that is drawn and prepared, with its product with one column, ms")
    directed = partial(RandomDirected, rate_low=0.4, rate_high=0.8, base_probability=1.0)
    changing = partial(SlowlyChanging, num_changes=2)
    cases: list[tuple[str, Graph, int, float]] = [
        ("random_directed, 100 nodes", directed(num_nodes=100), 1, 5.0),
        ("random_directed, 100 nodes", directed(num_nodes=100), 2, 5.0),
        ("random_directed, 1,024 nodes", directed(num_nodes=1024), 1, 8.0),
        ("slowly_changing, 1,000 nodes", changing(num_nodes=1000), 1, 2.0),
        (
            "b_connected_directed, 10,000 nodes, no further edges",
            BConnectedDirected(num_nodes=10_000, window=4),
            1,
            8.0,
        ),
    ]
    if not effort.quick:
        many = BConnectedDirected(num_nodes=10_000, window=4, probability=1e-3)
        cases.append(("b_connected_directed, 10,000 nodes, 110,000 edges", many, 1, 30.0))
    for name, graph, world_size, target_ms in cases:
        placement = Placement(graph.num_nodes, world_size)
        ones, rounds = torch.ones(len(placement.nodes), 1), itertools.count()

        def prepare(
            steps: int,
            graph: Graph = graph,
            placement: Placement = placement,
            ones: Tensor = ones,
            rounds: "itertools.count[int]" = rounds,
        ) -> None:
            for _ in range(steps):
                plan = Plan.build(graph.edges(next(rounds)), placement)
                plan.local.multiply(ones)

        round_ms = 1e3 * measure({"": prepare}, effort).median("")
        line = f"{name}, {world_size} process(es)"
        table.line(line, f"{round_ms:.2f} ms a round", f"< {target_ms:g} ms", round_ms < target_ms)
    table.section("MATCHA's matchings, probabilities and weight, seconds")
    for num_nodes, probability in [(100, 0.5)] if effort.quick else [(100, 0.5), (1000, 0.01)]:
        started = time.process_time()
        matcha = Matcha(base=ErdosRenyi(num_nodes=num_nodes, probability=probability), budget=0.5)
        matcha.edges(0)
        seconds = time.process_time() - started
        what = f"{num_nodes:,} nodes, {len(matcha.matchings)} matchings"
        table.line(what, f"{seconds:.2f} s", "< 60 s", seconds < 60)


class LargeRing:
    """Logistic regression on a ring of many nodes."""

    def __init__(self, world: World, *, num_nodes: int) -> None:
        before = resident_bytes()
        dataset = RandomImages(num_nodes, samples_per_node=16, shape=DIGITS_SHAPE)
        self._ours = Ours(LogisticRegression, num_nodes, compute="batched", dataset=dataset, batch_size=8)
        self._before = before

    def step(self, steps: int) -> None:
        self._ours.step_and_mix(steps)

    def added_bytes(self, steps: int) -> int:
        """The increase of the process's resident memory."""
        return resident_bytes() - self._before


def resident_bytes() -> int:
    """Resident memory of this process now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def large_ring(table: Table, effort: Effort, threads: int) -> None:
    """Ten thousand nodes in one process."""
    table.section("Ring with logistic regression on 8x8 images, batch 8, one process, 1 thread")
    added = {}
    counts = [250, 500, 1_000] if effort.quick else [2_500, 5_000, 10_000]
    for num_nodes in counts:
        with RankGroup(1, 1, partial(LargeRing, num_nodes=num_nodes)) as group:
            times: Times = measure({"": group.method("step")}, effort)
            (peak,) = group.peak_bytes()
            (bytes_added,) = group.call("added_bytes", 0)
        assert isinstance(bytes_added, int)
        added[num_nodes] = bytes_added
        table.line(f"{num_nodes:,} nodes", f"{times.median(''):.4f} s a step, peak {peak / 1e6:,.0f} MB")
    growth = added[counts[2]] / added[counts[1]]
    sizes = ", ".join(f"{size / 1e6:,.0f}" for size in added.values())
    table.line(
        "data, parameters and buffers", f"{sizes} MB: {growth:.2f}x for the last doubling", "<= 2.2x", growth <= 2.2
    )
