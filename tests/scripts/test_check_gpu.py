"""The check of a machine with GPUs: every line ends, says what it ran on, and finds what is wrong."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.gpu_checks import comparing, running, speed
from scripts.gpu_checks.child import Task
from scripts.gpu_checks.lines import LINES
from scripts.gpu_checks.reporting import Report, read_findings
from scripts.gpu_checks.running import marked, run_line

ROOT = Path(__file__).parents[2]
FINE = {"different": [], "distance": 0.0, "unstable": [], "waits": 0.0, "lines": {}, "left": []}
BROKEN = {"a tensor on the CPU": {"error": "mixed"}, "a number read in a step": {**FINE, "waits": 1.0}}


def task(folder, *, dry):
    return Task(Report(folder / "report.json"), folder, dry)


def found_by(line, folder, monkeypatch, cases, broken=BROKEN):
    """The failures of a line of the battery when this is the table."""
    rows = [(name, "algorithms", {**FINE, **entry}) for name, entry in cases.items()]
    rows += [(name, "broken", entry) for name, entry in broken.items()]
    monkeypatch.setattr(comparing, "entries", lambda task, options: rows)
    line(task(folder, dry=False))
    return read_findings(folder / "report.json").failures


def test_every_line_has_its_function():
    for line in LINES.values():
        module, _, function = line.function.partition(":")
        assert callable(getattr(importlib.import_module(f"scripts.gpu_checks.{module}"), function))
    on_one = sum(line.limit_s for line in LINES.values() if line.num_gpus < 2)
    assert on_one <= 630, "more than ten minutes on one GPU, when every line takes as long as it may"


def test_a_line_that_takes_too_long_is_ended_with_all_it_has_started(tmp_path, monkeypatch):
    marks = []
    monkeypatch.setattr(running.uuid, "uuid4", lambda: marks.append("mark of a test") or marks[-1])
    ended = run_line("inventory", tmp_path, ["--dry"], 0.3)
    assert ended.verdict == "TIMEOUT"
    assert ended.findings.failures == ["was ended after its limit of 0.3 s"]
    assert not marked(marks[-1])


def test_a_line_that_cannot_start_says_why(tmp_path):
    ended = run_line("capture", tmp_path, ["--no-such-option"], 60.0)
    assert ended.verdict == "FAILED"
    assert "unrecognized arguments: --no-such-option" in ended.findings.failures[0]


def test_an_error_is_a_failure_of_the_report(tmp_path):
    code = "import scripts.gpu_checks.inventory as i; i.inventory = lambda task: 1 / 0\n"
    code += "import sys; sys.argv = ['child', 'inventory', sys.argv[1], '--dry']\n"
    code += "import scripts.gpu_checks.child as child; child.main()"
    path = tmp_path / "report.json"
    subprocess.run([sys.executable, "-c", code, str(path)], cwd=ROOT, check=True, capture_output=True)
    found = read_findings(path)
    assert found.finished
    assert found.failures[0].startswith("ZeroDivisionError: division by zero at <string>:1")


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"different": ["params"], "distance": 1e-3}, "sgp: ['params'] apart by 0.001"),
        ({"unstable": ["params"]}, "sgp: a second run gives other bits of ['params']"),
        ({"error": "ValueError: x"}, "sgp: ValueError: x"),
        ({"different": ["params"], "distance": 1e-12}, None),
        ({}, None),
    ],
)
def test_the_battery_judges_values(entry, said, tmp_path, monkeypatch):
    failures = found_by(comparing.battery, tmp_path, monkeypatch, {"sgp": entry})
    assert failures == ([] if said is None else [said])


@pytest.mark.parametrize(("waits", "is_fine"), [(0.0, True), (0.25, False)])
def test_the_battery_judges_waits(waits, is_fine, tmp_path, monkeypatch):
    table = {"sgp": {"waits": waits, "lines": {"sgp.py:7": 1}}, "hgp": {"waits": 0.5}}
    failures = found_by(comparing.waits, tmp_path, monkeypatch, table)
    assert failures == ([] if is_fine else ["sgp: 0.25 waits a step, budget 0: sgp.py:7 (1)"])


def test_the_battery_notices_when_it_notices_nothing(tmp_path, monkeypatch):
    blind = dict.fromkeys(BROKEN, FINE)
    assert len(found_by(comparing.battery, tmp_path, monkeypatch, {}, blind)) == 1
    assert len(found_by(comparing.waits, tmp_path, monkeypatch, {}, blind)) == 1


@pytest.mark.slow
def test_speed_says_where_it_ran_and_its_share_of_the_bandwidth(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    speed.logistic_regression(task(tmp_path, dry=True))
    found = read_findings(tmp_path / "report.json")
    assert found.device == "CPU"
    bandwidth, row = found.rows
    expected = row["mixed"] * row["parameters"] * 28 / bandwidth["bytes_per_s"]
    assert row["share"] == pytest.approx(expected)
    assert 0 < row["share"] < 1


@pytest.mark.slow
def test_a_dry_run_prints_a_table_and_writes_it(tmp_path):
    out = tmp_path / "check.json"
    lines = ("nccl_alone", "large", "mix_rate")
    command = [sys.executable, "scripts/check_gpu.py", "--dry", "--out", str(out), "--only", *lines]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    written = json.loads(out.read_text())
    assert set(written) == {"inventory", *lines}
    for name, line in written.items():
        assert line["verdict"] == "ok", name
        assert "CPU" in line["device"], f"{name} claims {line['device']}"
        assert name in done.stdout
    assert "4 of 4 lines without a failure" in done.stdout
