"""Runs of ``launch.py`` as a user starts them: ranks that share a GPU, and a sweep."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scripts.gpu_checks.child import Task
from scripts.gpu_checks.ranks import clean_environment
from scripts.gpu_checks.running import ROOT

SMALL: tuple[str, ...] = ("algorithm=sgp", "graph=random_directed", "num_nodes=6", "num_steps=20", "eval_every=10")
SMALL += ("dtype=float64", "model=logistic_regression", "compute=vmap", "figures=false", "timeout_s=60")
TOLERANCE = 1e-9


def launch(task: Task, overrides: Sequence[str], *, sweep: bool = False, **environ: str) -> None:
    """Runs launch.py; its output becomes this process's.

    Raises:
        subprocess.CalledProcessError: when it fails.
    """
    command = [sys.executable, "launch.py", *(["-m"] if sweep else []), *SMALL, *overrides]
    subprocess.run(command, cwd=ROOT, env=clean_environment(task, **environ), check=True)


def summary_of(folder: Path) -> dict[str, Any]:
    """The summary of a run folder."""
    found: dict[str, Any] = json.loads((folder / "summary.json").read_text())
    return found


def device_of(task: Task, folder: Path) -> str:
    """Where a run computed, by its own record; fails the line when that is not what was asked for."""
    gpu = json.loads((folder / "environment.json").read_text())["gpu"]
    if not task.dry and gpu is None:
        task.report.fail(f"the run in {folder.name} has used no GPU")
    return str(gpu) if gpu else "CPU"


def shared_gpu(task: Task) -> None:
    """Three ranks on the first GPU: the result of one rank, and as many bytes."""
    device = "cpu" if task.dry else "cuda"
    folders = {count: task.folder / f"ranks{count}" for count in (1, 3)}
    for count, folder in folders.items():
        words = (f"launcher.num_processes={count}", f"device={device}", f"hydra.run.dir={folder}")
        launch(task, words, CUDA_VISIBLE_DEVICES="" if task.dry else "0")
    task.report.ran_on(f"{device_of(task, folders[3])}, 3 ranks by gloo")
    alone, together = (summary_of(folder) for folder in folders.values())
    distance = abs(alone["train/loss"] - together["train/loss"])
    task.report.row(f"train/loss apart by {distance:.1e}; {together['comm/bytes']:,.0f} bytes", distance=distance)
    if distance > TOLERANCE:
        task.report.fail(f"train/loss is apart by {distance:.2g} from one rank")
    if alone["comm/bytes"] != together["comm/bytes"]:
        task.report.fail(f"{together['comm/bytes']:,} bytes were counted, and {alone['comm/bytes']:,} on one rank")


def sweep(task: Task) -> None:
    """Two jobs one after the other, each on two ranks."""
    folder = task.folder / "sweep"
    words = (f"device={'cpu' if task.dry else 'cuda'}", "launcher.num_processes=2", "seed=0,1")
    launch(task, (*words, f"hydra.sweep.dir={folder}"), sweep=True)
    runs = sorted(path.parent for path in folder.glob("*/summary.json"))
    for run in runs:
        task.report.ran_on(f"{device_of(task, run)}, 2 ranks")
        task.report.row(f"job {run.name}: train/loss {summary_of(run)['train/loss']:.4f}")
    if len(runs) != 2:
        task.report.fail(f"{len(runs)} of 2 jobs have finished")
