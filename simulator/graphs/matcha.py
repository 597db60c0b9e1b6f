"""MATCHA: random matchings of a base graph, the important ones more often.

Definition: the base's edges are decomposed into m matchings with Laplacians L_1, ..., L_m, m at most its largest
degree + 1. In round t matching j is on if u < p_j with a fresh u ~ U[0, 1), independently: B_j = 1, else 0;
W_t = I - alpha sum_j B_j L_j.

    p      maximises lambda_2(sum_j p_j L_j) over 0 <= p_j <= 1, sum_j p_j <= budget * m
    alpha  minimises rho(E W_t'W_t - J),  E W_t'W_t = I - 2 alpha S + alpha^2 (S^2 + 2 sum_j p_j (1 - p_j) L_j),
           S = sum_j p_j L_j

Undirected, doubly stochastic. A node's own weight may be negative where several of its matchings are on.
Sends: sum_j p_j messages per node and round on average (fewer where a matching leaves the node out).
Source: Wang, Sahu, Yang, Joshi and Kar, "MATCHA: speeding up decentralized SGD via matching decomposition sampling",
ICC 2019 (arXiv 1905.09435).
Departures: p is found by cutting planes instead of a general convex solver.
"""

from functools import cached_property

import numpy as np

from simulator.arrays import FloatArray, IntArray
from simulator.checks import require_within
from simulator.graphs.base import Edges, Graph
from simulator.graphs.edge_colouring import matchings
from simulator.graphs.pairs import edges_of_pairs, joined
from simulator.graphs.support import count_components
from simulator.randomness import uniforms

_RELATIVE_GAP = 1e-5
_MAX_CUTTING_PLANES = 1000
_ROUNDS_KEPT = 20


class Matcha(Graph):
    """Matchings of a base graph that are on at random.

    Args:
        base: a connected, static and undirected graph; its weights are not used.
        budget: of the matchings that are on at once, the expected share, in (0, 1].

    Raises:
        ValueError: when ``budget`` is out of range; from ``edges``, when the base is not static, undirected
            and connected.
    """

    directed = False
    stochasticity = "double"

    def __init__(self, *, base: Graph, budget: float, seed: int = 0) -> None:
        super().__init__(num_nodes=base.num_nodes, seed=seed)
        require_within("graph.budget", budget, "(0, 1]")
        self.base = base
        self.budget = budget
        self.parts = (base,)

    @property
    def description(self) -> str:
        """The schedule and its base."""
        return f"Matcha over {self.base.description}"

    @property
    def period(self) -> None:
        """Rounds are independent: there is no period."""
        return None

    @cached_property
    def matchings(self) -> list[tuple[IntArray, IntArray]]:
        """The decomposition: both nodes of every pair of every matching."""
        if self.base.directed or self.base.period != 1:
            raise ValueError(f"graph.base: MATCHA needs a static undirected graph, and {self.base.description} is not")
        edges = self.base.edges(0)
        if count_components((edges.source, edges.target), self.num_nodes)[0] > 1:
            raise ValueError(f"graph.base: MATCHA needs a connected graph, and {self.base.description} is not")
        upper = edges.source < edges.target
        return matchings(edges.source[upper], edges.target[upper], self.num_nodes)

    @cached_property
    def laplacians(self) -> FloatArray:
        """L_j, shape [m, M, M]."""
        found = np.zeros((len(self.matchings), self.num_nodes, self.num_nodes))
        for laplacian, (first, second) in zip(found, self.matchings, strict=True):
            laplacian[first, first] = laplacian[second, second] = 1.0
            laplacian[first, second] = laplacian[second, first] = -1.0
        return found

    @cached_property
    def probabilities(self) -> FloatArray:
        """p, shape [m]."""
        return best_probabilities(self.matchings, self.laplacians, self.budget)

    @cached_property
    def alpha(self) -> float:
        """The weight of an edge that is on."""
        return best_alpha(self.probabilities, self.laplacians)

    def edges(self, step: int) -> Edges:
        """The matchings that are on in round ``step``."""
        if self.num_nodes == 1:
            return edges_of_pairs(joined([]), 1)
        draws = uniforms(self.seed, "graph/matcha", np.arange(len(self.matchings)), step, 1)[:, 0]
        active = [pairs for pairs, on in zip(self.matchings, draws < self.probabilities, strict=True) if on]
        pairs = joined([(first, second, np.full(len(first), self.alpha)) for first, second in active])
        return edges_of_pairs(pairs, self.num_nodes)


def best_probabilities(pairs: list[tuple[IntArray, IntArray]], laplacians: FloatArray, budget: float) -> FloatArray:
    """Maximises lambda_2(sum_j p_j L_j), concave in p, to a relative 1e-5, by cutting planes.

    Every unit vector v orthogonal to 1 bounds it from above by sum_j p_j v'L_j v. A linear program maximises the least
    of the bounds that are known; the eigenvectors of the smallest eigenvalues where it does give the next ones. Bounds
    that have been slack for a while are dropped.

    Args:
        pairs: the matchings of a connected graph.
        laplacians: theirs, shape [m, M, M].
        budget: largest mean of p.
    """
    # Imported here because most runs never need it.
    from scipy.optimize import linprog

    count, num_nodes = laplacians.shape[:2]
    best = current = np.full(count, budget)
    lower, upper, unit = -np.inf, np.inf, 0.0
    bounds, slack_for = np.empty((0, count)), np.empty(0, dtype=np.int64)
    for _ in range(_MAX_CUTTING_PLANES):
        # The vector of ones gets the eigenvalue 2M, above all others.
        values, vectors = np.linalg.eigh(np.tensordot(current, laplacians, 1) + 2.0)
        if values[0] > lower:
            lower, best = float(values[0]), current
        if lower >= (1.0 - _RELATIVE_GAP) * upper:
            break
        unit = unit or lower  # the tolerances of the linear program are absolute
        lowest = vectors[:, : min(num_nodes - 1, max(3, count // 2))]
        added = np.array([((lowest[first] - lowest[second]) ** 2).sum(axis=0) for first, second in pairs]).T
        bounds = np.concatenate([bounds, added / unit])
        slack_for = np.concatenate([slack_for, np.zeros(len(added), dtype=np.int64)])
        # Variables: p, and the least bound in that unit.
        program = linprog(
            np.append(np.zeros(count), -1.0),
            A_ub=np.block([[-bounds, np.ones((len(bounds), 1))], [np.ones((1, count)), np.zeros((1, 1))]]),
            b_ub=np.append(np.zeros(len(bounds)), budget * count),
            bounds=[(0.0, 1.0)] * count + [(0.0, None)],
            method="highs",
        )
        assert program.status == 0, program.message
        upper = min(upper, -program.fun * unit)
        current = np.clip(program.x[:-1], 0.0, 1.0)
        slack_for = np.where(program.ineqlin.residual[:-1] < _RELATIVE_GAP, 0, slack_for + 1)
        bounds, slack_for = bounds[slack_for < _ROUNDS_KEPT], slack_for[slack_for < _ROUNDS_KEPT]
    return best


def best_alpha(probabilities: FloatArray, laplacians: FloatArray) -> float:
    """Minimises rho(E W'W - J), a convex function of alpha; the minimum is not above 1 / lambda_2(S)."""
    from scipy.optimize import minimize_scalar

    mean = np.tensordot(probabilities, laplacians, 1)
    second = mean @ mean + 2.0 * np.tensordot(probabilities * (1.0 - probabilities), laplacians, 1)
    rest = np.eye(len(mean)) - 1.0 / len(mean)

    def rho(alpha: float) -> float:
        return float(np.linalg.eigvalsh(rest - 2.0 * alpha * mean + alpha**2 * second)[-1])

    largest = 1.0 / float(np.linalg.eigvalsh(mean)[1])
    found = minimize_scalar(rho, bounds=(0.0, largest), method="bounded", options={"xatol": 1e-9 * largest})
    return float(found.x)
