"""The benchmark: its contenders do the same work, and it prints its table."""

import math
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from scripts import benchmark_parts
from scripts.benchmark_contenders import BATCH_SIZE, MODELS, SAMPLES_PER_NODE, HandWritten, Ours, PlainLoop
from scripts.benchmark_measuring import Effort, Table, Times, measure
from scripts.benchmark_processes import peak_bytes
from simulator.rows import RowLayout

ROOT = Path(__file__).resolve().parents[2]
SHORT = Effort(repetitions=1, window_s=1e-3, quick=True)
NUM_NODES = 5


def rows_of(plain):
    layout = RowLayout(plain.models[0])
    return torch.stack([layout.flatten(module) for module in plain.models])


def rows_written(written):
    return torch.cat([tensor.reshape(NUM_NODES, -1) for layer in written.layers for tensor in layer], dim=1)


@pytest.mark.parametrize("model", MODELS)
def test_contenders_do_the_same_work(model):
    plain = PlainLoop(model, NUM_NODES)
    ours = Ours(MODELS[model], NUM_NODES, compute="loop" if model == "CNN" else "batched")
    ours.state = {"params": rows_of(plain)}
    batches = [ours.problem.batch(step) for step in range(SAMPLES_PER_NODE // BATCH_SIZE)]
    orders = torch.from_numpy(np.stack([np.concatenate(of_node) for of_node in zip(*batches, strict=True)]))
    plain.orders = list(orders)
    contenders = [plain, ours]
    if model != "CNN":
        written = HandWritten(benchmark_parts.HAND_WRITTEN_WIDTHS[model], NUM_NODES)
        for index, (weight, bias) in enumerate(written.layers):
            parameters = [list(module.parameters())[2 * index : 2 * index + 2] for module in plain.models]
            weight.copy_(torch.stack([w.detach() for w, _ in parameters]))
            bias.copy_(torch.stack([b.detach() for _, b in parameters]).unsqueeze(1))
        written.orders = orders + written.offsets
        contenders.append(written)
    start = rows_of(plain)
    for contender in contenders:
        contender.done = 1  # not the first batch, for which orders are drawn
        contender.step(1)
        contender.step_and_mix(2)
    expected = rows_of(plain)
    assert (expected - start).abs().max() > 1e-3
    torch.testing.assert_close(ours.state["params"], expected, rtol=1e-4, atol=1e-5)
    if model != "CNN":
        torch.testing.assert_close(rows_written(written), expected, rtol=1e-4, atol=1e-5)


def test_speedups_are_medians_of_windows_side_by_side():
    times = Times({"base": [2.0, 20.0, 3.0], "new": [1.0, 10.0, 1.0]})
    assert times.median("base") == 3.0
    assert times.speedup("new", "base") == 2.0


@pytest.mark.parametrize("clock", ["wall", "cpu"])
def test_windows_are_as_long_as_asked_for_and_in_whole_epochs(clock):
    calls = []

    def run(steps):
        calls.append(steps)
        stop = time.perf_counter() + 1e-3 * steps
        while time.perf_counter() < stop:
            pass

    times = measure({"a": run}, Effort(3, 0.02, True, clock), multiple=4)
    assert all(steps % 4 == 0 for steps in calls)
    assert calls[-1] >= 4
    assert len(times["a"]) == 3
    assert 1e-5 < times.median("a") < 1
    elsewhere = measure({"a": lambda steps: 7.0 * steps}, Effort(2, 0.0, True, clock))
    assert math.isclose(elsewhere.median("a"), 7.0) == (clock == "cpu")


def test_the_table_marks_what_was_missed(capsys):
    table = Table()
    table.line("fine", "2x", ">= 1x", True)
    table.line("slow", "0.5x", ">= 1x", False)
    table.line("", "0.1x", ">= 2x", False)
    table.line("plain", "3 s")
    lines = capsys.readouterr().out.splitlines()
    assert [line.rsplit(None, 1)[-1] for line in lines] == ["met", "MISSED", "MISSED", "s"]
    assert table.missed == ["slow: 0.5x (target >= 1x)", "slow: 0.1x (target >= 2x)"]


def test_the_command_prints_and_writes_nothing_else(tmp_path):
    command = [sys.executable, str(ROOT / "scripts" / "benchmark.py"), "--quick", "--only", "graphs"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "random_directed, 100 nodes" in done.stdout
    assert done.stdout.count("ms a round") >= 2
    assert not list(tmp_path.iterdir())


def test_a_large_ring_steps_and_knows_its_memory():
    ring = benchmark_parts.LargeRing(None, num_nodes=20)
    ring.step(2)
    assert abs(ring.added_bytes(0)) < peak_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("part", ["steps", "compute_choices", "communication", "startup"])
def test_every_part_prints_its_lines(part, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(benchmark_parts, "node_counts", lambda model, effort: [3])
    getattr(benchmark_parts, part)(Table(), SHORT, 1)
    lines = capsys.readouterr().out.splitlines()
    assert sum(bool(line) for line in lines) >= 2
    assert not any("nan" in line for line in lines)
