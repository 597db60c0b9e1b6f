"""How alike the nodes' parameters are in training, against how alike the walk of decay gamma makes them.

From one state, training is repeated R times with other minibatches; some coordinates of the parameters are recorded at
the end. The covariance between nodes i and j over repetitions, mean over coordinates and over its mean diagonal, is
compared with the walk's covariance, normalised likewise; gamma minimises the Frobenius distance.

Source: Vogels, Hendrikx and Jaggi, "Beyond spectral gap", NeurIPS 2022, the experiment on covariances in deep learning.
Departures: the published code records and does not analyse; the fit is ours.

Shapes: R repetitions, M nodes, P coordinates.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from simulator.arrays import FloatArray
from simulator.graphs.base import Graph
from simulator.topology.fitting import smallest
from simulator.topology.rounds import as_matrix, period_of
from simulator.topology.walk import PeriodicWalk


@dataclass(frozen=True)
class CovarianceFit:
    """A fitted decay.

    Attributes:
        gamma: in [0, 1).
        num_neighbors: n_W(gamma), from the mean variance in the phase that was recorded.
        distance: Frobenius norm of the difference, over that of the measured covariance.
    """

    gamma: float
    num_neighbors: float
    distance: float


def sample_covariance(records: npt.ArrayLike) -> FloatArray:
    """Covariance between nodes over repetitions, mean over coordinates, [M, M].

    Args:
        records: parameters of the nodes, [R, M, P], R of at least 2.

    Raises:
        ValueError: for another shape.
    """
    values = np.asarray(records, dtype=np.float64)
    if values.ndim != 3 or len(values) < 2:
        raise ValueError(f"records of shape {values.shape}: expected [repetitions, nodes, coordinates], 2 or more")
    centred = values - values.mean(axis=0)
    found: FloatArray = np.einsum("rip,rjp->ij", centred, centred) / ((len(values) - 1) * values.shape[2])
    return found


def normalized(covariance: FloatArray) -> FloatArray:
    """Over the mean of its diagonal."""
    return np.asarray(covariance / covariance.diagonal().mean())


def walk_covariance(graph: Graph, last_round: int) -> Callable[[float], FloatArray]:
    """The walk's stationary covariance [M, M] after round ``last_round`` as a function of gamma.

    Raises:
        ValueError: for a schedule without a period.
    """
    walk = PeriodicWalk(period_of(graph))
    phase = last_round % len(walk.period.matrices)
    return lambda gamma: walk.covariance(gamma, phase)


def recent_walk_covariance(graph: Graph, rounds: range) -> Callable[[float], FloatArray]:
    """The walk's covariance [M, M] after some rounds of any schedule as a function of gamma.

    With P_k the product of the last k of K rounds it is sum_{k<=K} gamma^(k-1) P_k P_k' and, as if nothing that is
    older were mixed any further, gamma^K / (1 - gamma) P_K P_K': exact where the rounds end in agreement.
    """
    product: FloatArray = np.eye(graph.num_nodes)
    squares = []
    for step in reversed(rounds):
        product = product @ as_matrix(graph.edges(step), graph.num_nodes)
        squares.append(product @ product.T)
    stacked = np.stack(squares)

    def covariance(gamma: float) -> FloatArray:
        shares = gamma ** np.arange(len(stacked))
        shares[-1] /= 1.0 - gamma
        found: FloatArray = np.tensordot(shares, stacked, axes=1)
        return found

    return covariance


def fit_covariance(measured: FloatArray, walk: Callable[[float], FloatArray]) -> CovarianceFit:
    """The gamma whose covariance is nearest to a measured one, both over their mean diagonals.

    Args:
        measured: covariance between nodes, [M, M].
        walk: the walk's covariance as a function of gamma, see :func:`walk_covariance`.
    """
    wanted = normalized(measured)

    def distance(exponent: float) -> float:
        return float(np.linalg.norm(normalized(walk(1.0 - 10.0**-exponent)) - wanted))

    exponent = smallest(distance)
    gamma = 1.0 - 10.0**-exponent
    neighbors = 1.0 / ((1.0 - gamma) * float(walk(gamma).diagonal().mean()))
    return CovarianceFit(gamma, neighbors, distance(exponent) / float(np.linalg.norm(wanted)))
