"""The spectral radius of a linear map that keeps a cone of positive vectors, known only by what it does to a vector."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

_LARGEST_DENSE = 64
_TOLERANCE = 1e-11
_MOST_STEPS = 100_000


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
