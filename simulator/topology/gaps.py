"""The three gaps (simulator/graphs/spectra.py) of any schedule, by the way that its kind and size allow.

Invariant schedules: from the Fourier transform, at any size. Up to 1024 nodes: dense. Larger doubly stochastic
schedules with a period: ARPACK on the product of the rounds, where it converges; other large schedules: not at all.

Random schedules have no product over a period. Their spectral gap is 1 - exp(l), l the largest Lyapunov exponent off
agreement: the growth rate of a vector, brought back to length 1 in every round, over ``num_rounds`` rounds. Their
mean-square gap takes the mean of W_t' W_t over as many. The singular gap is that of round 0.
"""

import math

import numpy as np

from simulator.arrays import FloatArray
from simulator.graphs import spectra
from simulator.graphs.base import Graph
from simulator.randomness import generator
from simulator.topology.gossip import ends_exactly
from simulator.topology.invariance import InvariantSpectra
from simulator.topology.rounds import Matrix, as_matrix

LARGEST_DENSE = 1024
_ROUNDING = 1e-13
_ARPACK_ITERATIONS = 300


def gaps(graph: Graph, invariant: InvariantSpectra | None, *, num_rounds: int) -> dict[str, float | str]:
    """``spectral_gap``, ``singular_gap`` and ``mean_square_gap``, or why one is not known.

    Args:
        graph: any schedule.
        invariant: its spectra where it is invariant.
        num_rounds: rounds that stand for a random schedule.
    """
    if graph.num_nodes == 1:
        return dict.fromkeys(("spectral_gap", "singular_gap", "mean_square_gap"), 1.0)
    if invariant is not None:
        return _from_spectra(invariant)
    if graph.num_nodes <= LARGEST_DENSE:
        rounds = None if graph.period else num_rounds
        return {
            "spectral_gap": _asymptotic(graph) if graph.period else lyapunov_gap(graph, num_rounds),
            "singular_gap": spectra.singular_gap(graph),
            "mean_square_gap": spectra.mean_square_gap(graph, num_rounds=rounds),
        }
    if graph.period is None:
        reason = f"random schedule of more than {LARGEST_DENSE} nodes"
        return {
            "spectral_gap": lyapunov_gap(graph, num_rounds),
            "singular_gap": reason,
            "mean_square_gap": reason,
        }
    if graph.stochasticity != "double":
        reason = f"more than {LARGEST_DENSE} nodes and not doubly stochastic"
        return dict.fromkeys(("spectral_gap", "singular_gap", "mean_square_gap"), reason)
    return _large(graph)


def _asymptotic(graph: Graph) -> float:
    """As defined, and 1 where the schedule ends in exact consensus.

    The eigenvalues of a nilpotent matrix (de Bruijn graphs) come out as roots of the rounding error, far from 0.
    """
    assert graph.period is not None
    return 1.0 if ends_exactly(graph) is not None else spectra.spectral_gap(graph)


def lyapunov_gap(graph: Graph, num_rounds: int) -> float:
    """1 - exp of the mean logarithm by which a round shortens a vector that no agreement is part of."""
    values = generator(graph.seed, "topology/lyapunov").standard_normal(graph.num_nodes)
    values -= values.mean()
    values /= np.linalg.norm(values)
    total = 0.0
    for step in range(num_rounds):
        values = as_matrix(graph.edges(step), graph.num_nodes) @ values
        # Row-stochastic: adding a constant changes nothing. Column-stochastic: a sum of 0 stays 0 up to rounding.
        values -= values.mean()
        length = float(np.linalg.norm(values))
        if length < _ROUNDING:
            return 1.0
        total += math.log(length)
        values /= length
    return 1.0 - math.exp(total / num_rounds)


def _from_spectra(invariant: InvariantSpectra) -> dict[str, float | str]:
    moduli = np.abs(invariant.eigenvalues[:, 1:])
    modulus = float(moduli.prod(axis=0).max())
    return {
        "spectral_gap": 1.0 - (modulus if modulus > _ROUNDING else 0.0) ** (1.0 / len(moduli)),
        "singular_gap": 1.0 - float(moduli[0].max()),
        "mean_square_gap": 1.0 - float(np.sqrt((moduli**2).mean(axis=0).max())),
    }


def _large(graph: Graph) -> dict[str, float | str]:
    assert graph.period is not None
    matrices = [as_matrix(graph.edges(step), graph.num_nodes) for step in range(graph.period)]
    single = len(matrices) == 1 and abs(matrices[0] - matrices[0].T).max() < 1e-12
    if single:
        gap = spectra.spectral_gap(graph)
        return dict.fromkeys(("spectral_gap", "singular_gap", "mean_square_gap"), gap)
    found: dict[str, float | str] = {}
    product = 0.0 if ends_exactly(graph) is not None else _largest(matrices, graph, squared=False)
    found["spectral_gap"] = product if isinstance(product, str) else 1.0 - product ** (1.0 / len(matrices))
    for name, rounds in (("singular_gap", matrices[:1]), ("mean_square_gap", matrices)):
        square = _largest(rounds, graph, squared=True)
        found[name] = square if isinstance(square, str) else 1.0 - math.sqrt(square)
    return found


def _largest(matrices: list[Matrix], graph: Graph, *, squared: bool) -> float | str:
    """Largest modulus off agreement: of the product of the rounds, or of the mean of W' W (``squared``)."""
    from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigs, eigsh

    def product(values: FloatArray) -> FloatArray:
        for matrix in matrices:
            values = matrix @ values
        return np.asarray(values - values.mean())

    def mean_square(values: FloatArray) -> FloatArray:
        total: FloatArray = sum(matrix.T @ (matrix @ values) for matrix in matrices) / len(matrices)
        return np.asarray(total - total.mean())

    shape = (graph.num_nodes, graph.num_nodes)
    start = generator(graph.seed, "topology/arpack").standard_normal(graph.num_nodes)
    solve, apply = (eigsh, mean_square) if squared else (eigs, product)
    try:
        values = solve(
            LinearOperator(shape, matvec=apply, dtype=np.float64),
            k=1, which="LM", v0=start, tol=1e-9, maxiter=_ARPACK_ITERATIONS, return_eigenvectors=False,
        )  # fmt: skip
    except ArpackNoConvergence:
        return f"ARPACK does not converge within {_ARPACK_ITERATIONS} iterations: the gap is small"
    modulus = float(abs(values[0]))
    return modulus if modulus > _ROUNDING else 0.0
