"""Starting real commands as a user would, each in a process group of its own that is gone afterwards."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
TORCHRUN = str(Path(sys.executable).parent / "torchrun")
SMALL = [
    *("experiment=personalization_sgp", "num_nodes=5", "num_steps=12", "eval_every=4", "model=logistic_regression"),
    *("algorithm.inner_steps=4", "algorithm.depth=2", "algorithm.num_pushes=2", "algorithm.reference=none"),
    *("figures=false", "num_threads=1", "dtype=float64", "compute=vmap", "timeout_s=60"),
]
# Some seconds in one process, and on several ranks.
LONG = ("num_steps=1500", "eval_every=50", "checkpoint.every=200", "algorithm.inner_steps=500")
RANKS = ("num_steps=400", "eval_every=20", "checkpoint.every=50", "algorithm.inner_steps=100")
LIMIT_S = 170.0
MARK = "HYPERGOSSIP_TEST"


@dataclass
class Ended:
    """A command that has ended."""

    status: int
    out: str
    err: str

    @property
    def complaints(self) -> list[str]:
        """Our own lines on standard error."""
        return [line for line in self.err.splitlines() if line.startswith("hypergossip:")]


class Command:
    """A command in a process group of its own, with its output in files."""

    def __init__(self, arguments: list[str], folder: Path, environ: dict[str, str]) -> None:
        self.mark = str(uuid.uuid4())
        folder.mkdir(parents=True, exist_ok=True)
        number = len(list(folder.glob("*.out")))
        self._out, self._err = folder / f"{number}.out", folder / f"{number}.err"
        with self._out.open("w") as out, self._err.open("w") as err:
            self.process = subprocess.Popen(
                arguments,
                cwd=ROOT,
                stdout=out,
                stderr=err,
                stdin=subprocess.DEVNULL,
                env={**environ, MARK: self.mark},
                start_new_session=True,
            )

    def wait(self, limit_s: float = LIMIT_S) -> Ended:
        """Waits for the end; what runs longer fails the test."""
        try:
            status = self.process.wait(limit_s)
        except subprocess.TimeoutExpired:
            pytest.fail(f"still running after {limit_s} s:\n{self._out.read_text()}\n{self._err.read_text()}")
        return Ended(status, self._out.read_text(), self._err.read_text())

    def ranks(self, count: int) -> list[int]:
        """Process ids of the ranks, by rank, once all have been started."""
        found: list[int] = []

        def all_are_there() -> bool:
            found[:] = children_of(self.process.pid)
            return len(found) == count

        wait_for(all_are_there, self)
        return found

    def left_behind(self) -> list[int]:
        """Process ids of everything that the command started and that is still there."""
        return [pid for pid in alive_with(f"{MARK}={self.mark}") if pid != self.process.pid]

    def end(self) -> None:
        """Kills what is left of it."""
        for pid in [self.process.pid, *self.left_behind()]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(10)


def children_of(pid: int) -> list[int]:
    """Process ids of the children, in the order in which they were started."""
    children: list[int] = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            children += map(int, path.read_text().split())
    return sorted(children)


def alive_with(variable: str) -> list[int]:
    """Process ids of everything whose environment has ``variable``, such as A=b, and that has not ended."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if variable.encode() in path.read_bytes().split(b"\0"):
                found.append(int(path.parent.name))
    return found


class Start:
    """Starts ``launch.py`` in several ways; overrides are added to small settings."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.running: list[Command] = []

    def __call__(
        self,
        *overrides: str,
        ranks: int | None = None,
        torchrun: str = "",
        one_line: bool = False,
        command: list[str] | None = None,
        settings: list[str] = SMALL,
        environ: dict[str, str] | None = None,
        arguments: str = "",
    ) -> Command:
        """With ``ranks``, torchrun starts that many, or its form without a report; otherwise python starts launch.py.

        A whole ``command`` gets nothing but the environment.
        """
        if ranks is None and not torchrun:
            prefix = [sys.executable, "launch.py"]
        else:
            options = torchrun.split()
            if ranks is not None:
                options += ["--nproc-per-node", str(ranks), "--master-port", str(free_port())]
            program = [sys.executable, "-m", "simulator.torchrun"] if one_line else [TORCHRUN]
            prefix = [*program, *options, "launch.py"]
        clean = {key: value for key, value in os.environ.items() if not key.startswith(("SLURM_", "TORCHELASTIC_"))}
        for key in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT", "HYDRA_FULL_ERROR"):
            clean.pop(key, None)
        clean |= {"OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": str(self.folder / "cache"), "PYTHONWARNINGS": "default"}
        words = command or [*prefix, *arguments.split(), *settings, *overrides]
        started = Command(words, self.folder / "output", clean | (environ or {}))
        self.running.append(started)
        return started


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def records(folder: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl."""
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def timeless(record: dict[str, Any]) -> dict[str, Any]:
    """Without what depends on the clock."""
    return {key: value for key, value in record.items() if key not in ("time/wall_s", "throughput/node_steps_per_s")}


def comparable(record: dict[str, Any]) -> dict[str, Any]:
    """Also without what depends on the placement."""
    return {k: v for k, v in timeless(record).items() if k not in ("comm/wire_bytes", "comm/evaluation_bytes")}


def assert_same_run(folder: Path, expected: Path, *, bitwise: bool = False) -> None:
    """Compares the metrics of two runs: bit by bit on one placement, else to 1e-10 and counts exactly."""
    mine, theirs = records(folder), records(expected)
    assert [record["step"] for record in mine] == [record["step"] for record in theirs]
    for a, b in zip(mine, theirs, strict=True):
        if bitwise:
            assert timeless(a) == timeless(b)
            continue
        assert comparable(a).keys() == comparable(b).keys()
        assert comparable(a) == pytest.approx(comparable(b), rel=1e-10, abs=1e-10)
        for key in ("comm/bytes", "comm/messages", "comm/bytes_inner", "comm/bytes_hypergradient", "step"):
            assert a.get(key) == b.get(key)


def wait_for(condition: Callable[[], object], command: Command | None = None, limit_s: float = 120.0) -> None:
    """Polls until ``condition`` holds."""
    deadline = time.monotonic() + limit_s
    while not condition():
        ended = command is not None and command.process.poll() is not None
        assert not ended, f"the command ended before: {command.wait(1) if command else ''}"
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.05)


def wait_for_lines(command: Command, folder: Path, count: int) -> None:
    """Waits until the run in ``folder`` has written that many lines of metrics."""
    path = folder / "metrics.jsonl"
    wait_for(lambda: path.is_file() and path.read_text().count("\n") >= count, command)
