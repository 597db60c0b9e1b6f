"""Measures the simulator and prints a table of what was measured, the target, and whether it was met.

Comparisons are measured side by side in one run, in turn, with medians. Run on a quiet machine:

    python scripts/benchmark.py
    python scripts/benchmark.py --quick --only steps compute
"""

import argparse
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])

from simulator.memory import keep_memory  # noqa: E402

keep_memory()  # as launch.py does

import torch  # noqa: E402

from scripts import benchmark_parts  # noqa: E402
from scripts.benchmark_asynchronous import asynchronous  # noqa: E402
from scripts.benchmark_measuring import Effort, Table  # noqa: E402

PARTS: dict[str, Callable[[Table, Effort, int], None]] = {
    "steps": benchmark_parts.steps,
    "compute": benchmark_parts.compute_choices,
    "communication": benchmark_parts.communication,
    "processes": benchmark_parts.processes,
    "startup": benchmark_parts.startup,
    "memory": benchmark_parts.memory,
    "graphs": benchmark_parts.graphs,
    "ring": benchmark_parts.large_ring,
    "asynchronous": asynchronous,
    "gpu": benchmark_parts.gpu,
}


@dataclass
class Arguments(argparse.Namespace):
    """The command line."""

    quick: bool = False
    only: list[str] | None = None
    threads: int = 1
    clock: str = "wall"


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description="Measures the simulator; see docs/architecture.md for the design.")
    parser.add_argument("--quick", action="store_true", help="short windows and small cases only")
    parser.add_argument("--only", nargs="+", choices=sorted(PARTS), help="parts to measure; all by default")
    parser.add_argument("--threads", type=int, default=1, help="threads of this process (default 1)")
    parser.add_argument(
        "--clock", choices=["wall", "cpu"], default="wall", help="cpu: processor time, on a machine with other work"
    )
    arguments = parser.parse_args(namespace=Arguments())
    if arguments.threads < 1:
        parser.error("--threads: expected at least 1")
    torch.set_num_threads(arguments.threads)
    effort = Effort(5, 0.03, True, arguments.clock) if arguments.quick else Effort(15, 0.1, False, arguments.clock)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    print(f"torch {torch.__version__}, {cores} cores, {arguments.threads} thread(s), {arguments.clock} clock")
    table = Table()
    for name, part in PARTS.items():
        if arguments.only is None or name in arguments.only:
            part(table, effort, arguments.threads)
    print(f"\n{len(table.missed)} target(s) missed")
    for line in table.missed:
        print(f"  {line}")


if __name__ == "__main__":
    main()
