"""Freed memory stays with the process: page faults of arrays that are made again and again, counted by the kernel."""

import subprocess
import sys

import pytest

COUNT_FAULTS = """
import resource, sys
import numpy as np
from simulator.memory import keep_memory

kept = keep_memory() if sys.argv[1] == "kept" else True
for turn in range(6):
    if turn == 1:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(8_000_000)  # 64 MB
after = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
print(after - before if kept else "unknown")
"""


def faults(how):
    command = [sys.executable, "-c", COUNT_FAULTS, how]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.strip()


def test_memory_that_was_freed_costs_no_page_faults_when_it_is_used_again():
    kept = faults("kept")
    if kept == "unknown":
        pytest.skip("this C library has no mallopt")
    assert int(kept) < 20
    assert int(faults("given back")) > 10 * max(int(kept), 1)
