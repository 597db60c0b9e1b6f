"""A study from its command to its tables: stopped and resumed, in one process or several."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from scripts.study import main

ROOT = Path(__file__).parents[2]
TINY = Path(__file__).parent / "tiny.yaml"

pytestmark = pytest.mark.slow


def start(folder, *words):
    return subprocess.Popen(
        [sys.executable, str(ROOT / "scripts" / "study.py"), str(TINY), "--output", str(folder), *words],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def outcomes(folder):
    """When runs have ended that are not tried again."""
    ended = [path for path in folder.rglob("outcome.json") if json.loads(path.read_text())["state"] != "refused"]
    return {path: path.stat().st_mtime_ns for path in ended}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    process = start(folder, "--jobs", "2")
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    return folder, out


def test_overrides_may_stand_behind_options(tmp_path, capsys):
    assert main([str(TINY), "--output", str(tmp_path), "problem.dim=3", "--dry-run"]) == 0
    assert f"25 runs in {tmp_path}" in capsys.readouterr().out


def table(folder):
    return pd.read_csv(folder / "tables.csv").drop(columns="time/wall_s")


def test_everything_is_written(whole):
    folder, out = whole
    assert "| D-SGD | " in out
    found = table(folder)
    ring = found[found["graph"] == "ring"].set_index("method")
    assert ring["lost_trials"].to_dict() == {"D-SGD": 1, "SGP": 0, "tracking": 1}
    # The budget is used up and not exceeded by more than a step; equal calls are runs, not interpolations.
    assert set(ring["oracle/gradients"]) == {10.0}
    assert ring.loc["tracking", "step"] == 9
    assert ring["is_best"].sum() == 1
    text = (folder / "tables.md").read_text()
    assert "trial algorithm.lr=100.0 seed=7: diverged" in text
    assert "D-SGD on quadratic, directed, 10 calls: algorithm=dsgd needs doubly stochastic weights" in text
    figures = {path.suffix for path in (folder / "figures").iterdir()}
    assert figures == {".png", ".pdf"}
    checklist = (folder / "checklist.md").read_text()
    assert "Every method has 3 trials in every case, with seed 7" in checklist
    assert "| D-SGD | algorithm.lr | 0.02, 0.1, 100.0 |" in checklist
    assert "23 runs: 15 for tuning, 8 that are reported" in checklist
    assert len(outcomes(folder)) == 20


def stop(folder, number, after):
    """Starts the study and stops it once there are so many outcomes; returns the process and its last words."""
    process = start(folder, "--jobs", "1")
    until = time.monotonic() + 120
    while len(outcomes(folder)) < after and process.poll() is None and time.monotonic() < until:
        time.sleep(0.02)
    process.send_signal(number)
    return process, process.communicate(timeout=60)[1]


def test_a_stopped_study_goes_on_and_gives_the_same_tables(whole, tmp_path):
    process, err = stop(tmp_path, signal.SIGINT, after=4)
    assert process.returncode == 130
    assert err.endswith("study: stopped; the same command goes on\n")
    stopped = outcomes(tmp_path)
    stop(tmp_path, signal.SIGKILL, after=15)
    killed = outcomes(tmp_path)
    assert 4 <= len(stopped) < 15 <= len(killed) < 20
    process = start(tmp_path, "--jobs", "1")
    _, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    after = outcomes(tmp_path)
    assert stopped.items() <= killed.items() <= after.items()  # what was there is not run again
    pd.testing.assert_frame_equal(table(tmp_path), table(whole[0]))
    tables = [(folder / "tables.md").read_text().partition("Made by")[0] for folder in (tmp_path, whole[0])]
    assert tables[0] == tables[1]


def test_bad_input_is_one_line(tmp_path, capsys):
    assert main([str(TINY), "--output", str(tmp_path), "--jobs", "0"]) == 1
    assert capsys.readouterr().err == "study: --jobs 0: expected at least 1\n"
