"""The symmetric weights with the most effective neighbours.

Definition: n_W(gamma) = M / ((1 - gamma) tr(W^2 (I - gamma W^2)^-1)) tells with how many nodes a node of a long random
walk shares its noise, when noise of each step fades by the factor gamma. Among all symmetric W with unit row sums on
the edges of a graph, signs free, the largest n_W has the smallest

    f(w) = tr (I - gamma W^2)^-1 = sum_i phi(lambda_i),    phi(x) = 1 / (1 - gamma x^2),    W = I - sum_e w_e L_e,

with L_e the Laplacian of edge e. f is convex, and df/dw_e = -<Q diag(phi'(lambda)) Q', L_e>.
Source: Vogels, Hendrikx and Jaggi, "Beyond spectral gap", NeurIPS 2022, for n_W; spectral functions as in Boyd,
Diaconis and Xiao, "Fastest mixing Markov chain on a graph", 2004.
Departures: none.
"""

import numpy as np

from simulator.arrays import FloatArray, IntArray
from simulator.graphs.weights import metropolis, with_remainders

_MAX_ITERATIONS = 20_000
_GRADIENT_TOLERANCE = 1e-9


def nw_optimal(source: IntArray, target: IntArray, num_nodes: int, *, gamma: float) -> FloatArray:
    """The weights that maximise n_W(gamma), by L-BFGS from Metropolis weights; weights may be negative.

    Dense: a second for some hundred nodes. Different processors may round the result differently (about 1e-7).

    Args:
        source, target: a symmetric support with self-loops, shape [E], sorted by (target, source).
        num_nodes: M.
        gamma: in (0, 1); nearer 1 the whole graph counts, nearer 0 the direct neighbours.
    """
    # Imported here because most runs never need it.
    from scipy.optimize import minimize

    start = metropolis(source, target, num_nodes)
    upper = source < target
    low, high = source[upper], target[upper]
    if len(low) == 0:
        return start
    found = minimize(
        mean_variance,
        start[upper],
        args=(low, high, num_nodes, gamma),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": _MAX_ITERATIONS, "maxfun": 2 * _MAX_ITERATIONS, "ftol": 0.0, "gtol": _GRADIENT_TOLERANCE},
    )
    matrix = np.zeros((num_nodes, num_nodes))
    matrix[low, high] = matrix[high, low] = found.x
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
