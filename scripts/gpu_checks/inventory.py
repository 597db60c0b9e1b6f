"""What the machine has."""

import os
import platform

import torch

from scripts.gpu_checks.child import Task


def inventory(task: Task) -> None:
    """Versions, GPUs and memory; the row with ``num_gpus`` says which lines can run."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    num_gpus = 0 if task.dry or not torch.cuda.is_available() else torch.cuda.device_count()
    task.report.ran_on(gpu_name() if num_gpus else f"CPU, {cores} cores")
    task.report.row(f"{num_gpus} GPU(s), {cores} cores", num_gpus=num_gpus, cores=cores)
    versions = {"torch": torch.__version__, "CUDA": torch.version.cuda, "Python": platform.python_version()}
    if num_gpus:
        versions["NCCL"] = ".".join(map(str, torch.cuda.nccl.version()))
    task.report.row(", ".join(f"{name} {version}" for name, version in versions.items()), **versions)
    for index in range(num_gpus):
        properties = torch.cuda.get_device_properties(index)
        gigabytes = properties.total_memory / 1e9
        task.report.row(f"GPU {index}: {properties.name}, {gigabytes:.0f} GB", name=properties.name, gb=gigabytes)


def gpu_name() -> str:
    """The name of the present GPU."""
    return str(torch.cuda.get_device_name())
