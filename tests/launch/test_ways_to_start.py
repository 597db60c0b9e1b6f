"""However a run is started, it is the same run: numbers, bytes, one folder, one log."""

import json
import math
from pathlib import Path

import pytest
from commands import Start, assert_same_run, free_port, records

pytestmark = pytest.mark.slow

METRICS = (
    *("step", "train/loss", "test/accuracy", "test/accuracy_p10", "outer/loss", "consensus_distance"),
    *("hypergradient/norm", "comm/bytes", "comm/messages", "comm/wire_bytes", "time/wall_s", "time/sim_s"),
    "throughput/node_steps_per_s",
)


def test_the_folder_of_a_run(short_run: Path):
    names = {path.name for path in short_run.iterdir()}
    files = {".hydra", "config.yaml", "environment.json", "launch.log", "metrics.jsonl", "summary.json", "checkpoint"}
    assert files <= names
    assert (short_run / ".hydra" / "overrides.yaml").is_file()
    summary = json.loads((short_run / "summary.json").read_text())
    assert set(METRICS) <= set(summary)
    assert all(math.isfinite(summary[name]) for name in METRICS)
    assert summary["step"] == 12
    assert len(summary["test/accuracy_per_node"]) == 5
    assert (
        sum(summary["comm/bytes_sent_per_node"])
        == summary["comm/bytes"]
        == sum(summary["comm/bytes_received_per_node"])
    )
    assert summary["comm/wire_bytes"] == 0
    last = records(short_run)[-1]
    assert all(summary[name] == last[name] for name in METRICS)
    assert [record["step"] for record in records(short_run)] == [0, 4, 8, 12]
    environment = json.loads((short_run / "environment.json").read_text())
    assert environment["world_size"] == 1
    assert {"git_commit", "python", "torch", "arguments", "host", "compute_choices"} <= set(environment)
    assert "num_nodes=5" in environment["arguments"]


def test_nothing_slow_is_imported_that_the_run_does_not_need(short_run: Path):
    lines = (short_run.parent / "output" / "0.err").read_text().splitlines()
    imported = {line.rpartition("|")[2].strip() for line in lines if line.startswith("import time:")}
    assert "torch" in imported
    slow = ("torch._dynamo", "torch._inductor", "torchvision", "sklearn", "cvxpy", "networkx", "matplotlib", "wandb")
    slow += ("pandas", "PIL", "sympy")
    assert not {name for name in imported for package in slow if name == package or name.startswith(f"{package}.")}


def test_torchrun_without_options_is_one_process(start: Start, short_run: Path, tmp_path: Path):
    # Only the port differs from what a user types: other tests may run on this machine.
    folder = tmp_path / "run"
    command = start(f"hydra.run.dir={folder}", torchrun=" ", environ={"PET_MASTER_PORT": str(free_port())})
    ended = command.wait()
    assert ended.status == 0, ended
    assert not ended.complaints
    assert_same_run(folder, short_run, bitwise=True)
    assert not command.left_behind()


@pytest.mark.parametrize("way", ["torchrun", "local"])
def test_three_ranks_give_the_numbers_of_one_process(way: str, start: Start, short_run: Path, tmp_path: Path):
    folder = tmp_path / "runs" / "run"
    if way == "torchrun":
        command = start(f"hydra.run.dir={folder}", ranks=3)
    else:
        command = start(f"hydra.run.dir={folder}", "launcher.num_processes=3")
    ended = command.wait()
    assert ended.status == 0, ended
    assert not ended.complaints
    assert "Traceback" not in ended.err
    assert_same_run(folder, short_run)
    assert records(folder)[-1]["comm/wire_bytes"] > 0
    assert [path.name for path in folder.parent.iterdir()] == ["run"]
    assert [path.name for path in folder.glob("**/*.log")] == ["launch.log"]
    assert (folder / "launch.log").read_text().count("finished") == 1
    assert json.loads((folder / "environment.json").read_text())["world_size"] == 3
    assert not command.left_behind()


# What is swept, which job fails, and what its line says.
SWEEPS = {
    "torchrun": (["algorithm.lr=0.1,1e30,0.1", "dtype=float32"], 1, "NaN or infinity in params of node"),
    "local": (["partition.min_samples=100000,1", "launcher.num_processes=2"], 0, "min_samples"),
    # Two processes are forked after a job on one has computed gradients.
    "one and two": (["launcher.num_processes=1,9,2"], 1, "9 processes for num_nodes=5"),
}


@pytest.mark.parametrize("way", SWEEPS)
def test_a_sweep_goes_on_after_jobs_that_fail(way: str, start: Start, short_run: Path, tmp_path: Path):
    folder = tmp_path / "sweep"
    sweep, failed, reason = SWEEPS[way]
    command = start(f"hydra.sweep.dir={folder}", *sweep, ranks=2 if way == "torchrun" else None, arguments="-m")
    ended = command.wait()
    assert ended.status == 1, ended
    assert len(ended.complaints) == 1, ended.err
    assert "Error executing" not in ended.err
    line = ended.complaints[0].removeprefix("hypergossip: ")
    assert line.startswith(f"job {failed} (")
    assert reason in line
    assert line not in ended.out
    if way == "torchrun":
        assert line in (folder / str(failed) / "launch.log").read_text()
        assert not (folder / str(failed) / "summary.json").exists()
    else:
        assert not (folder / str(failed)).exists()  # rejected before its first step
    finished = [str(job) for job in range(3 if failed == 1 else 2) if job != failed]
    for name in finished:
        assert (folder / name / "summary.json").is_file(), name
    if way == "torchrun":
        assert "after step" in line
        assert records(folder / "0")[-1]["train/loss"] == records(folder / "2")[-1]["train/loss"]
    if way == "one and two":
        for name in finished:
            assert_same_run(folder / name, short_run, bitwise=name == "0")
    assert not command.left_behind()
