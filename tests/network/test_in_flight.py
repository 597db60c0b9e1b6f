"""Several rounds in flight between real processes, with nodes that are spread unevenly."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from simulator.world import World
from tests.network import on_processes

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What all cases on several processes have written, started once; the one that loses a process is the last."""
    folder = tmp_path_factory.mktemp("cases")
    command = [sys.executable, "-W", "error", "-m", "tests.network.on_processes", str(folder)]
    command += ["works:2", "works:3", "silent:2", "lost:2"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    return folder


def reports_of(case, folder):
    return [json.loads(path.read_text()) for path in sorted((folder / case).glob("rank_*.json"))]


@pytest.fixture(scope="module", params=[1, 2, 3])
def reports(request, folder):
    if request.param == 1:
        return [on_processes.CASES["works"](folder, World())]
    reports = reports_of(f"works:{request.param}", folder)
    assert len(reports) == request.param
    return reports


@pytest.mark.parametrize(("case", "num_orders"), [("two", 2), ("three", 6)])
def test_finished_in_any_order_rounds_give_the_same_bits(case, num_orders, reports):
    for report in reports:
        assert len(report[case]["equal"]) == num_orders
        assert all(map(all, report[case]["equal"]))
        assert report[case]["same_ledger"]
        assert report[case]["same_wire_bytes"]


def test_other_operations_run_while_rounds_are_in_flight(reports):
    for report in reports:
        assert len(report["beside"]["equal"]) == 12
        assert all(report["beside"]["equal"])


def test_buffers_are_reused_from_round_to_round(reports):
    for report in reports if len(reports) > 1 else []:
        kept, changing = report["pool"]["kept"], report["pool"]["changing"]
        assert kept[-1]
        assert kept[-1] == kept[1], "the same buffers at the same addresses"
        # Two rounds, each with at most one receive and one send per peer.
        assert 0 < len(changing[-1]) <= 4 * (len(reports) - 1)
        row_bytes = 5 * 8 + 4 + 6 * 8
        assert all(num_bytes <= on_processes.NUM_NODES * row_bytes for num_bytes, _ in changing[-1])


def test_a_silent_process_is_named_when_two_rounds_are_in_flight(folder):
    (report,) = [report for report in reports_of("silent:2", folder) if report]
    assert report["error"] == "SilentProcessError"
    assert report["peer"] == 1
    assert re.fullmatch(
        r"round 1: rank 0 waited 5 s to receive the rows of 2 nodes \(such as edge [36] -> [02]\) from rank 1",
        report["text"],
    )


def test_a_lost_process_is_named_when_two_rounds_are_in_flight(folder):
    (report,) = reports_of("lost:2", folder)
    assert report["error"] == "LostProcessError"
    assert report["peer"] == 1
    assert re.match(r"round [01]: rank 0 lost rank 1, which hosts nodes 3\.\.6 \(", report["text"])
