"""Runs that diverge while all numbers are finite: said once, and never of a run that learns."""

import json
import logging

import pytest

from simulator.divergence import Divergence
from simulator.job import Job, run_job
from simulator.metrics import Evaluation
from simulator.processes import World
from tests.conftest import compose_settings

ITERATES = "the root mean square of the parameters"


def described(*evaluations):
    """What is said of each evaluation, given as (loss, root mean square of the parameters)."""
    divergence = Divergence()
    return [
        divergence.describe(Evaluation({} if loss is None else {"test/loss": loss}, {}, {ITERATES: rms}))
        for loss, rms in evaluations
    ]


@pytest.mark.parametrize(
    "evaluations",
    [
        [(2.3, 0.1), (0.1, 0.3), (9.0, 0.5)],  # overfitting
        [(2.3, 0.1), (40.0, 2.0), (220.0, 3.0)],  # a large rate: oscillations of bounded size
        [(-3.0, 0.0), (-1e4, 50.0)],  # an objective without a sign
        [(1e-9, 0.0), (5.0, 1.0)],  # started at the solution
        [(1e7, 0.0), (1e3, 5e3)],  # a solution far from the start
        [(float("nan"), 1.0), (2.0, 1.0)],  # a loss that is not known at first
    ],
)
def test_runs_that_do_not_diverge(evaluations):
    assert described(*evaluations) == [None] * len(evaluations)


@pytest.mark.parametrize(
    ("evaluations", "said"),
    [
        ([(0.0, 0.0), (50.0, 1.0), (101.0, 1.0)], "test/loss has grown from 0 to 101"),
        ([(25.9, 1.0), (2580.0, 1.0), (2600.0, 1.0)], "test/loss has grown from 25.9 to 2.6e+03"),
        ([(2.3, 0.1), (2.3, 99.0), (2.4, 101.0)], f"{ITERATES} has grown from 0.1 to 101"),
        ([(None, 3.0), (None, 290.0), (None, 310.0)], f"{ITERATES} has grown from 3 to 310"),
        ([(float("nan"), 1.0), (2.0, 1.0), (float("inf"), 1.0)], "test/loss has grown from 2 to inf"),
    ],
)
def test_runs_that_diverge(evaluations, said):
    assert described(*evaluations) == [None, None, said]


def finished(folder, *overrides):
    """The summary of a short run."""
    settings = ("figures=false", "checkpoint.every=0", "num_threads=1", "device=cpu", "compute=vmap")
    run_job(Job(compose_settings(*overrides, *settings), str(folder)), World(), None)
    return json.loads((folder / "summary.json").read_text())


def test_a_diverging_run_says_so_once_in_the_log_and_in_the_summary(tmp_path, caplog):
    """Compressed residuals on links that are seldom there, with a consensus step for links that are always there."""
    caplog.set_level(logging.WARNING)
    diverges = ("experiment=bilevel_quadratic", "graph=random_matching", "algorithm.inner_steps=4")
    assert finished(tmp_path / "run", *diverges, "num_steps=100", "eval_every=20")["diverged"] is True
    (line,) = [record.getMessage() for record in caplog.records if "diverges" in record.getMessage()]
    assert line.startswith("diverges: outer/loss has grown from 25.9 to ")
    assert "by step" in line


def test_a_converging_run_says_nothing(tmp_path, caplog):
    caplog.set_level(logging.WARNING)
    assert "diverged" not in finished(
        tmp_path / "run", "experiment=bilevel_quadratic", "algorithm.inner_steps=4", "num_steps=40"
    )
    assert not [record for record in caplog.records if "diverges" in record.getMessage()]
