"""Runs that are stopped, killed or hang, and what becomes of them afterwards."""

import json
import os
import re
import signal
import time
from pathlib import Path

import pytest
from commands import (
    LONG,
    RANKS,
    SMALL,
    Command,
    Ended,
    Start,
    assert_same_run,
    records,
    timeless,
    wait_for,
    wait_for_lines,
)

import simulator

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]

NEVER = ("num_steps=1000000", "eval_every=50", "algorithm.inner_steps=500", "checkpoint.every=0")


def finish(command: Command) -> Ended:
    ended = command.wait()
    assert ended.status == 0, ended
    assert not ended.complaints
    return ended


def assert_says_how_to_resume(ended: Ended, folder: Path, name: str) -> int:
    """Returns the step after which the run was stopped."""
    found = re.search(rf"stopped by {name} after step (\d+); continue with resume={folder}$", ended.out, re.M)
    assert found, ended
    assert "Traceback" not in ended.err.partition("torch/distributed")[0]
    assert not (folder / "summary.json").exists()
    return int(found[1])


def test_stopped_and_resumed_run_has_the_same_bits(start: Start, long_run: Path, tmp_path: Path):
    stopped, resumed = tmp_path / "stopped", tmp_path / "resumed"
    command = start(*LONG, f"hydra.run.dir={stopped}")
    wait_for_lines(command, stopped, 4)
    command.process.send_signal(signal.SIGTERM)
    ended = command.wait()
    assert ended.status == 130
    step = assert_says_how_to_resume(ended, stopped, "SIGTERM")
    assert 150 <= step < 1500
    before = (stopped / "metrics.jsonl").read_bytes()
    # A new folder is the default; nothing but the folder to resume has to be said.
    finish(start(f"resume={stopped}", f"hydra.run.dir={resumed}", settings=[]))
    assert_same_run(resumed, long_run, bitwise=True)
    assert (stopped / "metrics.jsonl").read_bytes() == before
    assert json.loads((resumed / "summary.json").read_text())["step"] == 1500
    # The checkpoint of the end: nothing is computed again but the last evaluation, in place, and it stays one line.
    simulator.run(resume=resumed, folder=resumed)
    assert_same_run(resumed, long_run, bitwise=True)


def test_a_finished_run_goes_on_to_more_steps(tmp_path: Path):
    whole, first, longer = tmp_path / "whole", tmp_path / "first", tmp_path / "longer"
    simulator.run(*SMALL, "num_steps=18", "eval_every=5", folder=whole)
    simulator.run(*SMALL, "num_steps=10", "eval_every=5", folder=first)
    simulator.run(resume=first, num_steps=18, folder=longer)
    assert [record["step"] for record in records(whole)] == [0, 4, 5, 8, 10, 12, 15, 16, 18]
    assert_same_run(longer, whole, bitwise=True)


def test_control_c_on_local_ranks_and_the_same_bits_on_as_many(start: Start, tmp_path: Path):
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    finish(start(*RANKS, "launcher.num_processes=2", f"hydra.run.dir={whole}"))
    command = start(*RANKS, "launcher.num_processes=2", f"hydra.run.dir={stopped}")
    wait_for_lines(command, stopped, 4)
    # A terminal tells the whole group of processes; ranks are outside it and hear of it once, from their parent.
    assert all(os.getpgid(rank) != command.process.pid for rank in command.ranks(2))
    os.killpg(command.process.pid, signal.SIGINT)
    ended = command.wait()
    assert ended.status == 130
    assert_says_how_to_resume(ended, stopped, "SIGINT")
    assert not command.left_behind()
    finish(start(f"resume={stopped}", f"hydra.run.dir={stopped}", "launcher.num_processes=2", settings=[]))
    assert_same_run(stopped, whole, bitwise=True)


def test_sigterm_to_torchrun_and_resumed_in_one_process(start: Start, ranks_run: Path, tmp_path: Path):
    stopped = tmp_path / "stopped"
    command = start(*RANKS, f"hydra.run.dir={stopped}", ranks=2)
    wait_for_lines(command, stopped, 4)
    command.process.send_signal(signal.SIGTERM)
    ended = command.wait()
    assert ended.status != 0
    assert_says_how_to_resume(ended, stopped, "SIGTERM")
    assert not command.left_behind()
    simulator.run(resume=stopped, folder=stopped)
    assert_same_run(stopped, ranks_run)


@pytest.mark.parametrize(("way", "victim"), [("local", 1), ("torchrun", 2), ("torchrun", 0)])
def test_a_killed_rank_ends_the_run_and_is_named(way: str, victim: int, start: Start, ranks_run: Path, tmp_path: Path):
    folder, num_ranks = tmp_path / "run", 2 if victim == 0 else 3
    if way == "local":
        command = start(*RANKS, f"hydra.run.dir={folder}", "launcher.num_processes=3")
    else:
        command = start(*RANKS, f"hydra.run.dir={folder}", ranks=num_ranks)
    ranks = command.ranks(num_ranks)
    wait_for(lambda: (folder / "checkpoint" / "latest").is_file(), command)
    os.kill(ranks[victim], signal.SIGKILL)
    killed_at = time.monotonic()
    ended = command.wait(90)
    assert time.monotonic() - killed_at < 60  # not the 300 s that a message may take
    assert ended.status != 0
    assert len(ended.complaints) == 1, ended.err
    verb = "was killed by SIGKILL" if way == "local" else "died: "
    assert ended.complaints[0].startswith(f"hypergossip: rank {victim} {verb}")
    assert not command.left_behind()
    if way == "local":
        finish(start(f"resume={folder}", "launcher.num_processes=2", f"hydra.run.dir={folder}", settings=[]))
        assert_same_run(folder, ranks_run)


def test_a_rank_that_does_not_answer_is_named(start: Start, tmp_path: Path):
    folder = tmp_path / "run"
    command = start(*NEVER, "timeout_s=5", f"hydra.run.dir={folder}", "launcher.num_processes=3")
    ranks = command.ranks(3)
    wait_for_lines(command, folder, 2)
    os.kill(ranks[1], signal.SIGSTOP)
    stopped_at = time.monotonic()
    ended = command.wait(90)
    assert 4 < time.monotonic() - stopped_at < 60
    assert ended.status == 1
    assert len(ended.complaints) == 1, ended.err
    line = ended.complaints[0]
    assert re.match(
        r"hypergossip: rank 1 does not answer: (round \d+: rank [02] waited 5 s to "
        r"(receive the rows? of \d nodes? \(such as edge [12] -> \d\) from"
        r"|send the rows? of \d nodes? \(such as edge \d -> [12]\) to) rank 1"
        r"|rank [02] waited 5 s for all processes to agree)",
        line,
    )
    assert not command.left_behind()


def test_torchrun_restarts_a_sweep_where_it_was(start: Start, ranks_run: Path, tmp_path: Path):
    folder = tmp_path / "sweep"
    command = start(
        *RANKS, "num_steps=100,400", f"hydra.sweep.dir={folder}", ranks=2, torchrun="--max-restarts 1", arguments="-m"
    )
    ranks = command.ranks(2)
    wait_for(lambda: (folder / "1" / "checkpoint" / "latest").is_file(), command)
    finished = (folder / "0" / "summary.json").stat().st_mtime_ns
    os.kill(ranks[1], signal.SIGKILL)
    ended = command.wait()
    assert ended.status == 0, ended
    assert "resumed after step" in (folder / "1" / "launch.log").read_text()
    assert (folder / "0" / "summary.json").stat().st_mtime_ns == finished
    assert sorted(path.name for path in folder.iterdir() if path.is_dir()) == ["0", "1"]
    assert_same_run(folder / "1", ranks_run)
    assert [timeless(record)["step"] for record in records(folder / "0")] == list(range(0, 101, 20))
