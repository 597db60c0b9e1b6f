"""On two processes under NCCL's rules every way of sending gives the bits of gloo, without waits beyond the budget."""

import json
import os
import subprocess
import sys

import pytest
import torch

from scripts.gpu_checks.two_ranks import NAMES
from tests.device.nccl_rules import require
from tests.device.test_device import BUDGETS, ROOT


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_processes_under_the_rules(tmp_path):
    path = tmp_path / "table.json"
    done = subprocess.run(
        [sys.executable, "-m", "tests.device.battery_on_processes", str(path), *NAMES],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    table = json.loads(path.read_text())
    assert set(table) == set(NAMES)
    for name, entry in table.items():
        assert entry["different"] == [], f"{name}: other bits than through gloo"
        # Those that read numbers in a step wait once more for each collective.
        assert name in BUDGETS or entry["waits"] == 0, f"{name}: {entry['lines']}"


def test_the_rules_refuse_tensors_of_the_cpu():
    with pytest.raises(RuntimeError, match="No backend type associated with device type cpu"):
        require(torch.zeros(1))
