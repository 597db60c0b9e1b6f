"""The symmetric weights with the most effective neighbours.

Definition: n_W(gamma) = M / ((1 - gamma) tr(W^2 (I - gamma W^2)^-1)) tells with how many nodes a node of a long random
walk shares its noise, when noise of each step fades by the factor gamma. Among all symmetric W with unit row sums on
the edges of a graph, signs free, the largest n_W has the smallest

    f(w) = tr (I - gamma W^2)^-1 = sum_i phi(lambda_i),    phi(x) = 1 / (1 - gamma x^2),    W = I - sum_e w_e L_e,

with L_e the Laplacian of edge e. f is convex, and df/dw_e = -<Q diag(phi'(lambda)) Q', L_e>. The non-negative form asks
besides for w_e >= 0 and for self-weights 1 - sum_{e at i} w_e >= 0, which keeps the problem convex.
Source: Vogels, Hendrikx and Jaggi, "Beyond spectral gap", NeurIPS 2022, for n_W; spectral functions as in Boyd,
Diaconis and Xiao, "Fastest mixing Markov chain on a graph", 2004; the augmented Lagrangian of the non-negative form as
in Nocedal and Wright, "Numerical Optimization", 2006, chapter 17.
Departures: none known.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from simulator.arrays import FloatArray, IntArray
from simulator.graphs.weights import metropolis, with_remainders

_MAX_ITERATIONS = 20_000
_GRADIENT_TOLERANCE = 1e-9
_MAX_OUTER_ITERATIONS = 60
_INNER_ITERATIONS = 500
_SMALLEST_TOLERANCE = 1e-8
_LARGEST_EXCESS = 1e-7
_SMALLEST_WEIGHT = 1e-6


def nw_optimal(source: IntArray, target: IntArray, num_nodes: int, *, gamma: float) -> FloatArray:
    """The weights that maximise n_W(gamma), by L-BFGS from Metropolis weights; weights may be negative.

    Dense: a second for some hundred nodes. Different processors may round the result differently (about 1e-7).

    Args:
        source, target: a symmetric support with self-loops, shape [E], sorted by (target, source).
        num_nodes: M.
        gamma: in (0, 1); nearer 1 the whole graph counts, nearer 0 the direct neighbours.
    """
    start = metropolis(source, target, num_nodes)
    upper = source < target
    low, high = source[upper], target[upper]
    if len(low) == 0:
        return start
    found = _minimise(
        lambda weight: mean_variance(weight, low, high, num_nodes, gamma),
        *(start[upper], None, _GRADIENT_TOLERANCE, _MAX_ITERATIONS),
    )
    return _on_support(source, target, low, high, found, num_nodes)


def nw_optimal_nonnegative(source: IntArray, target: IntArray, num_nodes: int, *, gamma: float) -> FloatArray:
    """The weights that maximise n_W(gamma) among those without a negative entry, self-weights included.

    Bounds on the edges are L-BFGS-B's; those on the self-weights come by an augmented Lagrangian, from Metropolis
    weights on. Edges and self-weights get at least 1e-6 / M, so that the support is that of the graph on every process.

    Args:
        source, target, num_nodes, gamma: as in :func:`nw_optimal`.
    """
    start = metropolis(source, target, num_nodes)
    upper = source < target
    low, high = source[upper], target[upper]
    if len(low) == 0:
        return start
    smallest = _SMALLEST_WEIGHT / num_nodes
    weight, prices, stiffness = start[upper], np.zeros(num_nodes), 10.0

    def excess(weight: FloatArray) -> FloatArray:
        """By how much the edges of every node take more than 1 - ``smallest``, [M]; negative where they take less."""
        sums = np.bincount(low, weight, num_nodes) + np.bincount(high, weight, num_nodes)
        return np.asarray(sums - (1.0 - smallest))

    def penalised(weight: FloatArray) -> tuple[float, FloatArray]:
        value, gradient = mean_variance(weight, low, high, num_nodes, gamma)
        pushed = np.maximum(0.0, prices + stiffness * excess(weight))
        return value + float(np.square(pushed).sum()) / (2 * stiffness), gradient + pushed[low] + pushed[high]

    largest = np.inf
    for number in range(_MAX_OUTER_ITERATIONS):
        tolerance = max(1e-5 * 0.1**number, _SMALLEST_TOLERANCE)
        weight = _minimise(penalised, weight, [(smallest, None)] * len(weight), tolerance, _INNER_ITERATIONS)
        beyond = excess(weight)
        if beyond.max() > 0.25 * largest:
            stiffness *= 4.0
        largest = float(max(beyond.max(), 0.0))
        new_prices = np.maximum(0.0, prices + stiffness * beyond)
        if largest < _LARGEST_EXCESS and tolerance == _SMALLEST_TOLERANCE:
            break
        prices = new_prices
    # What is left of the excess is rounding: scaled away by the node that has more of it.
    sums = excess(weight) + (1.0 - smallest)
    weight = weight / np.maximum(1.0, np.maximum(sums[low], sums[high]) / (1.0 - smallest))
    return _on_support(source, target, low, high, weight, num_nodes)


def _minimise(
    objective: Callable[[FloatArray], tuple[float, FloatArray]],
    start: FloatArray,
    bounds: list[Any] | None,
    tolerance: float,
    max_iterations: int,
) -> FloatArray:
    """L-BFGS-B until no entry of the gradient exceeds ``tolerance``; ``objective`` returns its value and gradient."""
    # Imported here because most runs never need it.
    from scipy.optimize import minimize

    options = {"maxiter": max_iterations, "maxfun": 2 * max_iterations, "ftol": 0.0, "gtol": tolerance}
    found = minimize(objective, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    return np.asarray(found.x, dtype=np.float64)


def _on_support(
    source: IntArray, target: IntArray, low: IntArray, high: IntArray, edge_weight: FloatArray, num_nodes: int
) -> FloatArray:
    """Weights [E] in the order of the support from those of the edges low - high; nodes keep the remainder."""
    matrix = np.zeros((num_nodes, num_nodes))
    matrix[low, high] = matrix[high, low] = edge_weight
    return with_remainders(source, target, matrix[target, source], num_nodes)


def mean_variance(
    edge_weight: FloatArray, low: IntArray, high: IntArray, num_nodes: int, gamma: float
) -> tuple[float, FloatArray]:
    """The mean eigenvalue of (I - gamma (W - J)^2)^-1, and its gradient by the weights of low - high, shape [E].

    W - J instead of W: the eigenvalue 1 of the constant vector, whose term no weight changes, is taken out.
    phi has a pole at 1 / sqrt(gamma) > 1. From halfway to the pole on it is continued by its second-order expansion,
    which keeps f convex and finite everywhere, so that a line search may step too far.
    """
    matrix = np.full((num_nodes, num_nodes), -1.0 / num_nodes)
    matrix[low, high] += edge_weight
    matrix[high, low] += edge_weight
    np.fill_diagonal(matrix, 0.0)
    np.fill_diagonal(matrix, -matrix.sum(axis=1))
    eigenvalues, vectors = np.linalg.eigh(matrix)
    edge = np.sqrt((1.0 + gamma) / (2.0 * gamma))
    inside = np.clip(eigenvalues, -edge, edge)
    beyond = eigenvalues - inside
    rest = 1.0 - gamma * inside**2
    slope = 2.0 * gamma * inside / rest**2
    curvature = 2.0 * gamma * (1.0 + 3.0 * gamma * inside**2) / rest**3
    value = 1.0 / rest + slope * beyond + curvature * beyond**2 / 2
    by_matrix = (vectors * (slope + curvature * beyond)) @ vectors.T
    own = np.diag(by_matrix)
    return float(value.mean()), -(own[low] + own[high] - 2.0 * by_matrix[low, high]) / num_nodes
