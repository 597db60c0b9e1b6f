"""Checks for components that are written outside this repository, in the manner of scikit-learn's ``check_estimator``.

Each ``check_...`` function raises AssertionError with the name of the property that does not hold. The project's own
tests call the same functions.
"""

from simulator.testing.algorithms import check_algorithm
from simulator.testing.compressors import check_compressor
from simulator.testing.graphs import check_graph
from simulator.testing.problems import check_problem

__all__ = ["check_algorithm", "check_compressor", "check_graph", "check_problem"]
