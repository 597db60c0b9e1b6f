"""The effective number of neighbours n_W(gamma), its closed forms and its bounds.

    n_W(gamma) = 1 / ((1 - gamma) mean_i v_i),   v_i the stationary variance of the walk at node i (see walk.py)

The number of nodes whose exact average would be as quiet. 1 without communication, M for exact averaging; of a doubly
stochastic schedule always in between. It replaces the number of nodes in the convergence rate of D-SGD (quadratic.py).

Source: Vogels, Hendrikx and Jaggi, "Beyond spectral gap", NeurIPS 2022 and arXiv 2301.02151.
Departures: n_W of the worst node and of every node, closed forms of random matchings and of the infinite ring.
"""

import math

import numpy as np

from simulator.arrays import FloatArray
from simulator.topology.walk import InvariantWalk, PeriodicWalk, Walk


def check_decay(gamma: float) -> None:
    """Raises ValueError unless ``gamma`` lies in [0, 1)."""
    if not 0 <= gamma < 1:
        raise ValueError(f"gamma={gamma}: the decay of the walk lies in [0, 1)")


def effective_num_neighbors(walk: Walk, gamma: float) -> float:
    """n_W(gamma), with the mean variance over nodes and phases."""
    check_decay(gamma)
    return 1.0 / ((1.0 - gamma) * float(walk.variances(gamma).mean()))


def effective_num_neighbors_by_node(walk: Walk, gamma: float) -> FloatArray:
    """1 / ((1 - gamma) v_i) of every node, v_i the mean over phases, shape [M]."""
    check_decay(gamma)
    found: FloatArray = 1.0 / ((1.0 - gamma) * walk.variances(gamma))
    return found


def effective_num_neighbors_worst(walk: Walk, gamma: float) -> float:
    """The smallest of :func:`effective_num_neighbors_by_node`; NaN where the walk knows only the mean."""
    return float(effective_num_neighbors_by_node(walk, gamma).min()) if walk.knows_nodes else math.nan


def effective_num_neighbors_last_phase(walk: InvariantWalk | PeriodicWalk, gamma: float) -> float:
    """n_W right after the last round of a period, as the published code computes it; M where rounds end in J."""
    check_decay(gamma)
    return 1.0 / ((1.0 - gamma) * float(np.mean(walk.phase_variances(gamma)[-1])))


def standard_error(walk: Walk, gamma: float) -> float:
    """Standard error of :func:`effective_num_neighbors`, to first order."""
    return effective_num_neighbors(walk, gamma) ** 2 * (1.0 - gamma) * walk.standard_error(gamma)


def doubling_num_neighbors(num_nodes: int, gamma: float) -> float:
    """Of schedules whose k rounds in a row average min(2^k, M) nodes: one-peer exponential and hypercube, M = 2^D."""
    check_decay(gamma)
    rounds = num_nodes.bit_length() - 1
    if num_nodes != 2**rounds:
        raise ValueError(f"num_nodes={num_nodes}: expected a power of two")
    if rounds == 0:
        return 1.0
    early = (1.0 - gamma) * sum(gamma ** (k - 1) * 2.0**-k for k in range(1, rounds))
    return float(1.0 / (early + gamma ** (rounds - 1) / num_nodes))


def random_matching_num_neighbors(num_nodes: int, gamma: float) -> float:
    """Of a fresh uniform perfect matching with weights 1/2 in every round; ``num_nodes`` is even."""
    check_decay(gamma)
    others = num_nodes - 1
    kept = 0.5 + gamma / (2.0 * others * (1.0 - gamma))
    return float(1.0 / ((1.0 - gamma) * kept / (1.0 - gamma / 2.0 + gamma / (2.0 * others))))


def infinite_ring_num_neighbors(gamma: float) -> float:
    """Of the ring with weights 1/3 as its size grows: eigenvalues (1 + 2 cos theta) / 3, theta uniform."""
    check_decay(gamma)
    if gamma < 1e-7:  # 1/n_W = (1 - gamma)(1/3 + O(gamma)); below, the difference would be lost to rounding
        return 3.0 / (1.0 - gamma)
    root = math.sqrt(gamma)
    # 1 / (1 - gamma l^2) = (1 / (1 - root l) + 1 / (1 + root l)) / 2, each the mean of 1 / (a + b cos theta).
    ahead = 1.0 / math.sqrt((1.0 - root) * (1.0 + root / 3.0))
    behind = 1.0 / math.sqrt((1.0 + root) * (1.0 - root / 3.0))
    return gamma / ((1.0 - gamma) * ((ahead + behind) / 2.0 - 1.0))


def bound_by_gap(num_nodes: int, gamma: float, spectral_gap: float) -> float:
    """The smallest n_W that a symmetric W with this gap can have; that of gap J + (1 - gap) I."""
    check_decay(gamma)
    squared = (1.0 - spectral_gap) ** 2
    others = (num_nodes - 1) / num_nodes
    return float(1.0 / (1.0 / num_nodes + others * (1.0 - gamma) * squared / (1.0 - gamma * squared)))


def bound_by_dimension(num_nodes: int, gamma: float, dimension: float, constant: float) -> float:
    """The smallest n_W for a spectral dimension d_s: a share of at most (1 - l)^(d_s/2) / c_s of eigenvalues above l.

    Args:
        num_nodes: M.
        gamma: in (0, 1).
        dimension: d_s, positive; ring 1, grid 2, torus in d dimensions d.
        constant: c_s, positive.
    """
    check_decay(gamma)
    if not (gamma > 0 and dimension > 0 and constant > 0):
        raise ValueError(
            f"gamma={gamma}, dimension={dimension}, constant={constant}: expected positive numbers, gamma below 1"
        )
    rest = 1.0 - gamma
    if dimension > 2:
        further = rest / (gamma * (dimension - 2.0) * constant)
    elif dimension == 2:
        further = -rest * math.log(rest) / (2.0 * gamma * constant)
    else:
        further = 4.0 * rest ** (dimension / 2.0) / (dimension * (2.0 - dimension) * constant)
    return 1.0 / (1.0 / num_nodes + further)
