"""Compares the speed with other simulators of decentralized learning, each in an environment of its own.

The work: an MLP 784-128-10 on random images, batches of 32, a ring with weights 1/3, one thread. Programs take windows
of steps in turn, so that all of them share what else the machine does; what is compared is processor time. Peers that
are not installed are named and skipped. They are installed with uv into a folder of environments, one per peer:

    python scripts/benchmark_peers.py --install decent-bench
    python scripts/benchmark_peers.py --nodes 16 64
"""

import argparse
import contextlib
import json
import os
import shlex
import statistics
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
TARGET = 3.0
"""Times the node-steps per processor second of a peer."""
OWN = "hypergossip"
_END_WAIT_S = 5.0


@dataclass(frozen=True)
class Peer:
    """A library that can be measured.

    Attributes:
        program: module that does the work with it.
        packages: what uv installs.
        python: the oldest version of Python that it runs on.
    """

    program: str
    packages: tuple[str, ...]
    python: str


PEERS: Mapping[str, Peer] = {
    "decent-bench": Peer("scripts.peers.decent_bench_program", ("decent-bench>=0.3,<0.4", "torch"), "3.13"),
}
WITHOUT_PROGRAM = ("FedEM", "PFLlib", "fluke", "Decent-DP", "gossipy")
"""Peers of the literature that no package or no interface of steps makes comparable without a program of their own."""


class Arguments(argparse.Namespace):
    """The command line."""

    cache: Path = Path.home() / ".cache" / "hypergossip" / "peers"
    install: list[str] | None = None
    nodes: list[int] | None = None
    steps: int = 16
    windows: int = 7


class Program:
    """A process that takes steps when it is told to.

    Args:
        interpreter: of the environment.
        module: to run.
        arguments: of the module.
        timeout_s: longest time until an answer.

    Raises:
        RuntimeError: when the process ends or is silent instead of answering.
    """

    def __init__(self, interpreter: Path, module: str, *arguments: str, timeout_s: float = 600.0) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        self._process = subprocess.Popen(
            [str(interpreter), "-m", module, *arguments],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._command = shlex.join([str(interpreter), "-m", module, *arguments])
        self._timeout_s = timeout_s
        self.version: str = self._answer()["version"]

    def steps(self, number: int) -> dict[str, float]:
        """Takes steps; returns ``wall_s`` and ``cpu_s``."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{number}\n")
        self._process.stdin.flush()
        times: dict[str, float] = self._answer()
        return times

    def close(self) -> int:
        """Ends the process, unless it has ended by itself; returns its status."""
        if self._process.stdin is not None and self._process.stdout is not None:
            self._process.stdout.close()
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
        try:
            return self._process.wait(_END_WAIT_S)  # its input has ended
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        guard = threading.Timer(self._timeout_s, self._process.kill)
        guard.start()
        line = self._process.stdout.readline()
        guard.cancel()
        if not line:
            status = self.close()
            raise RuntimeError(
                f"{self._command} ended (status {status}) or was silent for {self._timeout_s:g} s; "
                f"run it in {ROOT} to see why"
            )
        answer: dict[str, Any] = json.loads(line)
        return answer


def interpreter_of(name: str, cache: Path) -> Path:
    """The Python of a peer's environment."""
    return cache / name / "bin" / "python"


def install(name: str, cache: Path) -> None:
    """Makes the environment of a peer.

    Raises:
        ValueError: naming the command that failed.
    """
    cache.mkdir(parents=True, exist_ok=True)
    peer = PEERS[name]
    environment = str(cache / name)
    for command in (
        ["uv", "venv", "--python", f">={peer.python}", environment],
        ["uv", "pip", "install", "--python", str(interpreter_of(name, cache)), *peer.packages],
    ):
        print(" ".join(command), flush=True)
        try:
            subprocess.run(command, check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise ValueError(f"--install {name}: {' '.join(command)} failed ({error})") from error


def compare(programs: Mapping[str, Program], num_nodes: int, steps: int, windows: int) -> dict[str, float]:
    """Prints a line for each; returns the speed of ours relative to each, by processor time."""
    for program in programs.values():
        program.steps(steps)
    times: dict[str, list[dict[str, float]]] = {name: [] for name in programs}
    for _ in range(windows):
        for name, program in programs.items():
            times[name].append(program.steps(steps))
    ratios = {}
    for name, program in programs.items():
        wall, cpu = (statistics.median(window[clock] for window in times[name]) for clock in ("wall_s", "cpu_s"))
        pairs = zip(times[name], times[OWN], strict=True)
        ratios[name] = statistics.median(other["cpu_s"] / own["cpu_s"] for other, own in pairs)
        verdict = ""
        if name in PEERS:
            verdict = (
                f"ours is {ratios[name]:.2f}x (target {TARGET:g}x: {'met' if ratios[name] >= TARGET else 'MISSED'})"
            )
        elif name != OWN:
            verdict = f"ours is {ratios[name]:.2f}x"
        rate = num_nodes * steps / cpu
        millis = f"{1e3 * wall / steps:8.2f} ms wall, {1e3 * cpu / steps:8.2f} ms CPU a step"
        print(
            f"{name:<24} {program.version:<22} {millis} {rate:10,.0f} node-steps/CPU-s  {verdict}".rstrip(), flush=True
        )
    return ratios


def main() -> None:
    """Installs, or compares."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, help="folder of the peers' environments (~/.cache/hypergossip/peers)")
    parser.add_argument("--install", nargs="+", choices=sorted(PEERS), help="install these peers and end")
    parser.add_argument("--nodes", nargs="+", type=int, help="numbers of nodes (16 64 256)")
    parser.add_argument("--steps", type=int, help="steps in a window (16)")
    parser.add_argument("--windows", type=int, help="windows of each, in turn (7)")
    arguments = parser.parse_args(namespace=Arguments())
    if min(arguments.steps, arguments.windows, *(arguments.nodes or [1])) < 1:
        parser.error("--nodes, --steps, --windows: expected at least 1")
    if arguments.install:
        for name in arguments.install:
            install(name, arguments.cache)
        return
    installed = [name for name in PEERS if interpreter_of(name, arguments.cache).exists()]
    for name in PEERS:
        if name not in installed:
            print(f"{name}: not installed, skipped; python scripts/benchmark_peers.py --install {name}")
    for name in WITHOUT_PROGRAM:
        print(f"{name}: no program in scripts/peers, skipped")
    for num_nodes in arguments.nodes or [16, 64, 256]:
        print(f"\n{num_nodes} nodes, MLP 784-128-10, batch 32, ring, 1 thread", flush=True)
        programs: dict[str, Program] = {}
        try:
            programs[OWN] = Program(Path(sys.executable), "scripts.peers.own_program", str(num_nodes))
            written = Program(Path(sys.executable), "scripts.peers.own_program", str(num_nodes), "written")
            programs["hand-written products"] = written
            for name in installed:
                programs[name] = Program(interpreter_of(name, arguments.cache), PEERS[name].program, str(num_nodes))
            compare(programs, num_nodes, arguments.steps, arguments.windows)
        finally:
            for program in programs.values():
                program.close()


if __name__ == "__main__":
    try:
        main()
    except (RuntimeError, ValueError) as error:
        sys.exit(str(error))
