"""Which of several ranks is blamed when a job fails."""

import pytest
from hydra.errors import HydraException

from simulator.errors import LostProcessError, Report, RunError, SilentProcessError, describe_error, find_cause


def test_the_rank_that_failed_by_itself_is_the_cause():
    reports = {
        0: Report.of(LostProcessError("rank 0 lost rank 2", 2)),
        1: Report.of(SilentProcessError("rank 1 waited for rank 2", 2)),
        2: Report.of(FloatingPointError("NaN in params of node 4")),
    }
    cause = find_cause(reports, set())
    assert cause.text == "NaN in params of node 4"
    assert isinstance(cause.as_error(), RunError)
    assert type(find_cause({1: Report.of(ValueError("lr=-1"))}, {0}).as_error()) is ValueError


def test_who_names_a_silent_rank_is_believed():
    # Rank 0 lost rank 2, which had left because it had waited in vain for rank 1.
    reports = {
        0: Report.of(LostProcessError("rank 0 lost rank 2", 2)),
        2: Report.of(SilentProcessError("rank 2 waited for rank 1", 1)),
    }
    assert find_cause(reports, {1}).text == "rank 1 does not answer: rank 2 waited for rank 1"


def test_a_rank_that_only_computes_is_not_blamed():
    reports = {0: Report.of(LostProcessError("rank 0 lost rank 2", 2))}
    assert find_cause(reports, {1, 2}).text == "rank 2 died: rank 0 lost rank 2"


def test_a_collective_names_all_silent_ranks():
    reports = {1: Report.of(LostProcessError("rank 1 waited for all", -1))}
    assert find_cause(reports, {0, 2}).text == "rank 0, 2 died: rank 1 waited for all"


def test_nobody_is_silent():
    reports = {0: Report.of(LostProcessError("a", 1)), 1: Report.of(LostProcessError("b", 0))}
    assert find_cause(reports, set()).text == "a"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("lr=1:\n  expected 2"), "lr=1: expected 2"),
        (FloatingPointError("NaN"), "NaN"),
        (LostProcessError("gone", 1), "gone"),
        (KeyError("x"), "KeyError: 'x' (HYDRA_FULL_ERROR=1 shows where)"),
    ],
)
def test_one_line(error: Exception, line: str):
    assert describe_error(error) == line


def test_a_plugin_of_hydra_that_is_missing_is_an_extra():
    text = "In 'x': Could not find 'hydra/sweeper/optuna'\n\nAvailable options in 'hydra/sweeper':\n\tbasic"
    told = describe_error(HydraException(text))
    assert told.startswith("hydra/sweeper=optuna needs the package hydra-optuna-sweeper, of the extra optuna: ")
