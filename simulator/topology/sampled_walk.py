"""The walk where no exact way exists or is affordable: products of sampled rounds, with standard errors.

Given the rounds, the covariance of the walk is the sum over k >= 1 of gamma^(k-1) P_k P_k', P_k the product of the last
k matrices; only the rounds are drawn, never the noise. Independent stretches of the schedule give independent values of
the squared row norms of P_k, and one set of them serves every gamma. There are at least eight, less a remainder where a
schedule has fewer phases, so that each has as many; their standard error has the factor t / 1.96, t the quantile 0.975
of Student's distribution with R - 1 degrees of freedom, so that 1.96 standard errors to both sides cover the value in
95 of 100 cases.

Every stretch is as long as the slowest of them needs to bring everything within 1e-7 of agreement; from there on P_k is
J, and the rest of the series is summed in closed form (row-stochastic schedules: the mean of the last quarter is
carried on). Where the stretch reaches its longest before that, gammas whose remainder matters are NaN.

Small schedules take whole matrices (P_k for every node). For large ones P_k is multiplied with random signs, which
gives the mean over nodes only; this also serves large static graphs.

Shapes: M nodes, K rounds of a stretch, R stretches, B columns.
"""

import math

import numpy as np

from simulator.arrays import FloatArray
from simulator.graphs.base import Graph
from simulator.randomness import generator
from simulator.topology.rounds import as_matrix
from simulator.topology.walk import Walk

_AGREEMENT = 1e-7
_NUM_PROBES = 16
_FEWEST_STRETCHES = 8
_NORMAL_QUANTILE = 1.959964
_LARGEST_REMAINDER = 1e-3


class SampledWalk(Walk):
    """The walk on any schedule.

    Args:
        graph: the schedule.
        num_samples: stretches at most, at least 8.
        max_rounds: rounds in all stretches together; a single one takes at most an eighth of them.
        by_node: whole matrices instead of random signs.

    Attributes:
        rounds_to_agreement: K.
        agrees: whether K rounds of every stretch bring the nodes within 1e-7 of agreement.
    """

    def __init__(self, graph: Graph, *, num_samples: int, max_rounds: int, by_node: bool) -> None:
        self.num_nodes = graph.num_nodes
        self.knows_nodes = by_node
        self._graph = graph
        longest, period = max(max_rounds // _FEWEST_STRETCHES, 1), graph.period or 1
        # Stretches of a periodic schedule end in every phase in turn.
        stride = math.ceil(longest / period) * period
        lasts = [stretch * stride + longest - 1 + stretch % period for stretch in range(num_samples)]
        length, self.agrees = _rounds_to_agreement(graph, lasts[0], longest)
        stretches = int(np.clip(max_rounds // length, _FEWEST_STRETCHES, num_samples))
        # Random stretches need unlike numbers of rounds; those of a periodic schedule repeat.
        for last in lasts[1 : stretches if graph.period is None else min(stretches, period)]:
            rounds, agrees = _rounds_to_agreement(graph, last, longest)
            length, self.agrees = max(length, rounds), self.agrees and agrees
        self.rounds_to_agreement = length
        stretches = int(np.clip(max_rounds // length, _FEWEST_STRETCHES, stretches))
        if stretches > period:
            stretches -= stretches % period  # every phase as often
        sums, self._means = np.zeros((length, self.num_nodes)), np.empty((stretches, length))
        for stretch, last in enumerate(lasts[:stretches]):
            squares = self._row_squares(last - length + 1, length, stretch)
            sums += squares / stretches
            self._means[stretch] = squares.mean(axis=1)
        self._squares = sums

    def variances(self, gamma: float) -> FloatArray:
        found: FloatArray = self._series(self._squares.T, gamma)
        return found

    def standard_error(self, gamma: float) -> float:
        # Imported here: SciPy's statistics take a second to import, and only sampled walks use them.
        from scipy import stats

        values = self._series(self._means, gamma)
        widening = float(stats.t.ppf(0.975, len(values) - 1)) / _NORMAL_QUANTILE
        return widening * float(values.std(ddof=1) / np.sqrt(len(values)))

    def distance(self) -> float:
        if self._graph.stochasticity != "double":
            return math.nan
        if not self.agrees:
            return math.inf
        return float((self._means.mean(axis=0) * self.num_nodes - 1.0).sum())

    def _series(self, squares: FloatArray, gamma: float) -> FloatArray:
        """sum_k gamma^(k-1) squares[..., k], with what follows the last k."""
        length = squares.shape[-1]
        total: FloatArray = squares @ gamma ** np.arange(length)
        limit = squares[..., -max(length // 4, 1) :].mean(axis=-1)
        if self.agrees and self._graph.stochasticity != "row":
            limit = np.full_like(limit, 1.0 / self.num_nodes)
        remainder = gamma**length / (1.0 - gamma) * limit
        if not self.agrees and np.max(remainder) > _LARGEST_REMAINDER * np.mean(total):
            return np.full_like(total, math.nan)
        return np.asarray(total + remainder)

    def _row_squares(self, first: int, length: int, stretch: int) -> FloatArray:
        """Squared row norms of P_1 .. P_K for the rounds ``first`` .. first + K - 1, shape [K, M].

        Random signs give the mean over nodes, in every column.
        """
        graph = self._graph
        weights = np.ones(self.num_nodes)
        if graph.stochasticity == "column":
            for step in range(first, first + length):
                weights = as_matrix(graph.edges(step), self.num_nodes) @ weights
        exact = graph.stochasticity == "double" and not self.knows_nodes
        if self.knows_nodes:
            columns = np.diag(1.0 / weights)
        else:
            signs = generator(graph.seed, "topology/signs", step=stretch).integers(
                0, 2, size=(self.num_nodes, _NUM_PROBES)
            )
            columns = (2.0 * signs - 1.0) / weights[:, None]
            if exact:  # J is known; the signs are for what differs from it
                columns -= columns.mean(axis=0)
        found = np.empty((length, self.num_nodes))
        for number in range(length):
            columns = as_matrix(graph.edges(first + length - 1 - number), self.num_nodes).T @ columns
            squares = np.square(columns).sum(axis=0)
            if not self.knows_nodes:
                squares = np.full(self.num_nodes, squares.mean() / self.num_nodes + exact / self.num_nodes)
            found[number] = squares
        return found


def _rounds_to_agreement(graph: Graph, last: int, most: int) -> tuple[int, bool]:
    """Rounds up to ``last`` whose product P_k brings values within 1e-7 of agreement, and whether ``most`` do.

    The rounds are taken backwards, as P_k grows. Taken forwards they would end with the round that completes the
    agreement, which is not a round like any other: the walk would see the schedule agree too fast.
    With ones and random x, (P_k' x) / (P_k' 1) has equal entries once P_k has equal rows, or rows in proportion to the
    push-sum weights.
    """
    values = generator(graph.seed, "topology/agreement").standard_normal((graph.num_nodes, 8))
    weights = np.ones((graph.num_nodes, 1))
    first = float(np.abs(values - values.mean(axis=0)).max())
    for number in range(most):
        matrix = as_matrix(graph.edges(last - number), graph.num_nodes).T
        values, weights = matrix @ values, matrix @ weights
        heard = weights[:, 0] > 0  # the others reach nobody
        ratios = values[heard] / weights[heard]
        if np.abs(ratios - ratios.mean(axis=0)).max() <= _AGREEMENT * first:
            return number + 1, True
    return most, False
