"""torchrun without its report, given the failures that it reports."""

import os

import pytest
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

from simulator.torchrun import main


def failing(*statuses):
    def run(arguments):
        raise ChildFailedError(
            "launch.py", {rank: ProcessFailure(rank, 1, status, "") for rank, status in enumerate(statuses)}
        )

    return run


@pytest.fixture(autouse=True)
def _same_environment(monkeypatch):
    monkeypatch.setattr(os, "environ", dict(os.environ))


@pytest.mark.parametrize(
    ("statuses", "status", "line"),
    [
        ((1, 1), 1, ""),
        ((1, -15), 1, ""),  # one has said why, and torchrun ended the other
        ((130, 130), 130, ""),
        ((-9, -15), 1, "hypergossip: ended: local rank 0 with status -9, local rank 1 with status -15\n"),
    ],
)
def test_what_a_rank_has_told_is_not_told_again(statuses, status, line, capsys):
    assert main(["launch.py"], failing(*statuses)) == status
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", line)


def test_arguments_and_signals_are_passed_on():
    received = []
    assert main(["--nnodes", "2"], received.extend) == 0
    assert received == ["--nnodes", "2"]
    assert os.environ["OMP_NUM_THREADS"]

    def run(arguments):
        import signal

        raise SignalException("got a signal", signal.SIGTERM)

    assert main([], run) == 143
