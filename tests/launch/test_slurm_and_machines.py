"""Ranks that SLURM starts one by one, and torchrun on several machines."""

import signal
import time
from pathlib import Path

import pytest
from commands import Command, Start, assert_same_run, free_port

pytestmark = pytest.mark.slow


def slurm(start: Start, rank: int, port: int, *overrides: str) -> Command:
    variables = {
        "SLURM_PROCID": str(rank),
        "SLURM_NTASKS": "2",
        "SLURM_LOCALID": str(rank),
        "SLURM_NODEID": "0",
        "SLURM_TASKS_PER_NODE": "2",
        "SLURM_JOB_ID": "1234",
        "SLURM_STEP_ID": "0",
        "SLURM_STEP_NUM_TASKS": "2",
        "SLURM_STEP_NODELIST": "localhost",
        "MASTER_PORT": str(port),
    }
    return start(*overrides, environ=variables)


def test_two_slurm_tasks(start: Start, short_run: Path, tmp_path: Path):
    port, folder = free_port(), tmp_path / "run"
    tasks = [slurm(start, rank, port, f"hydra.run.dir={folder}") for rank in range(2)]
    for task in tasks:
        ended = task.wait()
        assert ended.status == 0, ended
        # Rank 0, which hosts the store, goes when the other has gone; nobody complains about a lost connection.
        assert not ended.err.strip(), ended.err
    assert_same_run(folder, short_run)
    assert [path.name for path in tmp_path.glob("**/launch.log")] == ["launch.log"]


def test_slurm_tasks_end_together_after_bad_input(start: Start, tmp_path: Path):
    port = free_port()
    tasks = [slurm(start, rank, port, f"hydra.run.dir={tmp_path / 'run'}", "algorithm.lr=-1") for rank in range(2)]
    first, second = (task.wait() for task in tasks)
    assert first.status == second.status == 1
    assert first.complaints == ["hypergossip: algorithm.lr=-1: expected a positive number"]
    assert not second.err.strip(), second.err


def test_rank_0_of_slurm_dies_with_the_store(start: Start, tmp_path: Path):
    port, folder = free_port(), tmp_path / "run"
    tasks = [slurm(start, rank, port, f"hydra.run.dir={folder}", "num_steps=100000") for rank in range(2)]
    deadline = time.monotonic() + 60
    while not (folder / "metrics.jsonl").is_file() or len((folder / "metrics.jsonl").read_text()) < 2000:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    tasks[0].process.send_signal(signal.SIGKILL)
    ended = tasks[1].wait(30)
    assert ended.status == 1
    assert len(ended.complaints) == 1, ended.err
    assert ended.complaints[0].startswith("hypergossip: rank 0 died: ")
    assert "Traceback" not in ended.err


def test_torchrun_on_two_machines(start: Start, short_run: Path, tmp_path: Path):
    folder = tmp_path / "run"
    options = f"--nnodes 2 --nproc-per-node 1 --rdzv-backend c10d --rdzv-endpoint localhost:{free_port()} --rdzv-id a1"
    machines = [start(f"hydra.run.dir={folder}", torchrun=options) for _ in range(2)]
    for machine in machines:
        ended = machine.wait()
        assert ended.status == 0, ended
        assert "Traceback" not in ended.err
    assert_same_run(folder, short_run)
