"""The names that the setting ``graph.weights`` gives to weight rules."""

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType

import numpy as np

from simulator.arrays import FloatArray, IntArray
from simulator.graphs.base import Stochasticity
from simulator.graphs.nw_optimal import nw_optimal, nw_optimal_nonnegative
from simulator.graphs.weights import (
    WeightRule,
    best_constant,
    fastest_mixing,
    in_degree,
    lazy_metropolis,
    max_degree,
    metropolis,
    metropolis_without_self,
    out_degree,
    sinkhorn,
)

AUTO = "auto"
"""The rule of graphs that may be directed or not: metropolis if undirected, out_degree if directed."""


def metropolis_or_equal(source: IntArray, target: IntArray, num_nodes: int) -> FloatArray:
    """Metropolis weights; all equal to the last bit, without remainders, where all nodes have one degree."""
    regular = np.ptp(np.bincount(target, minlength=num_nodes)) == 0
    return (in_degree if regular else metropolis)(source, target, num_nodes)


_SYMMETRIC: Mapping[str, WeightRule] = MappingProxyType(
    {
        "metropolis": metropolis_or_equal,
        "metropolis_without_self": metropolis_without_self,
        "lazy_metropolis": lazy_metropolis,
        "lazy": lazy_metropolis,
        "max_degree": max_degree,
        "best_constant": best_constant,
        "fastest_mixing": fastest_mixing,
        "fmmc": fastest_mixing,
    }
)
_DIRECTED: Mapping[str, tuple[WeightRule, Stochasticity]] = MappingProxyType(
    {"out_degree": (out_degree, "column"), "in_degree": (in_degree, "row"), "sinkhorn": (sinkhorn, "double")}
)
_NW_OPTIMAL: Mapping[str, Callable[..., FloatArray]] = MappingProxyType(
    {"nw_optimal": nw_optimal, "nw_optimal_nonnegative": nw_optimal_nonnegative}
)
_DENSE = ("best_constant", "fastest_mixing", "fmmc", *_NW_OPTIMAL)
_LARGEST_DENSE = 2000


def symmetric_rule(name: str, num_nodes: int, gamma: float) -> WeightRule:
    """The rule of an undirected graph; W is symmetric and doubly stochastic.

    Args:
        name: metropolis, metropolis_without_self, lazy_metropolis (or lazy), max_degree, best_constant, fastest_mixing
            (or fmmc), nw_optimal, nw_optimal_nonnegative.
        num_nodes: number of nodes M; the last four rules compute with M x M matrices.
        gamma: of the last two, in (0, 1).

    Raises:
        ValueError: when there is no such rule, when the graph is too large for it, or ``gamma`` is out of range.
    """
    if not 0 < gamma < 1:
        raise ValueError(f"graph.gamma={gamma}: a decay lies strictly between 0 and 1")
    if name in _DENSE and num_nodes > _LARGEST_DENSE:
        raise ValueError(
            f"graph.weights={name}: computes with dense matrices and takes at most {_LARGEST_DENSE} nodes, "
            f"not {num_nodes}; use graph.weights=metropolis"
        )
    if name in _NW_OPTIMAL:
        return partial(_NW_OPTIMAL[name], gamma=gamma)
    if name not in _SYMMETRIC:
        raise ValueError(f"graph.weights={name!r}: the rules are {', '.join([*_SYMMETRIC, *_NW_OPTIMAL])}")
    return _SYMMETRIC[name]


def rule_of(name: str, num_nodes: int, gamma: float, *, directed: bool) -> tuple[WeightRule, Stochasticity]:
    """The rule of a graph that is directed or not, and what then sums to 1.

    Args:
        name: "auto", a name of :func:`symmetric_rule` where ``directed`` is false, or out_degree, in_degree or
            sinkhorn where it is true.
        num_nodes, gamma: as in :func:`symmetric_rule`.
        directed: whether the graph is directed.

    Raises:
        ValueError: when there is no such rule for such a graph, and as in :func:`symmetric_rule`.
    """
    if not directed:
        return symmetric_rule("metropolis" if name == AUTO else name, num_nodes, gamma), "double"
    if name == AUTO:
        return _DIRECTED["out_degree"]
    if name not in _DIRECTED:
        raise ValueError(f"graph.weights={name!r}: the rules of a directed graph are {', '.join(_DIRECTED)}")
    return _DIRECTED[name]
