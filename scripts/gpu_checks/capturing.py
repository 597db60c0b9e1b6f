"""The local step as a CUDA graph."""

import importlib.util

from scripts.gpu_checks.child import Task


def capture(task: Task) -> None:
    """Speed of the local step with and without capture."""
    if importlib.util.find_spec("simulator.compute.capture") is None:
        task.report.skip("no capture on this version")
