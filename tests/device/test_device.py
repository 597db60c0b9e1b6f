"""On a device that is not the CPU everything computes the same, and no step waits for the device beyond its budget."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from simulator.config.composition import CONF

ROOT = Path(__file__).parents[2]
ALGORITHMS = sorted(path.stem for path in (CONF / "algorithm").glob("*.yaml"))
BUDGETS = json.loads((Path(__file__).parent / "budgets.json").read_text())
"""Blocking copies and waits per step, by case; those that are not here have none."""
ON_HOST = {name: ["mail/source", "mail/step"] for name in ("async_push_sum", "divshare", "stale_gossip")}
"""Parts of states that only the host uses."""

# The first test of a worker waits for the battery over all algorithms.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """What :mod:`scripts.gpu_checks.battery` has written; started once."""
    path = tmp_path_factory.mktemp("device") / "table.json"
    done = subprocess.run(
        [sys.executable, "-m", "scripts.gpu_checks.battery", str(path), "--device", "pretended"],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(path.read_text())


def check(name, entry):
    assert "error" not in entry, f"{name}: {entry['error']}"
    assert entry["different"] == [], f"{name}: other bits than on the CPU"
    assert entry["left"] == ON_HOST.get(name, []), f"{name}: results that left the device"
    lines = "\n".join(f"{count}  {line}" for line, count in entry["lines"].items())
    assert entry["waits"] == BUDGETS.get(name, 0), f"{name}: not what budgets.json says; in all steps:\n{lines}"


@pytest.mark.parametrize("name", ALGORITHMS)
def test_algorithm(name, table):
    """The algorithm and its variants."""
    cases = {case: entry for case, entry in table["algorithms"].items() if case.partition(".")[0] == name}
    assert cases
    for case, entry in cases.items():
        check(case, entry)


@pytest.mark.parametrize("group", ["further", "compressors"])
def test_problems_executors_data_and_compressors(group, table):
    assert len(table[group]) > 15
    for case, entry in table[group].items():
        check(case, entry)


def test_faults_are_found(table):
    """They end the run at their line, but for a number that is read in a step, which is a wait."""
    misplaced, read, unordered = table["broken"].values()
    assert "MixedDevicesError: algorithms/gossip/sgp.py:" in misplaced["error"]
    assert "NotDeterministicError: " in unordered["error"]
    assert "aten.index_add.default writes to a place twice" in unordered["error"]
    assert read["waits"] == BUDGETS.get("sgp", 0) + 1


def test_budgets_are_of_cases_that_exist(table):
    assert set(BUDGETS) <= {name for entries in table.values() for name in entries}
    assert all(budget > 0 for budget in BUDGETS.values())
