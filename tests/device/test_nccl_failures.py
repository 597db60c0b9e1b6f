"""Three processes under NCCL's rules of which one stops or fails: what is said, by how many, and when."""

import os
import re
import subprocess
import sys

import pytest

from tests.device.test_device import ROOT

TIMEOUT_S = 3.0
EDGE = (
    r"round [34]: rank [02] waited 3 s to receive the row of 1 node \(such as edge \d -> \d\) from rank \d, "
    r"or for its messages with rank \d"
)
LINES = {
    # The first cause is told by the others as soon as they hear of it, long before a timeout.
    "fails": (600.0, r"NaN or infinity in params of node 2"),
    "stops": (TIMEOUT_S, rf"rank 1 does not answer: {EDGE}"),
    # The processes that wait do not come back, so the first of them says what it knows and ends.
    "stops-hanging": (TIMEOUT_S, EDGE),
}


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """The lines on standard error by way."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "tests.device.failing_on_processes"),
            *(f"{way}={timeout_s}" for way, (timeout_s, _) in LINES.items()),
        ],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": str(tmp_path_factory.mktemp("cache"))},
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        timeout=240,
    )
    parts = [part.splitlines() for part in done.stderr.split("WAY ")[1:]]
    assert [part[0] for part in parts] == list(LINES), done.stderr
    return {part[0]: part[1:] for part in parts}


@pytest.mark.slow
@pytest.mark.parametrize("way", LINES)
def test_one_line_says_why_and_in_time(way, told):
    timeout_s, line = LINES[way]
    complaints = [text for text in told[way] if text.startswith("hypergossip:")]
    assert len(complaints) == 1, told[way]
    assert re.fullmatch(f"hypergossip: {line}", complaints[0])
    moments = dict(text.split() for text in told[way] if text.startswith(("BEGAN", "ENDED")))
    seconds = float(moments["ENDED"]) - float(moments["BEGAN"])
    earliest = 0.0 if way == "fails" else timeout_s - 1.0
    assert earliest < seconds < TIMEOUT_S + 25.0  # of a busy machine
