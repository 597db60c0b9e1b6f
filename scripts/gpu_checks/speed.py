"""Node-steps per second, their share of what the memory's bandwidth allows, and a run of very many nodes."""

import gc
import time

import torch

from scripts.benchmark_contenders import MODELS, Ours, RandomImages
from scripts.benchmark_measuring import Effort, measure
from scripts.gpu_checks.child import Task
from scripts.gpu_checks.inventory import gpu_name
from simulator.models.logistic_regression import LogisticRegression

NUM_NODES = (16, 64, 256, 1024, 4096)
BYTES_PER_PARAMETER = 28
"""That a step of a node moves at least, in float32: a row is read to compute, read and written to update, and read and
written to mix, and its gradient is written and read."""
_SAMPLES = 64


def logistic_regression(task: Task) -> None:
    """Node-steps per second of logistic regression."""
    _speed(task, "logistic regression")


def mlp(task: Task) -> None:
    """Of an MLP."""
    _speed(task, "MLP")


def cnn(task: Task) -> None:
    """Of a convolutional network."""
    _speed(task, "CNN")


def _speed(task: Task, model: str) -> None:
    device = "cpu" if task.dry else "cuda"
    effort = Effort(2, 0.01, True) if task.dry else Effort(5, 0.1, True)
    task.report.ran_on("CPU" if task.dry else gpu_name())
    bandwidth = copy_bandwidth(torch.device(device), 2**24 if task.dry else 2**30)
    task.report.row(f"a copy moves {bandwidth / 1e9:,.0f} GB/s", bytes_per_s=bandwidth)
    for num_nodes in (4,) if task.dry else NUM_NODES:
        try:
            ours = Ours(MODELS[model], num_nodes, device=device, dataset=RandomImages(num_nodes, _SAMPLES))
            times = measure({"local": ours.step, "mixed": ours.step_and_mix}, effort, multiple=2)
        except torch.OutOfMemoryError:
            task.report.row(f"{num_nodes:,} nodes: out of memory", nodes=num_nodes)
            continue
        finally:
            gc.collect()
        num_params = ours.state["params"].shape[1]
        rates = {name: num_nodes / times.median(name) for name in times}
        share = rates["mixed"] * num_params * BYTES_PER_PARAMETER / bandwidth
        text = (
            f"{num_nodes:,} nodes: {rates['local']:,.0f} node-steps/s without and {rates['mixed']:,.0f} with mixing, "
        )
        text += f"{share:.0%} of the bandwidth ({ours.choice})"
        task.report.row(text, nodes=num_nodes, parameters=num_params, share=share, compute=ours.choice, **rates)
        del ours


def copy_bandwidth(device: torch.device, num_bytes: int) -> float:
    """Bytes that a copy within the device's memory reads and writes per second, the best of some."""
    source = torch.zeros(num_bytes, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    best = float("inf")
    for _ in range(10):
        start = time.perf_counter()
        target.copy_(source)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - start)
    return 2 * num_bytes / best


def large(task: Task) -> None:
    """Very many nodes: logistic regression on 8x8 images on a ring."""
    num_nodes = 1_000 if task.dry else 100_000
    task.report.ran_on("CPU" if task.dry else gpu_name())
    dataset = RandomImages(num_nodes, samples_per_node=16, shape=(1, 8, 8))
    device = "cpu" if task.dry else "cuda"
    start = time.perf_counter()
    ours = Ours(LogisticRegression, num_nodes, compute="batched", device=device, dataset=dataset, batch_size=8)
    built_s = time.perf_counter() - start
    step_s = measure({"": ours.step_and_mix}, Effort(3, 0.1, True)).median("")
    peak = 0 if task.dry else torch.cuda.max_memory_allocated()
    text = f"{num_nodes:,} nodes: built in {built_s:.1f} s, {1e3 * step_s:.1f} ms a step, {num_nodes / step_s:,.0f} "
    text += "node-steps/s" + (f", peak {peak / 1e9:.1f} GB on the GPU" if peak else "")
    task.report.row(text, nodes=num_nodes, built_s=built_s, step_s=step_s, peak_bytes=peak)
    if not bool(ours.state["params"].isfinite().all()):
        task.report.fail("parameters are not finite")
