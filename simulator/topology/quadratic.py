"""D-SGD on isotropic random quadratics: exact convergence rates, best learning rates, times to a target.

The objective is ||x||^2 / 2 with stochastic gradients a a' x, a ~ N(0, I_d): linear regression without label noise. The
noise level is zeta = sup E||g(x)||^2 / ||x||^2 = (1 + b + d) / b for minibatches of b. The second moments
C_ij = E<x_i, x_j> obey

    C <- W ((1 - lr)^2 C + (zeta - 1) lr^2 Diag(diag C)) W'                                                        (*)

for every W; the rate r is what E||x_i||^2 loses per round in the long run, (1 - r)^T the spectral radius of (*) over a
period. r <= 0 means divergence. With column-stochastic W the gradient is taken at x_i / w_i as push-sum does, where lr
becomes lr / w_i. On vertex-transitive schedules, where every variance of the walk is the same at all nodes and phases,
r also solves the scalar equation

    r = 1 - (1 - lr)^2 - (zeta - 1) lr^2 / n_W((1 - lr)^2 / (1 - r)),

in which n_W takes the place of the number of nodes; for schedules of independent exchangeable rounds it holds for the
mean over schedules.

Source: Vogels, Hendrikx and Jaggi, "Beyond spectral gap", NeurIPS 2022 and arXiv 2301.02151.
Departures: irregular graphs exactly, by (*); column-stochastic schedules.

Shapes: M nodes, T rounds of a period.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from simulator.arrays import FloatArray
from simulator.topology.eigenvalues import largest_eigenvalue, spectral_radius
from simulator.topology.invariance import InvariantSpectra
from simulator.topology.rounds import Period, congruence

_BOUNDED_PRECISION = 1e-5


def noise_level(dimension: int, batch_size: int = 1) -> float:
    """The zeta of minibatches of ``batch_size`` samples in ``dimension`` dimensions."""
    return (1.0 + batch_size + dimension) / batch_size


def _per_round(radius: float, num_rounds: int) -> float:
    """r, when (*) over ``num_rounds`` rounds has this spectral radius."""
    return 1.0 - float(radius ** (1.0 / num_rounds))


class Rates(ABC):
    """r as a function of the learning rate, for one schedule and one zeta."""

    @abstractmethod
    def rate(self, lr: float) -> float:
        """r; not positive where D-SGD diverges."""


class MomentRates(Rates):
    """From (*) on M x M matrices: exact for every schedule with a period."""

    def __init__(self, period: Period, zeta: float) -> None:
        self._period = period
        self._zeta = zeta
        # Inside the cone: some agreement, and some variance of a node's own.
        self._start = np.ones(period.num_nodes**2) + np.eye(period.num_nodes).ravel()
        single = period.matrices[0]
        self._is_symmetric = len(period.matrices) == 1 and abs(single - single.T).max() < 1e-12

    def advance(self, moments: FloatArray, lr: float) -> FloatArray:
        """C after one period, [M, M]."""
        for matrix, weights in zip(self._period.matrices, self._period.weights, strict=True):
            kept = 1.0 - lr / weights
            noise = (self._zeta - 1.0) * (lr / weights) ** 2 * moments.diagonal()
            moments = moments * kept[:, None] * kept
            moments.flat[:: len(moments) + 1] += noise
            moments = congruence(matrix, moments)
        return moments

    def rate(self, lr: float) -> float:
        if self._is_symmetric:
            return 1.0 - self._symmetric_radius(lr)
        shape = (self._period.num_nodes, self._period.num_nodes)
        radius, self._start = spectral_radius(lambda c: self.advance(c.reshape(shape), lr).ravel(), self._start)
        return _per_round(radius, len(self._period.matrices))

    def _symmetric_radius(self, lr: float) -> float:
        """(*) is C <- W (S o C) W with entrywise factors S, and similar to the symmetric S^1/2 o (W (S^1/2 o C) W)."""
        (matrix,), num_nodes = self._period.matrices, self._period.num_nodes
        own, other = np.sqrt((1.0 - lr) ** 2 + (self._zeta - 1.0) * lr**2), abs(1.0 - lr)

        def scale(moments: FloatArray) -> FloatArray:
            scaled = other * moments
            scaled.flat[:: num_nodes + 1] = own * moments.diagonal()
            return scaled

        def apply(flat: FloatArray) -> FloatArray:
            return scale(congruence(matrix, scale(flat.reshape(num_nodes, num_nodes)))).ravel()

        return largest_eigenvalue(apply, self._start)


class InvariantRates(Rates):
    """From the Fourier transform of (*) on an invariant schedule: exact, at any size.

    A character obeys c <- p_t ((1 - lr)^2 c + (zeta - 1) lr^2 m_t), p_t its squared eigenvalue and m_t the mean of c
    over characters before round t. Where a period multiplies all by rho, the T means obey m = B(rho) m with a positive
    matrix B, whose spectral radius falls with rho: the rho at which it is 1 is the spectral radius of (*).
    """

    def __init__(self, spectra: InvariantSpectra, zeta: float) -> None:
        self._zeta = zeta
        powers = np.abs(spectra.eigenvalues) ** 2
        period = len(powers)
        # passed[t, j]: what the characters keep of an injection in round t after it and j further rounds.
        passed = [np.cumprod(np.roll(powers, -start, axis=0), axis=0) for start in range(period)]
        self._passed = np.stack(passed)
        self._whole = powers.prod(axis=0)

    def rate(self, lr: float) -> float:
        from scipy.optimize import brentq

        period = len(self._passed)
        kept, noise = (1.0 - lr) ** 2, (self._zeta - 1.0) * lr**2
        least, most = kept**period, (kept + noise) ** period

        def excess(log_above: float) -> float:
            radius = least + math.exp(log_above)
            share = 1.0 / (1.0 - self._whole * (kept**period / radius))
            means = np.empty((period, period))
            for start in range(period):
                for further in range(period):
                    phase = start + further + 1
                    arriving = noise * kept**further * float((self._passed[start, further] * share).mean())
                    means[phase % period, start] = arriving / (radius if phase >= period else 1.0)
            return float(np.abs(np.linalg.eigvals(means)).max()) - 1.0

        high = math.log(most - least)
        if excess(high) >= 0.0:  # it is 0 there, up to rounding, when nothing is averaged
            return _per_round(most, period)
        low = high - 1.0
        while excess(low) < 0.0:
            low -= 1.0
            if low < high - 80.0:  # noise does not matter
                return lr * (2.0 - lr)
        above = math.exp(brentq(excess, low, high, xtol=1e-13, rtol=1e-13))
        return _per_round(least + above, period)


class ScalarRates(Rates):
    """From the scalar equation: exact for vertex-transitive schedules, else an approximation.

    Args:
        num_neighbors: n_W as a function of gamma in [0, 1), between 1 and M.
        zeta: noise level.
    """

    def __init__(self, num_neighbors: Callable[[float], float], zeta: float) -> None:
        self._num_neighbors = num_neighbors
        self._zeta = zeta

    def rate(self, lr: float) -> float:
        from scipy.optimize import brentq

        kept, noise = (1.0 - lr) ** 2, (self._zeta - 1.0) * lr**2
        if kept == 0.0:
            return 1.0 - noise / self._num_neighbors(0.0)

        def excess(log_gamma_rest: float) -> float:
            """The right-hand side minus r at gamma = 1 - exp(-u); falls as gamma grows."""
            gamma = -math.expm1(-log_gamma_rest)
            return (1.0 - kept - noise / self._num_neighbors(gamma)) - (1.0 - kept / gamma)

        # gamma = (1-lr)^2 / (1-r) is kept / (kept + noise) where nothing is averaged, and nearly 1 where all is.
        low = -math.log1p(-kept / (kept + noise))
        if excess(low) <= 0.0:  # it is 0 there, up to rounding, when nothing is averaged
            return 1.0 - kept - noise
        high = low + 1.0
        while excess(high) > 0.0:
            high += 1.0
            if high > 34.0:  # gamma rounds to 1: noise does not matter
                return 1.0 - kept
        root = brentq(excess, low, high, xtol=1e-13, rtol=1e-13)
        return 1.0 - kept / -math.expm1(-root)


@dataclass(frozen=True)
class Tuned:
    """The best learning rate.

    Attributes:
        lr, rate: the best learning rate and its r.
        lrs, rates: the grid that was looked at.
    """

    lr: float
    rate: float
    lrs: FloatArray
    rates: FloatArray


def tune(rates: Rates, lrs: Sequence[float] | FloatArray) -> Tuned:
    """The best of ascending learning rates, refined by a bounded search between its neighbours on the grid."""
    from scipy.optimize import minimize_scalar

    grid = np.asarray(lrs, dtype=np.float64)
    found = np.array([rates.rate(lr) for lr in grid])
    best = int(np.argmax(found))
    ends = np.log(grid[max(best - 1, 0)]), np.log(grid[min(best + 1, len(grid) - 1)])
    if ends[0] == ends[1]:
        return Tuned(float(grid[best]), float(found[best]), grid, found)
    refined = minimize_scalar(
        lambda log_lr: -rates.rate(math.exp(log_lr)),
        bounds=ends,
        method="bounded",
        options={"xatol": _BOUNDED_PRECISION},
    )
    if -refined.fun < found[best]:
        return Tuned(float(grid[best]), float(found[best]), grid, found)
    return Tuned(math.exp(refined.x), float(-refined.fun), grid, found)


def steps_to_target(rate: float, target: float) -> float:
    """Rounds until E||x_i||^2 is ``target`` times what it was; infinite where it does not shrink."""
    if not 0 < target < 1:
        raise ValueError(f"target={target}: expected a number between 0 and 1")
    if rate <= 0:
        return math.inf
    return math.log(target) / math.log1p(-rate) if rate < 1 else 1.0


def rate_alone(lr: float, zeta: float) -> float:
    """The rate of a single node; best at lr = 1 / zeta, where it is 1 / zeta."""
    return 1.0 - (1.0 - lr) ** 2 - (zeta - 1.0) * lr**2


def rate_complete(lr: float, zeta: float, num_nodes: int) -> float:
    """The rate of exact averaging in every round; best at lr = M / (M + zeta - 1), where it is the same."""
    return 1.0 - (1.0 - lr) ** 2 - (zeta - 1.0) * lr**2 / num_nodes


def anisotropic_rate(period: Period, lr: float, variances: Sequence[float], batch_size: int = 1) -> float:
    """The rate for a ~ N(0, diag(s)) and minibatches of b; equal s of 1 give (*) with zeta - 1 = (d + 1) / b.

    Args:
        period: a schedule that is not column-stochastic.
        lr: learning rate.
        variances: s_k > 0, shape [d].
        batch_size: b.

    Raises:
        ValueError: for column-stochastic schedules and variances that are not positive.
    """
    if period.stochasticity == "column":
        raise ValueError("rates on features of unlike variances are for row- or doubly stochastic schedules")
    s = np.asarray(variances, dtype=np.float64)
    if s.ndim != 1 or not len(s) or s.min() <= 0:
        raise ValueError(f"feature variances {list(variances)}: expected positive numbers")
    num_nodes = period.num_nodes
    shape = (len(s), num_nodes, num_nodes)

    def advance(flat: FloatArray) -> FloatArray:
        moments = flat.reshape(shape)
        for matrix in period.matrices:
            own = np.diagonal(moments, axis1=1, axis2=2)
            noise = lr**2 / batch_size * (s[:, None] ** 2 * own + s[:, None] * (s @ own))
            kept = (1.0 - lr * s)[:, None, None] ** 2 * moments
            kept[:, np.arange(num_nodes), np.arange(num_nodes)] += noise
            moments = np.stack([congruence(matrix, feature) for feature in kept])
        return moments.ravel()

    start = np.tile(np.eye(num_nodes).ravel(), len(s))
    return _per_round(spectral_radius(advance, start)[0], len(period.matrices))
