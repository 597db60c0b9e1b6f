"""Runs that diverge while all numbers are finite: said once, and never of a run that learns."""

import json
import logging
import shutil

import pytest

from simulator.divergence import Divergence
from simulator.job import Job, run_job
from simulator.metrics import Evaluation
from simulator.processes import World
from tests.conftest import compose_settings

ITERATES = "the root mean square of the parameters"


def evaluation(loss, rms, **later):
    losses = {} if loss is None else {"test/loss": loss}
    return Evaluation({**losses, **{f"{name}/loss": value for name, value in later.items()}}, {}, {ITERATES: rms})


def described(*evaluations):
    """What is said of each evaluation, given as (loss, root mean square of the parameters)."""
    divergence = Divergence()
    return [divergence.look(evaluation(*values)) for values in evaluations]


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


def test_it_is_said_once_and_stays_so_unless_the_run_learns_after_all():
    divergence = Divergence()
    assert divergence.look(evaluation(2.3, 0.1)) is None
    assert not divergence.has_diverged
    assert divergence.look(evaluation(900.0, 50.0)) is not None
    assert divergence.look(evaluation(1000.0, 60.0)) is None
    assert divergence.has_diverged
    assert divergence.look(evaluation(3.5, 60.0)) is None  # back within bounds, but it has learned nothing
    assert divergence.has_diverged
    again = Divergence(json.loads(json.dumps(divergence.state_dict())))  # resumed
    assert again.has_diverged
    assert again.look(evaluation(3.4, 60.0)) is None
    assert again.has_diverged
    assert again.look(evaluation(1.9, 60.0)) is None
    assert not again.has_diverged


def test_a_loss_that_begins_when_the_run_has_blown_up_does_not_say_that_it_learns():
    """Losses of the mean iterate are not evaluated before the first step."""
    divergence = Divergence()
    assert divergence.look(evaluation(25.9, 0.0)) is None
    assert divergence.look(evaluation(600.0, 50.0, mean=460.0)) is None
    assert divergence.look(evaluation(500.0, 1e9, mean=310.0)) == f"{ITERATES} has grown from 0 to 1e+09"


def test_a_loss_that_has_barely_fallen_does_not_hide_iterates_that_have_blown_up():
    """A network whose hidden units have all died predicts the frequencies of the classes."""
    assert described((2.33, 0.07), (2.30, 7e4)) == [None, f"{ITERATES} has grown from 0.07 to 7e+04"]
    assert described((2.33, 0.07), (2.30, float("nan"))) == [None, f"{ITERATES} has grown from 0.07 to nan"]


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


def test_an_inner_level_that_blows_up_behind_a_bounded_outer_one_is_noticed(tmp_path, caplog):
    """The bound on the adjoint variable keeps x near the start, and with it every loss; y has no bound."""
    diverges = ("experiment=bilevel_quadratic", "algorithm=sldbo", "compressor=none", "algorithm.inner_lr=3")
    assert finished(tmp_path / "run", *diverges, "num_steps=20", "eval_every=5")["diverged"] is True
    assert len([record for record in caplog.records if "diverges" in record.getMessage()]) == 1


def test_a_run_that_blew_up_before_it_was_resumed_is_still_known_to_have(tmp_path, caplog):
    settings = (
        *("experiment=topology_training", "algorithm.lr=100", "problem.batch_size=32", "eval_every=5"),
        *("figures=false", "num_threads=1", "device=cpu", "compute=vmap"),
    )
    run_job(Job(compose_settings(*settings, "num_steps=5", "checkpoint.every=5"), str(tmp_path / "run")), World(), None)
    shutil.copytree(tmp_path / "run", tmp_path / "earlier")
    caplog.clear()
    job = Job(
        compose_settings(*settings, "num_steps=10", "checkpoint.every=5"),
        str(tmp_path / "run"),
        str(tmp_path / "earlier"),
    )
    run_job(job, World(), None)
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["diverged"] is True


def test_a_converging_run_says_nothing(tmp_path, caplog):
    caplog.set_level(logging.WARNING)
    assert "diverged" not in finished(
        tmp_path / "run", "experiment=bilevel_quadratic", "algorithm.inner_steps=4", "num_steps=40"
    )
    assert not [record for record in caplog.records if "diverges" in record.getMessage()]
