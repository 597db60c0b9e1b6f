"""Two machines with addresses of their own, as docs/howto/several_machines.md starts them."""

import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import RANKS, SMALL, Command, Start, assert_same_run, records, wait_for_lines

from scripts.two_machines import ADDRESSES, TwoMachines

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(TwoMachines.unavailable()), reason=TwoMachines.unavailable() or "available"),
]
TIMEOUT_S = 20


@pytest.fixture
def machines(request: pytest.FixtureRequest) -> Iterator[TwoMachines]:
    with TwoMachines(*getattr(request, "param", ())) as made:
        yield made


def start_both(start: Start, machines: TwoMachines, *overrides: str) -> list[Command]:
    return [start(command=machines.torchrun(machine, 1, ["launch.py", *overrides])) for machine in range(2)]


@pytest.mark.parametrize("machines", [(0.02, 0.01)], indirect=True)
def test_packets_that_are_late_or_lost_change_nothing(
    start: Start, machines: TwoMachines, short_run: Path, tmp_path: Path
):
    for machine in start_both(start, machines, *SMALL, f"hydra.run.dir={tmp_path / 'run'}"):
        ended = machine.wait()
        assert (ended.status, ended.complaints) == (0, []), ended
    assert_same_run(tmp_path / "run", short_run)
    assert records(tmp_path / "run")[-1]["comm/wire_bytes"] > 0
    assert [path.name for path in tmp_path.glob("**/launch.log")] == ["launch.log"]


def test_a_cut_link_ends_both_and_the_run_resumes(start: Start, machines: TwoMachines, ranks_run: Path, tmp_path: Path):
    cut, folder = tmp_path / "cut", tmp_path / "run"
    both = start_both(start, machines, *SMALL, *RANKS, f"timeout_s={TIMEOUT_S}", f"hydra.run.dir={cut}")
    wait_for_lines(both[0], cut, 8)
    machines.cut()
    began = time.monotonic()
    ended = [machine.wait() for machine in both]
    assert time.monotonic() - began < 5 * TIMEOUT_S  # some seconds for the reports, and more on a busy machine
    assert [each.status for each in ended] == [1, 1], ended
    for rank, each in enumerate(ended):
        (line,) = each.complaints
        # The cut may come while messages of a round travel, or numbers of an evaluation.
        assert re.match(rf"hypergossip: rank {1 - rank} does not answer: (round \d+|rank {rank} )", line), line
        assert f"rank {rank} waited {TIMEOUT_S} s " in line
        assert ("->" in line) == ("answer: round" in line)
    machines.mend()
    for machine in start_both(start, machines, f"resume={cut}", f"hydra.run.dir={folder}"):
        assert machine.wait().status == 0
    assert_same_run(folder, ranks_run)


def test_a_rank_0_on_another_machine_finds_its_run(
    start: Start, machines: TwoMachines, ranks_run: Path, tmp_path: Path
):
    """The second machine, where torchrun's processes meet, goes on alone."""
    elastic = ["--nnodes", "1:2", "--nproc-per-node", "1", "--max-restarts", "2", "--rdzv-backend", "c10d"]
    elastic += ["--rdzv-id", "a", "--rdzv-endpoint", f"{ADDRESSES[1]}:29600"]
    conf = "last_call_timeout=3,keep_alive_interval=1,keep_alive_max_attempt=3"
    words = ["launch.py", *SMALL, *RANKS, f"timeout_s={TIMEOUT_S}", f"hydra.sweep.dir={tmp_path / 'unused'}"]
    words += [f"hydra.run.dir={tmp_path}/runs/${{now:%H-%M-%S-%f}}"]
    both = []
    for machine in (1, 0):
        options = [*elastic, "--rdzv-conf", f"{conf},is_host={machine}", "--local-addr", ADDRESSES[machine]]
        both.append(start(command=machines.torchrun_with(machine, options, words)))
    deadline = time.monotonic() + 120
    while sum(len(records(path.parent)) for path in tmp_path.glob("runs/*/metrics.jsonl")) < 8:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    first, second = both[1], both[0]
    for pid in [*first.left_behind(), first.process.pid]:
        os.kill(pid, signal.SIGKILL)
    ended = second.wait()
    assert ended.status == 0, ended
    (folder,) = (tmp_path / "runs").iterdir()
    assert_same_run(folder, ranks_run)
