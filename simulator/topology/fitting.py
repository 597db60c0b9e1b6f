"""One decay gamma for many schedules: the one at which their losses are a function of n_W(gamma).

Runs with exact averaging of n = 1, 2, 4, ... nodes give a reference curve n -> loss, linear in log2 n between them. A
schedule's loss is predicted as that of n_W(gamma) exactly averaging nodes; gamma minimises the squared errors in loss.

Source: Vogels, Hendrikx and Jaggi, "Beyond spectral gap", NeurIPS 2022, which fits gamma = 0.951 to VGG-11 on CIFAR-10.
Departures: the paper does not say how it fits; least squares is ours.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from simulator.arrays import FloatArray

_LARGEST_EXPONENT = 6.0
_GRID_SIZE = 241


@dataclass(frozen=True)
class DecayFit:
    """A fitted decay.

    Attributes:
        gamma: in [0, 1).
        num_neighbors: n_W(gamma) of every schedule, [S].
        predicted: loss of the reference curve there, [S].
        error: root of the mean squared error in loss.
    """

    gamma: float
    num_neighbors: FloatArray
    predicted: FloatArray
    error: float


def fit_decay(
    losses: Sequence[float] | FloatArray,
    num_neighbors: Sequence[Callable[[float], float]],
    reference: Mapping[int, float],
) -> DecayFit:
    """Fits one gamma to the losses of several schedules.

    Args:
        losses: of every schedule, [S].
        num_neighbors: n_W of every schedule as a function of gamma.
        reference: number of exactly averaging nodes to loss, two sizes or more; beyond them the ends are kept.

    Raises:
        ValueError: when lengths differ or there are too few sizes.
    """
    wanted = np.asarray(losses, dtype=np.float64)
    if len(wanted) != len(num_neighbors) or not len(wanted):
        raise ValueError(f"{len(wanted)} losses and {len(num_neighbors)} schedules: expected as many, at least one")
    if len(reference) < 2 or min(reference) < 1:
        raise ValueError(f"reference sizes {sorted(reference)}: expected two or more, from 1 on")
    sizes = np.log2(np.array(sorted(reference), dtype=np.float64))
    heights = np.array([reference[size] for size in sorted(reference)])

    def neighbors_at(exponent: float) -> FloatArray:
        return np.array([function(1.0 - 10.0**-exponent) for function in num_neighbors])

    def squared_error(exponent: float) -> float:
        return float(np.square(np.interp(np.log2(neighbors_at(exponent)), sizes, heights) - wanted).sum())

    gamma = 1.0 - 10.0 ** -smallest(squared_error)
    found = np.array([function(gamma) for function in num_neighbors])
    predicted = np.interp(np.log2(found), sizes, heights)
    return DecayFit(gamma, found, predicted, float(np.sqrt(np.square(predicted - wanted).mean())))


def smallest(cost: Callable[[float], float]) -> float:
    """The x = -log10(1 - gamma) in [0, 6] with the least cost: a grid, then a bounded search around its best point."""
    from scipy.optimize import minimize_scalar

    grid = np.linspace(0.0, _LARGEST_EXPONENT, _GRID_SIZE)
    costs = [cost(float(x)) for x in grid]
    best = int(np.argmin(costs))
    bounds = grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)]
    refined = minimize_scalar(cost, bounds=bounds, method="bounded", options={"xatol": 1e-9})
    return float(refined.x) if refined.fun <= costs[best] else float(grid[best])


def rank_correlation(first: Sequence[float] | FloatArray, second: Sequence[float] | FloatArray) -> float:
    """Spearman's: the correlation of ranks, ties at their mean rank; NaN where one side does not vary."""
    from scipy.stats import rankdata

    ranks = rankdata(np.asarray(first)), rankdata(np.asarray(second))
    if len(ranks[0]) != len(ranks[1]):
        raise ValueError(f"{len(ranks[0])} and {len(ranks[1])} values: ranks of unlike numbers cannot be compared")
    if np.ptp(ranks[0]) == 0 or np.ptp(ranks[1]) == 0:
        return float("nan")
    return float(np.corrcoef(*ranks)[0, 1])
