"""The same results on every number of processes: starts them, and compares what they have written."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch


def start(
    cases: Mapping[str, Mapping[str, Any]], folder: Path, *, num_steps: int, world_sizes: tuple[int, ...] = (1, 2, 3)
) -> None:
    """Runs all cases in a fresh interpreter, which finds modules where this one does.

    Raises:
        RuntimeError: with what it printed, when it fails.
    """
    order = {"cases": cases, "num_steps": num_steps, "world_sizes": world_sizes, "folder": str(folder)}
    (folder / "order.json").write_text(json.dumps(order))
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "simulator.testing.on_processes", str(folder / "order.json")],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(os.path.abspath(path) for path in sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"running on {', '.join(map(str, world_sizes))} processes failed:\n{done.stderr}")


def compare(name: str, folder: Path, *, world_sizes: tuple[int, ...] = (1, 2, 3), tolerance: float = 1e-10) -> None:
    """Compares what :func:`start` has written for a case: counts are equal, rows are but for the order of sums.

    Raises:
        AssertionError: naming what differs, and on how many processes.
    """
    reports = {size: json.loads((folder / f"{name}_{size}.json").read_text()) for size in world_sizes}
    states = {size: torch.load(folder / f"{name}_{size}.pt", weights_only=True) for size in world_sizes}
    first = world_sizes[0]
    for size in world_sizes[1:]:
        assert states[size].keys() == states[first].keys(), f"{size} processes: other keys in the state"
        for key, counts in reports[first]["counts"].items():
            assert reports[size]["counts"][key] == counts, f"{size} processes: other counts ({key})"
        for key, rows in states[first].items():
            error = float((states[size][key] - rows).abs().max()) if rows.numel() else 0.0
            assert error <= tolerance, f"{size} processes: {key} is apart by {error:.3g} from {first} process(es)"
