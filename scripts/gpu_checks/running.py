"""A line of the check in a process of its own, with a limit of time, and nothing left of it afterwards."""

import contextlib
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scripts.gpu_checks.reporting import Findings, read_findings

ROOT = Path(__file__).resolve().parents[2]
MARK = "HYPERGOSSIP_GPU_CHECK"
_ERROR_LINES = 3


@dataclass(frozen=True)
class Ended:
    """A line that has ended.

    Attributes:
        findings: what it has written down.
        verdict: ``ok``, ``FAILED``, ``TIMEOUT`` or ``skipped``.
        seconds: it took.
    """

    findings: Findings
    verdict: str
    seconds: float


def run_line(name: str, folder: Path, arguments: Sequence[str], limit_s: float) -> Ended:
    """Runs ``scripts.gpu_checks.child`` for a line.

    Args:
        folder: for its files: the report, what it prints, and runs that it starts.
        arguments: of the child, after the name.
        limit_s: after which it is ended with all that it has started.
    """
    folder.mkdir(parents=True, exist_ok=True)
    report, mark = folder / "report.json", str(uuid.uuid4())
    command = [sys.executable, "-m", "scripts.gpu_checks.child", name, str(report), *arguments]
    start = time.monotonic()
    is_late = False
    with (folder / "output.txt").open("w") as output:
        child = subprocess.Popen(
            command,
            cwd=ROOT,
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env={**os.environ, MARK: mark},
            start_new_session=True,
        )
        try:
            child.wait(limit_s)
        except subprocess.TimeoutExpired:
            is_late = True
        finally:
            end_all_with(mark, child)
    findings = read_findings(report)
    if is_late:
        findings.failures.append(f"was ended after its limit of {limit_s:g} s")
    elif child.returncode or not findings.finished:
        last = (folder / "output.txt").read_text(errors="replace").strip().splitlines()[-_ERROR_LINES:]
        findings.failures.append(f"ended with status {child.returncode}: {' | '.join(last)}")
    verdict = "TIMEOUT" if is_late else "FAILED" if findings.failures else "skipped" if findings.skipped else "ok"
    return Ended(findings, verdict, time.monotonic() - start)


def end_all_with(mark: str, child: "subprocess.Popen[bytes]") -> None:
    """Kills the child and every process that it has started, which inherited its mark."""
    if child.poll() is None:
        child.kill()
    child.wait()
    for pid in marked(mark):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def marked(mark: str) -> list[int]:
    """Process ids of all that have the mark in their environment."""
    wanted, found = f"{MARK}={mark}".encode(), []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if wanted in path.read_bytes().split(b"\0"):
                found.append(int(path.parent.name))
    return found
