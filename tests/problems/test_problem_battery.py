"""Every problem in conf/problem passes the checks that users' problems get."""

import pytest

from simulator import config
from simulator.config.composition import CONF
from simulator.testing import check_problem

SLOW = {"coefficient_toy"}  # every evaluation solves the inner problem
PROBLEMS = [
    pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else [])
    for name in sorted(path.stem for path in (CONF / "problem").glob("*.yaml"))
]
# Their outer/loss is at the exact inner solution, not at the parameters that they are given.
AT_THE_INNER_SOLUTION = {"bilevel_quadratic", "coefficient_toy"}


@pytest.mark.parametrize("name", PROBLEMS)
def test_problem_keeps_to_the_contract(name, one_thread):
    problem = config.build(config.compose([f"problem={name}", "num_nodes=4"])).problem
    check_problem(problem, reports_outer_loss=name not in AT_THE_INNER_SOLUTION)
