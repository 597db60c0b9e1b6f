"""Weight rules: the values of a mixing matrix on a given support.

Every rule has one signature: the support (see :mod:`simulator.graphs.support`) and the number of nodes M, to the
weights [E] in the order of the support. Degrees d_i leave out the self-loop.

    metropolis       W_ij = 1 / (1 + max(d_i, d_j)),  W_ii = 1 - sum_j W_ij       symmetric support, doubly stochastic
    metropolis_without_self  W_ij = 1 / max(d_i, d_j): the self-weight may be 0   symmetric support, doubly stochastic
    lazy_metropolis  (I + W) / 2 of the above: no negative eigenvalue             symmetric support, doubly stochastic
    max_degree       W_ij = 1 / (1 + max_k d_k)                                   symmetric support, doubly stochastic
    best_constant    W = I - 2 / (lambda_2 + lambda_M) L, L the Laplacian         symmetric support, doubly, signs free
    fastest_mixing   the smallest second eigenvalue modulus of all symmetric W    symmetric support, doubly stochastic
    out_degree       W_ij = 1 / (1 + out-degree of j)                             any support, column-stochastic
    in_degree        W_ij = 1 / (1 + in-degree of i)                              any support, row-stochastic
    sinkhorn         rows and columns scaled in turn until both sum to 1          any edge on a cycle, doubly stochastic

Source: Xiao and Boyd, "Fast linear iterations for distributed averaging", 2004 (metropolis, max_degree,
best_constant); Boyd, Diaconis and Xiao, "Fastest mixing Markov chain on a graph", 2004; Sinkhorn and Knopp, 1967;
Nedic and Olshevsky, 2015, for out_degree.
"""

import warnings
from collections.abc import Callable

import numpy as np

from simulator.arrays import FloatArray, IntArray
from simulator.errors import missing_extra
from simulator.graphs.base import Stochasticity
from simulator.graphs.support import count_components

WeightRule = Callable[[IntArray, IntArray, int], FloatArray]

SUM_TOLERANCE = 1e-6
"""How far a row or column sum may be from 1 and still count as 1: weights that users give may be in float32."""

_SMALLEST_FASTEST_MIXING_WEIGHT = 1e-2
_ROUNDING = 1e-12


def metropolis(source: IntArray, target: IntArray, num_nodes: int) -> FloatArray:
    """1 / (1 + max(d_i, d_j)) on edges; the node keeps the remainder, which is at least 1 / (1 + d_i)."""
    degree = np.bincount(target, minlength=num_nodes) - 1
    return with_remainders(source, target, 1.0 / (1 + np.maximum(degree[source], degree[target])), num_nodes)


def metropolis_without_self(source: IntArray, target: IntArray, num_nodes: int) -> FloatArray:
    """1 / max(d_i, d_j) on edges, where Metropolis has 1 / (1 + max(d_i, d_j)); the node keeps the remainder.

    A node none of whose neighbours has more neighbours than itself keeps nothing. So W of a regular bipartite graph,
    such as a ring of even length, has the eigenvalue -1 and never mixes.
    """
    degree = np.bincount(target, minlength=num_nodes) - 1
    larger = np.maximum(degree[source], degree[target])
    weight = with_remainders(source, target, 1.0 / np.maximum(larger, 1), num_nodes)
    weight[(source == target) & (np.abs(weight) < _ROUNDING)] = 0.0
    return weight


def lazy_metropolis(source: IntArray, target: IntArray, num_nodes: int) -> FloatArray:
    """(I + W) / 2 with Metropolis weights W."""
    return lazy(source, target, metropolis(source, target, num_nodes))


def lazy(source: IntArray, target: IntArray, weight: FloatArray) -> FloatArray:
    """(I + W) / 2 for the given weights of W; no eigenvalue of a symmetric W stays below 0."""
    halved: FloatArray = weight / 2 + (source == target) / 2
    return halved


def max_degree(source: IntArray, target: IntArray, num_nodes: int) -> FloatArray:
    """1 / (1 + largest degree of the graph) on every edge."""
    largest = np.bincount(target, minlength=num_nodes).max()
    return with_remainders(source, target, np.full(len(source), 1.0 / largest), num_nodes)


def best_constant(source: IntArray, target: IntArray, num_nodes: int) -> FloatArray:
    """The one edge weight that mixes fastest, 2 / (lambda_2 + lambda_M) of the Laplacian; dense, for small graphs.

    A node of high degree may get a negative self-weight (the hub of a star does).
    """
    if num_nodes == 1:
        return np.ones(1)
    adjacency = np.zeros((num_nodes, num_nodes))
    adjacency[target, source] = 1.0
    np.fill_diagonal(adjacency, 0.0)
    eigenvalues = np.linalg.eigvalsh(np.diag(adjacency.sum(axis=1)) - adjacency)
    edge_weight = 2.0 / (eigenvalues[1] + eigenvalues[-1])
    return with_remainders(source, target, np.full(len(source), edge_weight), num_nodes)


def fastest_mixing(source: IntArray, target: IntArray, num_nodes: int) -> FloatArray:
    """The symmetric, non-negative weights with the smallest second eigenvalue modulus (SLEM), by an SDP.

    minimise s over edge weights w >= 0 with W = I - sum_e w_e L_e, diag(W) >= 0, -s I <= W - J <= s I; solved by
    SCS to about 1e-5 and then made exact: every edge gets at least 0.01 / M (so the support, which every process
    must agree on, is that of the graph and not of a rounding error), weights are scaled down by the larger row sum
    of their two ends where that leaves less than 0.01 / M for a self-weight, and the diagonal is the remainder.
    Metropolis weights are returned where they mix at least as fast, as on a complete graph. Takes about half a
    second for 100 nodes.

    Raises:
        ValueError: when the graph is not connected, or when the solver fails.
    """
    num_components, _ = count_components((source, target), num_nodes)
    if num_components > 1:
        raise ValueError(f"fastest-mixing weights need a connected graph; this one has {num_components} components")
    reference = metropolis(source, target, num_nodes)
    upper = source < target
    low, high = source[upper], target[upper]
    if len(low) == 0:
        return reference
    smallest = _SMALLEST_FASTEST_MIXING_WEIGHT / num_nodes
    solution = np.maximum(_solve_fastest_mixing(low, high, num_nodes), smallest)
    sums = np.bincount(low, solution, num_nodes) + np.bincount(high, solution, num_nodes)
    solution /= np.maximum(1.0, np.maximum(sums[low], sums[high]) / (1.0 - smallest))

    matrix = np.zeros((num_nodes, num_nodes))
    matrix[low, high] = matrix[high, low] = solution
    weight = with_remainders(source, target, matrix[target, source], num_nodes)
    slems = [_second_eigenvalue_modulus(source, target, each, num_nodes) for each in (weight, reference)]
    return weight if slems[0] < slems[1] else reference


def out_degree(source: IntArray, target: IntArray, num_nodes: int) -> FloatArray:
    """Every sender gives all that hear it, itself included, the same share: columns sum to 1."""
    shares: FloatArray = 1.0 / np.bincount(source, minlength=num_nodes)
    return shares[source]


def in_degree(source: IntArray, target: IntArray, num_nodes: int) -> FloatArray:
    """Every receiver takes the plain mean of what it hears, itself included: rows sum to 1."""
    shares: FloatArray = 1.0 / np.bincount(target, minlength=num_nodes)
    return shares[target]


def sinkhorn(source: IntArray, target: IntArray, num_nodes: int, *, num_rounds: int = 10_000) -> FloatArray:
    """Doubly stochastic weights on a directed support, by scaling columns and rows in turn.

    Raises:
        ValueError: when the sums are not within 1e-12 of 1 after ``num_rounds``, as on supports with an edge that
            lies on no cycle (there its weight would have to vanish).
    """
    weight = np.ones(len(source))
    for _ in range(num_rounds):
        weight /= np.bincount(source, weight, num_nodes)[source]
        rows = np.bincount(target, weight, num_nodes)
        weight /= rows[target]
        if np.abs(rows - 1.0).max() < 1e-13:
            return weight
    raise ValueError(
        f"Sinkhorn weights did not converge in {num_rounds} rounds: doubly stochastic weights need a graph in which "
        "every edge lies on a cycle"
    )


def with_remainders(source: IntArray, target: IntArray, weight: FloatArray, num_nodes: int) -> FloatArray:
    """Replaces the self-weights by what is left of 1 in each row, in place, and returns ``weight``."""
    loops = source == target
    weight[loops] = 0.0
    weight[loops] = 1.0 - np.bincount(target, weight, num_nodes)
    return weight


def stochasticity_of(source: IntArray, target: IntArray, weight: FloatArray, num_nodes: int) -> Stochasticity | None:
    """What sums to 1 within SUM_TOLERANCE: rows, columns, both ("double") or neither (None)."""
    rows = np.abs(np.bincount(target, weight, num_nodes) - 1.0).max() <= SUM_TOLERANCE
    columns = np.abs(np.bincount(source, weight, num_nodes) - 1.0).max() <= SUM_TOLERANCE
    if rows and columns:
        return "double"
    return "row" if rows else "column" if columns else None


def _second_eigenvalue_modulus(source: IntArray, target: IntArray, weight: FloatArray, num_nodes: int) -> float:
    matrix = np.full((num_nodes, num_nodes), -1.0 / num_nodes)
    matrix[target, source] += weight
    return float(np.abs(np.linalg.eigvalsh(matrix)).max())


def _solve_fastest_mixing(low: IntArray, high: IntArray, num_nodes: int) -> FloatArray:
    """The edge weights [number of edges] of the SDP, to the solver's accuracy."""
    # Imported here: the modelling language takes a second to import and only this rule uses it.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        try:
            import cvxpy
            import scs  # noqa: F401
        except ImportError as error:
            raise missing_extra("graph.weights=fastest_mixing", "cvxpy-base or scs", "weights") from error
    from scipy.sparse import csc_array

    num_edges = len(low)
    edges = np.arange(num_edges)
    incidence = csc_array(
        (np.repeat([1.0, -1.0], num_edges), (np.concatenate([low, high]), np.tile(edges, 2))),
        shape=(num_nodes, num_edges),
    )
    # Column e is vec(L_e): +1 at the two diagonal places of the ends, -1 at the two off-diagonal ones.
    ends = [low * (num_nodes + 1), high * (num_nodes + 1), low * num_nodes + high, high * num_nodes + low]
    places = np.concatenate(ends)
    laplacians = csc_array(
        (np.repeat([1.0, 1.0, -1.0, -1.0], num_edges), (places, np.tile(edges, 4))), shape=(num_nodes**2, num_edges)
    )
    weights, slem = cvxpy.Variable(num_edges, nonneg=True), cvxpy.Variable()
    identity = np.eye(num_nodes)
    deviation = identity - 1.0 / num_nodes - cvxpy.reshape(laplacians @ weights, (num_nodes, num_nodes), order="F")
    problem = cvxpy.Problem(
        cvxpy.Minimize(slem),
        [abs(incidence) @ weights <= 1.0, slem * identity - deviation >> 0, slem * identity + deviation >> 0],
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Solution may be inaccurate", category=UserWarning)
        try:
            problem.solve(solver=cvxpy.SCS)
        except cvxpy.SolverError as error:
            raise ValueError(
                f"fastest-mixing weights: the solver failed ({error}); use graph.weights=metropolis"
            ) from error
    if weights.value is None:
        raise ValueError(f"fastest-mixing weights: the solver ended {problem.status!r}; use graph.weights=metropolis")
    return np.asarray(weights.value, dtype=np.float64)
