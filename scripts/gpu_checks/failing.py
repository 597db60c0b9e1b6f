"""A rank that stops or dies in a run with ``timeout_s=10``: how long the others go on, and what they print."""

import signal
import subprocess
import time
from pathlib import Path

from scripts.gpu_checks.child import Task
from scripts.gpu_checks.launching import SMALL, device_of
from scripts.gpu_checks.ranks import TORCHRUN, children_of, clean_environment, free_port, send_signal
from scripts.gpu_checks.running import ROOT

TIMEOUT_S = 10.0
PATIENCE_S = 80.0
"""From the signal to the end of all ranks, at most."""
_START_S, _DRY_START_S = 60.0, 400.0
_NUM_LINES = 6


def stopped(task: Task) -> None:
    """SIGSTOP: the rank is there and does not answer."""
    _disturb(task, signal.SIGSTOP)


def killed(task: Task) -> None:
    """SIGKILL: the rank is gone."""
    _disturb(task, signal.SIGKILL)


def _disturb(task: Task, number: signal.Signals) -> None:
    run, log = task.folder / "run", task.folder / "ranks.txt"
    command = [str(TORCHRUN), "--nproc-per-node", "2", "--master-port", str(free_port()), "launch.py", *SMALL]
    command += [f"device={'cpu' if task.dry else 'cuda'}", f"timeout_s={TIMEOUT_S:g}", "num_steps=1000000"]
    command += ["eval_every=50", f"hydra.run.dir={run}"]
    with log.open("w") as output:
        environment = clean_environment(task)
        launched = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT)
    _wait_for_metrics(run / "metrics.jsonl", launched, _DRY_START_S if task.dry else _START_S)
    task.report.ran_on(f"{device_of(task, run)}, 2 ranks of torchrun")
    victim = children_of(launched.pid)[1]
    start = time.monotonic()
    send_signal(victim, number)
    try:
        status = launched.wait(PATIENCE_S)
    except subprocess.TimeoutExpired:
        task.report.fail(f"ranks were still running {PATIENCE_S:g} s after {number.name}")
        return
    seconds = time.monotonic() - start
    task.report.row(f"all ended {seconds:.1f} s after {number.name}, status {status}", seconds=seconds, status=status)
    said = [line.strip() for line in log.read_text(errors="replace").splitlines() if "hypergossip:" in line]
    for line in said[:_NUM_LINES]:
        task.report.row(line[:300])
    if status == 0:
        task.report.fail("the launch ended with status 0")
    if not any("rank 1" in line for line in said):
        task.report.fail(f"no line names rank 1, which got {number.name}")


def _wait_for_metrics(path: Path, launched: "subprocess.Popen[bytes]", limit_s: float) -> None:
    """Returns when a run has written its second evaluation."""
    deadline = time.monotonic() + limit_s
    while not path.is_file() or path.read_text().count("\n") < 2:
        if launched.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"no second evaluation within {limit_s:g} s (status {launched.poll()})")
        time.sleep(0.1)
