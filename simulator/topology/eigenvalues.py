"""The spectral radius of a linear map that keeps a cone of positive vectors, known only by what it does to a vector."""

from collections.abc import Callable

import numpy as np

from simulator.arrays import FloatArray

_LARGEST_DENSE = 64
_TOLERANCE = 1e-11
_MOST_STEPS = 100_000
_LANCZOS_STEPS, _LANCZOS_CHECKS = 400, 10
_LANCZOS_TOLERANCE = 1e-11


def spectral_radius(apply: Callable[[FloatArray], FloatArray], start: FloatArray) -> tuple[float, FloatArray]:
    """The largest modulus of an eigenvalue, and an eigenvector that is a good start for a similar map.

    Args:
        apply: the map, [size] to [size]. Its largest eigenvalue must be real and belong to a vector of the cone, as
            for maps that keep non-negative vectors or positive semidefinite matrices.
        start: inside of the cone, shape [size].
    """
    size = len(start)
    if size <= _LARGEST_DENSE:
        matrix = np.column_stack([apply(column) for column in np.eye(size)])
        return float(np.abs(np.linalg.eigvals(matrix)).max()), start
    from scipy.sparse.linalg import ArpackError, LinearOperator, eigs

    operator = LinearOperator((size, size), matvec=apply, dtype=np.float64)
    try:
        values, vectors = eigs(operator, k=1, which="LM", v0=start, ncv=12, tol=_TOLERANCE, maxiter=500)
    except ArpackError:
        return _by_powers(apply, start)
    vector = vectors[:, 0].real
    return float(abs(values[0])), vector if np.linalg.norm(vector) > 0.5 else start


def _by_powers(apply: Callable[[FloatArray], FloatArray], start: FloatArray) -> tuple[float, FloatArray]:
    """Power iteration, to a relative change of 1e-13 over a doubling of the number of steps."""
    vector, before, check = start / np.linalg.norm(start), 0.0, 16
    for step in range(1, _MOST_STEPS):
        following = apply(vector)
        growth = float(np.linalg.norm(following))
        if growth == 0.0:
            return 0.0, start
        vector = following / growth
        if step == check:
            if abs(growth - before) < 1e-13 * growth:
                break
            before, check = growth, 2 * check
    return growth, vector


def largest_eigenvalue(apply: Callable[[FloatArray], FloatArray], start: FloatArray) -> float:
    """The largest eigenvalue of a symmetric map, by Lanczos iteration without restarts.

    Where eigenvalues crowd at the upper end (long chains), the value is right long before the vector is; methods that
    wait for the vector do not end. Stops when ten steps change the value by less than 1e-11 of it, and after 400 steps,
    when the worst crowded spectra leave an error of some 1e-8.

    Args:
        apply: the map, [size] to [size].
        start: not orthogonal to the eigenvector, shape [size].
    """
    from scipy.linalg import eigvalsh_tridiagonal

    vector = start / np.linalg.norm(start)
    earlier: FloatArray = np.zeros_like(vector)
    diagonal: list[float] = []
    beside: list[float] = []
    value = before = 0.0
    for step in range(1, _LANCZOS_STEPS + 1):
        following = apply(vector)
        diagonal.append(float(vector @ following))
        following = following - diagonal[-1] * vector - (beside[-1] * earlier if beside else 0.0)
        length = float(np.linalg.norm(following))
        ended = length < 1e-14 * abs(diagonal[0])
        if ended or step % _LANCZOS_CHECKS == 0:
            value = float(eigvalsh_tridiagonal(diagonal, beside, select="i", select_range=(step - 1, step - 1))[0])
            if ended or abs(value - before) < _LANCZOS_TOLERANCE * abs(value):
                break
            before = value
        beside.append(length)
        earlier, vector = vector, following / length
    return value
