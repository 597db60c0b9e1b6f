"""The largest learning rate that the convergence theorem of D-SGD allows on a static symmetric W.

For convex, zeta-smooth stochastic functions with L-smooth averages, n_W at decay gamma and any omega in [0, 1],

    lr <= min( beta(gamma) omega / L,  1 / (4 ((1 / n_W(gamma) + omega) zeta + L)) ),
    beta(gamma) = min over eigenvalues l != 1 of W of  l (1 - gamma l^2) / (1 + l).

The first term is what consensus allows, the second what noise allows; here omega = 1 / n_W. beta needs positive
eigenvalues; where it is not positive the bound is undefined, and (I + W) / 2 can be used in place of W. The
paper's figure is drawn with an older form,

    lr <= min( beta_2(gamma) omega / L,  1 / (((1 - omega) / n_W + omega) zeta + L) ),
    beta_2(gamma) = (1 - gamma l_2^2) / ((1 + l_2) (1 - l_M)),   l_2 the second largest, l_M the smallest eigenvalue.

Source: Vogels, Hendrikx and Jaggi, arXiv 2301.02151, theorem and figure; NeurIPS 2022 for the older form.
Departures: on irregular graphs n_W is that of the worst node.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from simulator.arrays import FloatArray

Form = Literal["theorem", "older"]

_EQUAL_TO_ONE = 1e-10


@dataclass(frozen=True)
class Bound:
    """The two terms against gamma, and where the smaller of them is largest.

    Attributes:
        gammas, num_neighbors: what was scanned, and n_W there, [G].
        consensus, noise: the two terms; consensus is NaN where beta is not positive, [G].
        lr: the largest learning rate, NaN where the bound is undefined.
        gamma, neighbors: where it is attained; NaN likewise.
    """

    gammas: FloatArray
    num_neighbors: FloatArray
    consensus: FloatArray
    noise: FloatArray
    lr: float
    gamma: float
    neighbors: float


def learning_rate_bound(
    eigenvalues: FloatArray,
    num_neighbors: Callable[[float], float],
    gammas: Sequence[float] | FloatArray,
    *,
    smoothness: float,
    zeta: float,
    form: Form = "theorem",
) -> Bound:
    """Scans gamma.

    Args:
        eigenvalues: of W, real, the eigenvalue 1 once for a connected graph.
        num_neighbors: n_W as a function of gamma.
        gammas: in [0, 1).
        smoothness: L.
        zeta: noise level.
        form: ``theorem`` or ``older``.
    """
    rest = np.sort(eigenvalues[np.abs(eigenvalues - 1.0) > _EQUAL_TO_ONE])
    scanned = np.asarray(gammas, dtype=np.float64)
    neighbors = np.array([num_neighbors(gamma) for gamma in scanned])
    omega = 1.0 / neighbors
    if form == "theorem":
        betas = np.array([_beta(rest, gamma) for gamma in scanned])
        noise = 1.0 / (4.0 * ((1.0 / neighbors + omega) * zeta + smoothness))
    else:
        betas = np.array([_older_beta(rest, gamma) for gamma in scanned])
        noise = 1.0 / (((1.0 - omega) / neighbors + omega) * zeta + smoothness)
    consensus = np.where(betas > 0.0, betas * omega / smoothness, math.nan)
    allowed = np.minimum(consensus, noise)
    if np.isnan(allowed).all():
        return Bound(scanned, neighbors, consensus, noise, math.nan, math.nan, math.nan)
    best = int(np.nanargmax(allowed))
    return Bound(
        scanned, neighbors, consensus, noise, float(allowed[best]), float(scanned[best]), float(neighbors[best])
    )


def _beta(rest: FloatArray, gamma: float) -> float:
    """Infinite for exact averaging in one round, which consensus never limits; else NaN unless positive."""
    if not len(rest):
        return math.inf
    if rest[0] <= 0.0:
        return math.nan
    return float((rest * (1.0 - gamma * rest**2) / (1.0 + rest)).min())


def _older_beta(rest: FloatArray, gamma: float) -> float:
    if not len(rest):
        return math.inf
    return float((1.0 - gamma * rest[-1] ** 2) / ((1.0 + rest[-1]) * (1.0 - rest[0])))


def high_dimension_bound(dimension: float, constant: float, *, smoothness: float, zeta: float) -> tuple[float, float]:
    """The largest rate on graphs of spectral dimension d_s > 2 with zeta much larger than L, and the n_W it needs.

    Args:
        dimension: d_s > 2.
        constant: c_s of the eigenvalue density (see :func:`simulator.topology.neighbors.bound_by_dimension`).
        smoothness: L.
        zeta: noise level.

    Raises:
        ValueError: for d_s of at most 2.
    """
    if dimension <= 2:
        raise ValueError(f"dimension={dimension}: the bound is for spectral dimensions above 2")
    factor = constant * (dimension - 2.0)
    return (factor / (zeta**2 * smoothness)) ** (1 / 3) / 8.0, (factor * zeta / smoothness) ** (1 / 3)
