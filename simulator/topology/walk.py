"""The covariance of the random walk with decaying memory that a schedule drives.

With i.i.d. standard normal xi and a decay gamma in [0, 1), the walk is z <- W_t (sqrt(gamma) z + xi). Its stationary
variance at a node, against 1 / (1 - gamma) without communication, says over how many nodes the schedule averages what
happened within the last 1 / (1 - gamma) rounds.

Doubly stochastic schedules: as above. Column-stochastic schedules: the variance of z_i / w_i, w the push-sum weights
that the schedule settles to, since only that estimates an average. Row-stochastic schedules: as above, although nodes
then agree on a weighted mean, whose variance is at least 1/M of one node's.

Source: Vogels, Hendrikx and Jaggi, "Beyond spectral gap", NeurIPS 2022 and arXiv 2301.02151 (static symmetric W).
Departures: periodic schedules are averaged over the phases, where the published code takes one.

Shapes: M nodes, T rounds of a period.
"""

import math
from abc import ABC, abstractmethod

import numpy as np

from simulator.arrays import FloatArray
from simulator.topology.invariance import InvariantSpectra
from simulator.topology.rounds import Period, congruence

_RELATIVE_PRECISION = 1e-14
_SMALLEST_WEIGHT = 1e-12  # relative rounding errors of x over it are 1e-4
_MOST_DOUBLINGS = 60
# Sums above this are those of a schedule that does not mix.
_ENDLESS = 1e13


class Walk(ABC):
    """The walk on one schedule.

    Attributes:
        num_nodes: M.
        knows_nodes: whether :meth:`variances` differ by node where they should; otherwise only the mean is right.
    """

    num_nodes: int
    knows_nodes: bool = True

    @abstractmethod
    def variances(self, gamma: float) -> FloatArray:
        """Stationary variance of every node, mean over the phases of a period, shape [M]."""

    def standard_error(self, gamma: float) -> float:
        """Of the mean of :meth:`variances` over nodes; 0 for walks that are computed exactly.

        1.96 standard errors to both sides cover the true value in 95 of 100 cases.
        """
        return 0.0

    @abstractmethod
    def distance(self) -> float:
        """sum_{k>=1} of the squared Frobenius norm of W_{t+k-1} ... W_t - J, mean over phases.

        Infinite for schedules that do not mix, NaN for schedules that are not doubly stochastic.
        """


class InvariantWalk(Walk):
    """On a schedule that looks the same from every node: all nodes have the same variance."""

    def __init__(self, spectra: InvariantSpectra) -> None:
        self.num_nodes = spectra.num_nodes
        self._powers = np.abs(spectra.eigenvalues) ** 2

    def phase_variances(self, gamma: float) -> FloatArray:
        """The common variance after every round of the period, shape [T]."""
        start, decay = np.zeros(self.num_nodes), np.ones(self.num_nodes)
        for power in self._powers:
            start = power * (gamma * start + 1.0)
            decay = decay * gamma * power
        modes = start / (1.0 - decay)
        found = np.empty(len(self._powers))
        for phase, power in enumerate(self._powers):
            modes = power * (gamma * modes + 1.0)
            found[phase] = modes.mean()
        return found

    def variances(self, gamma: float) -> FloatArray:
        return np.full(self.num_nodes, self.phase_variances(gamma).mean())

    def distance(self) -> float:
        powers = self._powers[:, 1:]
        whole = powers.prod(axis=0)
        if whole.size and whole.max() > 1.0 - 1e-13:
            return math.inf
        total = 0.0
        for start in range(len(powers)):
            rounds = np.roll(powers, -start, axis=0)
            total += float((np.cumprod(rounds, axis=0).sum(axis=0) / (1.0 - whole)).sum())
        return total / len(powers)


class SymmetricWalk(Walk):
    """On a static symmetric W, from its eigenvalues and eigenvectors.

    Attributes:
        eigenvalues: ascending, shape [M].
        squared_vectors: squared entry of every node (row) in every eigenvector, shape [M, M].
    """

    def __init__(self, matrix: FloatArray) -> None:
        self.num_nodes = len(matrix)
        self.eigenvalues, vectors = np.linalg.eigh(matrix)
        self.squared_vectors = vectors**2

    def variances(self, gamma: float) -> FloatArray:
        squares = self.eigenvalues**2
        found: FloatArray = self.squared_vectors @ (squares / (1.0 - gamma * squares))
        return found

    def distance(self) -> float:
        squares = np.sort(self.eigenvalues**2)[:-1]
        if squares.size and squares[-1] > 1.0 - 1e-13:
            return math.inf
        return float((squares / (1.0 - squares)).sum())


class PeriodicWalk(Walk):
    """On any schedule with a period, by doubling the number of periods.

    The powers of the product over a period do not depend on gamma and are kept. Once a power has equal rows, all later
    ones are the same and the rest of the series is summed in closed form; so fast mixing schedules need few powers.

    Raises:
        ValueError: when push-sum weights are so unequal that rounding errors decide the results.
    """

    def __init__(self, period: Period) -> None:
        self.num_nodes = period.num_nodes
        self.period = period
        if np.asarray(period.weights).min() < _SMALLEST_WEIGHT:
            raise self._too_unequal()
        self._rounds = [period.averaging(phase) for phase in range(len(period.matrices))]
        product: FloatArray = np.eye(self.num_nodes)
        for matrix in self._rounds:
            product = matrix @ product
        self._powers: list[FloatArray] = [product]

    def covariance(self, gamma: float, phase: int) -> FloatArray:
        """Stationary covariance after round ``phase`` of the period, [M, M]."""
        found = self._after_a_period(gamma)
        for step in range(phase + 1):
            found = self._advance(found, gamma, step)
        return found

    def phase_variances(self, gamma: float) -> FloatArray:
        """The variance of every node after every round of the period, shape [T, M]."""
        found, moments = np.empty((len(self._rounds), self.num_nodes)), self._after_a_period(gamma)
        for phase in range(len(self._rounds)):
            moments = self._advance(moments, gamma, phase)
            found[phase] = moments.diagonal()
        return found

    def variances(self, gamma: float) -> FloatArray:
        found: FloatArray = self.phase_variances(gamma).mean(axis=0)
        return found

    def distance(self) -> float:
        if self.period.stochasticity != "double":
            return math.nan
        apart = np.eye(self.num_nodes) - 1.0 / self.num_nodes
        total: FloatArray = np.zeros_like(apart)
        for matrix in self._rounds:
            total = congruence(matrix, total + apart)
        product = self._powers[0] - 1.0 / self.num_nodes
        for _ in range(_MOST_DOUBLINGS):
            if float(np.square(product).sum()) < _RELATIVE_PRECISION**2:
                break
            total = total + congruence(product, total)
            product = product @ product
            if np.trace(total) > _ENDLESS:
                return math.inf
        sums = 0.0
        for matrix in self._rounds:
            total = congruence(matrix, total + apart)
            sums += float(np.trace(total))
        return sums / len(self._rounds)

    def _noise(self, phase: int) -> FloatArray:
        return np.asarray(1.0 / self.period.weights[phase] ** 2)

    def _advance(self, moments: FloatArray, gamma: float, phase: int) -> FloatArray:
        injected = gamma * moments
        injected.flat[:: self.num_nodes + 1] += self._noise(phase)
        return congruence(self._rounds[phase], injected)

    def _after_a_period(self, gamma: float) -> FloatArray:
        moments: FloatArray = np.zeros((self.num_nodes, self.num_nodes))
        for phase in range(len(self._rounds)):
            moments = self._advance(moments, gamma, phase)
        factor = gamma ** len(self._rounds)
        for level in range(_MOST_DOUBLINGS):
            power = self._power(level)
            mean = power.mean(axis=0)
            if np.abs(power - mean).max() < _RELATIVE_PRECISION:
                rest = factor / (1.0 - factor) * float(mean @ moments @ mean)
                return moments + rest
            increment = factor * congruence(power, moments)
            moments = moments + increment
            if np.trace(increment) <= _RELATIVE_PRECISION * np.trace(moments):
                return moments
            factor = factor**2
        raise self._too_unequal()

    def _too_unequal(self) -> ValueError:
        smallest = np.asarray(self.period.weights).min(axis=0)
        return ValueError(
            f"push-sum weights are too unequal to analyse this schedule: node {int(smallest.argmin())} falls to "
            f"{max(float(smallest.min()), 0.0):.3g}, where 1 is the mean; use doubly stochastic weights "
            "(graph.weights=metropolis, or sinkhorn where edges are directed)"
        )

    def _power(self, level: int) -> FloatArray:
        while len(self._powers) <= level:
            self._powers.append(self._powers[-1] @ self._powers[-1])
        return self._powers[level]
