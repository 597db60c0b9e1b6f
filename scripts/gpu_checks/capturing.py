"""The local step as a CUDA graph (``compute_capture``)."""

import gc

import torch

from scripts.benchmark_contenders import MODELS, Ours, RandomImages
from scripts.benchmark_measuring import Effort, measure
from scripts.gpu_checks.child import Task
from scripts.gpu_checks.inventory import gpu_name

TOLERANCE = 1e-5
"""Of parameters in float32 after some steps, relative to the largest one."""
_CASES = {"logistic regression": (16, 256, 4096), "MLP": (16, 256, 1024), "CNN": (16, 64)}
_DRY_CASES = {"logistic regression": (4,)}
_SAMPLES, _STEPS = 64, 6


def capture(task: Task) -> None:
    """The same parameters with and without graphs, and the speed of both. The CPU has no graphs and ignores them."""
    task.report.ran_on("CPU, without graphs" if task.dry else gpu_name())
    effort = Effort(2, 0.01, True) if task.dry else Effort(5, 0.05, True)
    for model, counts in (_DRY_CASES if task.dry else _CASES).items():
        for num_nodes in counts:
            _compare(task, model, num_nodes, effort)
            gc.collect()


def _compare(task: Task, model: str, num_nodes: int, effort: Effort) -> None:
    dataset = RandomImages(num_nodes, _SAMPLES)
    device = "cpu" if task.dry else "cuda"
    compute = Ours(MODELS[model], num_nodes, device=device, dataset=dataset).choice
    eager, replayed = (
        Ours(MODELS[model], num_nodes, device=device, dataset=dataset, compute=compute, captures=captures)
        for captures in (False, True)
    )
    for each in (eager, replayed):
        each.step(_STEPS)
    a, b = (each.state["params"].double() for each in (eager, replayed))
    distance = float((a - b).abs().max() / a.abs().max())
    what = f"{model}, {num_nodes:,} nodes ({compute})"
    if distance > TOLERANCE:
        task.report.fail(f"{what}: replayed steps are apart by {distance:.2g} from eager ones")
    if not task.dry and not replayed.num_graphs:
        task.report.fail(f"{what}: no graph was recorded")
    times = measure({"eager": eager.step, "replayed": replayed.step}, effort, multiple=2)
    rates = {name: num_nodes / times.median(name) for name in times}
    text = f"{what}: {rates['eager']:,.0f} node-steps/s eager, {rates['replayed']:,.0f} replayed, "
    text += f"{times.speedup('replayed', 'eager'):.2f}x; apart by {distance:.1e}"
    peak = 0 if task.dry else torch.cuda.max_memory_allocated()
    task.report.row(text, model=model, nodes=num_nodes, distance=distance, peak_bytes=peak, compute=compute, **rates)
