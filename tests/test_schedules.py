"""Learning-rate schedules against their formulas."""

import math

import pytest

from simulator.schedules import Constant, Inverse, InverseRoot, MultiStep


def test_multi_step_multiplies_once_per_milestone_from_the_milestone_on():
    schedule = MultiStep(milestones=[3, 5, 6], decay=0.1)
    expected = [1, 1, 1, 0.1, 0.1, 0.01, 0.001, 0.001]
    assert [schedule.factor(step) for step in range(8)] == pytest.approx(expected, rel=1e-15)
    assert MultiStep(milestones=[], decay=0.1).factor(100) == 1.0
    assert MultiStep(milestones=[2]).factor(2) == pytest.approx(0.1)


@pytest.mark.parametrize("step", [0, 1, 8, 999])
def test_constant_and_inverse_schedules(step):
    assert Constant().factor(step) == 1.0
    assert Inverse().factor(step) == pytest.approx(1 / (step + 1), rel=1e-15)
    assert InverseRoot().factor(step) == pytest.approx(1 / math.sqrt(step + 1), rel=1e-15)


@pytest.mark.parametrize("decay", [0.0, -0.1])
def test_a_decay_that_ends_at_no_rate_is_refused(decay):
    with pytest.raises(ValueError, match=rf"lr_schedule\.decay={decay}: expected a positive number"):
        MultiStep(milestones=[2], decay=decay)
