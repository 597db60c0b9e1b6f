"""The battery as lines of the check, in several processes at once where there are cores."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from scripts.gpu_checks.child import Task
from scripts.gpu_checks.inventory import gpu_name
from scripts.gpu_checks.running import ROOT

BUDGETS = ROOT / "tests" / "device" / "budgets.json"
TOLERANCE = 1e-8
"""Of the difference between the CPU and a GPU, which sum in other orders; all cases compute in float64."""
FEW: tuple[str, ...] = ("sgp", "choco", "hgp", "c2dfb", "pfedhn", "sgp by batched", "cnn_mnist3 on images")
FEW += ("c2dfb on sparse features", "qsgd-8-None", "top_k-auto", "random_k-0.5")
FEW += ("a tensor on the CPU", "a number read in a step")
"""What a dry run does of the battery; the tests do all of it."""
_NUM_SHARES = 4


def battery(task: Task) -> None:
    """Values: as on the CPU, and the same bits in a second run."""
    count = 0
    for name, group, found in entries(task, ["--twice"]):
        if group == "broken":
            if name == "a tensor on the CPU" and "error" not in found:
                task.report.fail(f"{name} was not noticed")
            continue
        count += 1
        if "error" in found:
            task.report.fail(f"{name}: {found['error']}")
            continue
        if found["distance"] > (0.0 if task.dry else TOLERANCE):
            task.report.fail(f"{name}: {found['different']} apart by {found['distance']:.2g}")
        if found["unstable"]:
            task.report.fail(f"{name}: a second run gives other bits of {found['unstable']}")
        if found["different"]:
            task.report.row(f"{name}: apart by {found['distance']:.1e}", case=name, distance=found["distance"])
    task.report.row(f"{count} cases, all others with the CPU's bits", cases=count)


def waits(task: Task) -> None:
    """Waits of the host in steps: an error where the budget is 0, counted elsewhere."""
    budgets = json.loads(BUDGETS.read_text())
    total = 0
    for name, group, found in entries(task, ["--budgets", str(BUDGETS)]):
        if "error" in found:
            if group != "broken":
                task.report.fail(f"{name}: {found['error']}")
            continue
        total += group != "broken"
        if group == "broken":
            if name == "a number read in a step" and found["waits"] < 1:
                task.report.fail(f"{name} was not noticed")
        elif found["waits"] > budgets.get(name, 0):
            lines = ", ".join(f"{line} ({count})" for line, count in found["lines"].items())
            task.report.fail(f"{name}: {found['waits']:g} waits a step, budget {budgets.get(name, 0):g}: {lines}")
        elif found["waits"]:
            task.report.row(f"{name}: {found['waits']:g} waits a step", case=name, waits=found["waits"])
    task.report.row(f"{total} cases", cases=total)


def entries(task: Task, options: Sequence[str]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Name, group and table entry of all cases; the battery runs in processes of its own."""
    command = [sys.executable, "-m", "scripts.gpu_checks.battery"]
    given = [*options, "--device", "pretended" if task.dry else "cuda", *(["--only", *FEW] if task.dry else [])]
    task.report.ran_on("pretended device, computing on the CPU" if task.dry else "cuda")
    count = 1 if task.dry else min(_NUM_SHARES, os.cpu_count() or 1)
    tables = [task.folder / f"table{share}.json" for share in range(count)]
    running = [
        subprocess.Popen([*command, str(table), "--share", f"{share}/{count}", *given], cwd=ROOT)
        for share, table in enumerate(tables)
    ]
    for process, table in zip(running, tables, strict=True):
        if process.wait():
            task.report.fail(f"a process of the battery ended with status {process.returncode}; see output.txt")
        if table.is_file():
            groups: dict[str, dict[str, dict[str, Any]]] = json.loads(table.read_text())
            yield from ((name, group, found) for group, cases in groups.items() for name, found in cases.items())
    if not task.dry:
        task.report.ran_on(gpu_name())
