"""How fast a schedule mixes: three gaps, all 1 for exact averaging and 0 for no mixing.

    spectral_gap     1 - rho(W_{T-1} ... W_0 - J)^(1/T), J = 11'/M: the asymptotic rate per round of a period T; for a
                     static graph 1 minus the second largest eigenvalue modulus (SLEM)
    singular_gap     sigma_1(W) - sigma_2(W) of one round; equals the above for symmetric W
    mean_square_gap  1 - sqrt(lambda_2(1/T sum_t W_t' W_t)): the rate per round when rounds come in random order

Dense, so for graphs of up to a few thousand nodes, except for the spectral gap of a static symmetric graph, which is
sparse above 1000 nodes. Where W_t is not doubly stochastic, "second" means all but the largest in modulus.

Source: Vogels, Hendrikx and Jaggi, "Beyond spectral gap", NeurIPS 2022, and its published code, which uses all three.
"""

import numpy as np

from simulator.arrays import FloatArray
from simulator.graphs.base import Edges, Graph
from simulator.randomness import generator

_LARGEST_DENSE = 1000
_SMALLEST_LANCZOS_GAP = 1e-2
# Below this the modulus is rounding error, which the T-th root would amplify.
_ROUNDING = 1e-13


def spectral_gap(graph: Graph, *, num_rounds: int | None = None) -> float:
    """The asymptotic gap per round.

    Args:
        graph: any schedule.
        num_rounds: rounds to multiply, from step 0; the period where None.

    Raises:
        ValueError: for a schedule without a period when ``num_rounds`` is None.
    """
    rounds = _num_rounds(graph, num_rounds)
    if graph.num_nodes == 1:
        return 1.0
    if graph.period == 1 and graph.num_nodes > _LARGEST_DENSE:
        edges = graph.edges(0)
        if _is_symmetric(edges, graph.num_nodes):
            return 1.0 - _sparse_slem(edges, graph.num_nodes)
    product = np.eye(graph.num_nodes)
    for step in range(rounds):
        product = graph.edges(step).to_matrix(graph.num_nodes) @ product
    if graph.stochasticity == "double":
        modulus = float(np.abs(np.linalg.eigvals(product - 1.0 / graph.num_nodes)).max())
    else:
        modulus = float(np.sort(np.abs(np.linalg.eigvals(product)))[-2])
    return 1.0 - float((modulus if modulus > _ROUNDING else 0.0) ** (1.0 / rounds))


def singular_gap(graph: Graph, *, step: int = 0) -> float:
    """The largest minus the second largest singular value of W_step."""
    if graph.num_nodes == 1:
        return 1.0
    values = np.linalg.svd(graph.edges(step).to_matrix(graph.num_nodes), compute_uv=False)
    return float(values[0] - values[1])


def mean_square_gap(graph: Graph, *, num_rounds: int | None = None) -> float:
    """The gap of the mean of W_t' W_t; arguments and Raises as in :func:`spectral_gap`."""
    rounds = _num_rounds(graph, num_rounds)
    if graph.num_nodes == 1:
        return 1.0
    mean: FloatArray = np.zeros((graph.num_nodes, graph.num_nodes))
    for step in range(rounds):
        matrix = graph.edges(step).to_matrix(graph.num_nodes)
        mean += matrix.T @ matrix / rounds
    return 1.0 - float(np.sqrt(max(np.linalg.eigvalsh(mean)[-2], 0.0)))


def _num_rounds(graph: Graph, num_rounds: int | None) -> int:
    rounds = graph.period if num_rounds is None else num_rounds
    if rounds is None:
        raise ValueError(f"{type(graph).__name__} is random and has no period: give the number of rounds (num_rounds)")
    if rounds < 1:
        raise ValueError(f"num_rounds={rounds}: at least one round is needed")
    return rounds


def _is_symmetric(edges: Edges, num_nodes: int) -> bool:
    order = np.argsort(edges.source * num_nodes + edges.target)
    return bool(
        np.array_equal(edges.source[order], edges.target)
        and np.array_equal(edges.target[order], edges.source)
        and np.allclose(edges.weight[order], edges.weight, rtol=0.0, atol=1e-12)
    )


def _sparse_slem(edges: Edges, num_nodes: int) -> float:
    """The SLEM of a large symmetric W.

    Lanczos iteration finds it quickly where the gap is large (expanders, on which factorising W would fill up). Where
    the gap is small, eigenvalues near 1 are crowded and it stalls; such graphs are rings, grids and the like, and
    W - sigma I with sigma just above 1 is factorised instead. The lower end of the spectrum is then known to 1e-3.
    """
    from scipy.sparse import csc_array
    from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh

    shape = (num_nodes, num_nodes)
    matrix = csc_array((edges.weight, (edges.target, edges.source)), shape=shape)
    deviation = LinearOperator(shape, matvec=lambda x: matrix @ x - x.mean(), dtype=np.float64)
    start = generator(0, "graph/lanczos").standard_normal(num_nodes)
    try:
        values = eigsh(deviation, k=1, which="LM", v0=start, tol=1e-10, maxiter=100, return_eigenvectors=False)
        if 1.0 - abs(values[0]) > _SMALLEST_LANCZOS_GAP:
            return float(abs(values[0]))
    except ArpackNoConvergence:
        pass  # the gap is small, so W - sigma I is factorised below
    upper = eigsh(matrix, k=2, sigma=1.0 + 1e-8, which="LM", v0=start, return_eigenvectors=False)
    lower = eigsh(matrix, k=1, which="SA", v0=start, tol=1e-3, return_eigenvectors=False)
    return float(max(np.min(upper), -lower[0]))
