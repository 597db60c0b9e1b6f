"""The comparison with peers: the protocol of its programs, and what it says of their times."""

import io
import json
import sys
from pathlib import Path

import pytest

from scripts import benchmark_peers
from scripts.benchmark_peers import OWN, PEERS, Program, compare
from scripts.peers.serve import serve

PEER = next(iter(PEERS))


class Fake:
    """A program that takes so many seconds of processor time a step, twice as many of wall time."""

    version = "1.2.3"

    def __init__(self, cpu_s):
        self.cpu_s, self.asked = cpu_s, []

    def steps(self, number):
        self.asked.append(number)
        return {"cpu_s": number * self.cpu_s, "wall_s": 2 * number * self.cpu_s}


@pytest.mark.parametrize(("peer_s", "verdict"), [(0.04, "4.00x (target 3x: met)"), (0.02, "2.00x (target 3x: MISSED)")])
def test_ratios_are_of_processor_time_in_turn(peer_s, verdict, capsys):
    programs = {OWN: Fake(0.01), "by hand": Fake(0.015), PEER: Fake(peer_s)}
    ratios = compare(programs, num_nodes=5, steps=8, windows=3)
    assert ratios == pytest.approx({OWN: 1.0, "by hand": 1.5, PEER: peer_s / 0.01})
    assert {name: program.asked for name, program in programs.items()} == {name: [8] * 4 for name in programs}
    own, by_hand, peer = capsys.readouterr().out.splitlines()
    assert "500 node-steps/CPU-s" in own
    assert "10.00 ms CPU" in own
    assert "20.00 ms wall" in own
    assert by_hand.endswith("ours is 1.50x")
    assert peer.endswith(verdict)
    assert "1.2.3" in peer


def test_a_program_answers_every_line_and_keeps_other_output_apart(monkeypatch, capsys):
    done = []
    monkeypatch.setattr(sys, "stdin", io.StringIO("3\n5\n"))
    answers = sys.stdout

    def run(steps):
        print("a library says something")
        done.append(steps)

    try:
        serve("0.9", run)
    finally:
        sys.stdout = answers
    written = capsys.readouterr()
    version, *times = map(json.loads, written.out.splitlines())
    assert version == {"version": "0.9"}
    assert done == [3, 5]
    assert all(set(answer) == {"wall_s", "cpu_s"} for answer in times)
    assert len(times) == 2
    assert written.err.count("a library says something") == 2


def test_a_program_that_ends_is_named_with_its_command():
    with pytest.raises(RuntimeError, match=r"-m scripts\.peers\.missing 16 ended \(status 1\)"):
        Program(Path(sys.executable), "scripts.peers.missing", "16")


def test_a_silent_program_is_given_up(tmp_path):
    with pytest.raises(RuntimeError, match=r"was silent for 0\.5 s"):
        Program(Path(sys.executable), "timeit", "-n1", "-r1", "import time; time.sleep(60)", timeout_s=0.5)


def test_the_environment_of_a_peer_is_in_the_folder_that_was_given(tmp_path, monkeypatch, capsys):
    commands = []
    monkeypatch.setattr(benchmark_peers.subprocess, "run", lambda command, check: commands.append(command))
    benchmark_peers.install(PEER, tmp_path / "peers")
    venv, pip = commands
    assert venv == ["uv", "venv", "--python", f">={PEERS[PEER].python}", str(tmp_path / "peers" / PEER)]
    assert pip[:5] == ["uv", "pip", "install", "--python", str(tmp_path / "peers" / PEER / "bin" / "python")]
    assert tuple(pip[5:]) == PEERS[PEER].packages
