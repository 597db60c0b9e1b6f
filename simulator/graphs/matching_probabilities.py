"""How often the matchings of MATCHA should be on, and the weight of their edges; see :mod:`simulator.graphs.matcha`.

The probabilities p maximise lambda_2(sum_j p_j L_j), which is a semidefinite program:

    maximise s    subject to    sum_j p_j L_j - s (I - J) >= 0,    0 <= p_j <= 1,    sum_j p_j <= b

An interior-point method follows the maxima of s / mu + log det(sum_j p_j L_j - s (I - J) + J) + sum_j log p_j
+ sum_j log(1 - p_j) + log(b - sum_j p_j) for mu that falls, by Newton's method. With Z = (...)^-1 - J, the inverse on
the vectors that are orthogonal to 1, the derivatives are

    d/ds = 1/mu - tr Z,    d/dp_j = tr(Z L_j) + ...,    d2/dp_j dp_k = -tr(Z L_j Z L_k) - ...

Z / tr Z is feasible for the dual program, which bounds the optimum: max_p sum_j p_j tr(Z L_j) / tr Z.
Source: Boyd and Vandenberghe, "Convex Optimization", 2004, sections 11.3 and 11.8.

Shapes: M nodes, m matchings, E edges.
"""

from collections.abc import Sequence

import numpy as np

from simulator.arrays import FloatArray, IntArray

_RELATIVE_GAP = 1e-5
_MANY_MATCHINGS = 128
_RELATIVE_GAP_OF_MANY = 1e-3
_REDUCTION = 4.0
_MAX_NEWTON_STEPS = 500
_SMALLEST_STEP = 1e-9
_CENTRED = 0.5
_CG_TOLERANCE = 1e-4
_CG_MAX_STEPS = 200


class Laplacians:
    """The Laplacians L_j of matchings.

    Args:
        matchings: both nodes of every pair of every matching.
        num_nodes: M.
    """

    def __init__(self, matchings: Sequence[tuple[IntArray, IntArray]], num_nodes: int) -> None:
        self.num_nodes = num_nodes
        self.count = len(matchings)
        self._first = np.concatenate([first for first, _ in matchings])
        self._second = np.concatenate([second for _, second in matchings])
        self._number = np.repeat(np.arange(self.count), [len(first) for first, _ in matchings])
        # The other node of the pair of every node, or the node itself, [m, M].
        self._partner = np.tile(np.arange(num_nodes), (self.count, 1))
        self._partner[self._number, self._first] = self._second
        self._partner[self._number, self._second] = self._first

    def combined(self, weights: FloatArray) -> FloatArray:
        """sum_j weights_j L_j, [M, M]."""
        matrix = np.zeros((self.num_nodes, self.num_nodes))
        matrix[self._first, self._second] = matrix[self._second, self._first] = -weights[self._number]
        np.fill_diagonal(matrix, -matrix.sum(axis=1))
        return matrix

    def products(self, matrix: FloatArray) -> FloatArray:
        """tr(X L_j) of a symmetric X [M, M], [m]."""
        return np.bincount(self._number, self._differences(matrix), self.count).astype(np.float64)

    def own_products(self, matrix: FloatArray) -> FloatArray:
        """The part of tr(X L_j X L_j) that comes from each edge alone, [m]; a bound from below of a symmetric X."""
        return np.bincount(self._number, self._differences(matrix) ** 2, self.count).astype(np.float64)

    def all_products(self, matrix: FloatArray) -> FloatArray:
        """tr(X L_j X L_k) of a symmetric X [M, M], [m, m]."""
        total = np.zeros((self.count, self.count))
        for row, partners in zip(matrix, self._partner.T, strict=True):
            # Row x of X L_j, and column x of X L_k.
            total += (row - row[self._partner]) @ (row - matrix[partners]).T
        return (total + total.T) / 2.0

    def _differences(self, matrix: FloatArray) -> FloatArray:
        """(e_a - e_b)' X (e_a - e_b) of every edge, [E]."""
        diagonal = np.diagonal(matrix)
        differences: FloatArray = (
            diagonal[self._first] + diagonal[self._second] - 2.0 * matrix[self._first, self._second]
        )
        return differences


def best_probabilities(laplacians: Laplacians, budget: float) -> FloatArray:
    """Maximises lambda_2(sum_j p_j L_j) to a relative 1e-5; to 1e-3 with more than 128 matchings.

    It takes a second for 100 nodes with 60 matchings, and a minute for 1,000 nodes with 80.

    Args:
        laplacians: of a connected graph.
        budget: largest mean of p, in (0, 1].
    """
    if budget == 1.0:
        return np.ones(laplacians.count)
    few = laplacians.count <= _MANY_MATCHINGS
    gap = _RELATIVE_GAP if few else _RELATIVE_GAP_OF_MANY
    barrier = _Barrier(laplacians, budget * laplacians.count)
    bound = np.inf
    for _ in range(_MAX_NEWTON_STEPS):
        bound = min(bound, barrier.bound())
        if barrier.s >= (1.0 - gap) * bound or barrier.largest_gap() <= gap * barrier.s:
            break
        if not barrier.newton_step(exact=few):
            break
    return barrier.p


class _Barrier:
    """A point (p, s) within the constraints, the weight mu of the barrier, and Newton's method.

    Laplacians are divided by lambda_2 of equal probabilities, so that s is near 1 at the end.
    """

    def __init__(self, laplacians: Laplacians, total: float) -> None:
        num_nodes = laplacians.num_nodes
        self._laplacians, self._total = laplacians, total
        self._mean = np.full((num_nodes, num_nodes), 1.0 / num_nodes)
        self.p = np.full(laplacians.count, 0.95 * total / laplacians.count)
        # The vector of ones gets an eigenvalue above all others.
        shifted = laplacians.combined(self.p) + 2.0 * num_nodes * self._mean
        self._unit = float(np.linalg.eigvalsh(shifted)[0])
        self.s = 0.5
        self._mu = 1.0 / (num_nodes + 2 * laplacians.count)
        self._value, self._slack = self._at(self.p, self.s)
        self._invert()

    def _at(self, p: FloatArray, s: float) -> tuple[float, FloatArray]:
        """The barrier function, -inf outside of the constraints, and the matrix that must be positive definite."""
        rest = self._total - p.sum()
        if p.min() <= 0.0 or p.max() >= 1.0 or rest <= 0.0:
            return -np.inf, self._mean
        slack = self._laplacians.combined(p) / self._unit + (1.0 + s) * self._mean
        slack[np.diag_indices_from(slack)] -= s
        try:
            root = np.linalg.cholesky(slack)
        except np.linalg.LinAlgError:
            return -np.inf, slack
        logarithms = 2.0 * np.log(np.diagonal(root)).sum() + np.log(p).sum() + np.log1p(-p).sum() + np.log(rest)
        return s / self._mu + float(logarithms), slack

    def _invert(self) -> None:
        inverse = np.linalg.inv(self._slack)
        self._z = (inverse + inverse.T) / 2.0 - self._mean
        self._products = self._laplacians.products(self._z) / self._unit

    def bound(self) -> float:
        """No feasible s is above this."""
        gains = np.sort(self._products / np.trace(self._z))[::-1]
        whole = int(self._total)
        return float(gains[:whole].sum() + gains[whole : whole + 1].sum() * (self._total - whole))

    def largest_gap(self) -> float:
        """How far s is from the optimum at most, from the maximum for the last mu: mu times the number of logarithms.

        It ends a run whose :meth:`bound` rounding errors keep above the optimum.
        """
        return _REDUCTION * self._mu * (self._laplacians.num_nodes + 2 * self._laplacians.count)

    def newton_step(self, *, exact: bool) -> bool:
        """Moves towards the maximum for the present mu, and lowers mu where it is close.

        Args:
            exact: whether to solve Newton's equations by factorisation, or by conjugate gradients.

        Returns:
            False when rounding errors allow no further step.
        """
        p, rest = self.p, self._total - self.p.sum()
        curvature = 1.0 / p**2 + 1.0 / (1.0 - p) ** 2
        gradient = np.append(
            self._products + 1.0 / p - 1.0 / (1.0 - p) - 1.0 / rest, 1.0 / self._mu - np.trace(self._z)
        )
        solve = self._solve if exact else self._solve_many
        step = solve(gradient, curvature, 1.0 / rest**2)
        decrement, length = float(gradient @ step), 1.0
        while True:
            value, slack = self._at(p + length * step[:-1], self.s + length * step[-1])
            if value >= self._value + 0.1 * length * decrement:
                break
            length /= 2.0
            if length < _SMALLEST_STEP:
                return False
        while length >= 1.0:  # longer steps pay far from the maximum
            further, matrix = self._at(p + 2.0 * length * step[:-1], self.s + 2.0 * length * step[-1])
            if further <= value:
                break
            length, value, slack = 2.0 * length, further, matrix
        self.p, self.s = p + length * step[:-1], self.s + length * float(step[-1])
        self._value, self._slack = value, slack
        self._invert()
        if decrement < _CENTRED:
            self._mu /= _REDUCTION
            self._value, _ = self._at(self.p, self.s)
        return True

    def _solve(self, gradient: FloatArray, curvature: FloatArray, coupling: float) -> FloatArray:
        """Newton's step; ``curvature`` and ``coupling`` are second derivatives of the bounds' logarithms."""
        hessian = np.empty((len(gradient), len(gradient)))
        hessian[:-1, :-1] = self._laplacians.all_products(self._z) / self._unit**2 + coupling
        hessian[:-1, :-1] += np.diag(curvature)
        square = self._z @ self._z
        hessian[-1, :-1] = hessian[:-1, -1] = -self._laplacians.products(square) / self._unit
        hessian[-1, -1] = np.trace(square)
        return np.asarray(np.linalg.solve(hessian, gradient), dtype=np.float64)

    def _solve_many(self, gradient: FloatArray, curvature: FloatArray, coupling: float) -> FloatArray:
        """As :meth:`_solve`, by conjugate gradients; a product with the Hessian costs two products of matrices."""

        def hessian(vector: FloatArray) -> FloatArray:
            change = self._laplacians.combined(vector[:-1]) / self._unit
            change[np.diag_indices_from(change)] -= vector[-1]
            moved = self._z @ change @ self._z
            along_p = self._laplacians.products(moved) / self._unit
            return np.append(along_p + curvature * vector[:-1] + coupling * vector[:-1].sum(), -np.trace(moved))

        diagonal = np.append(
            self._laplacians.own_products(self._z) / self._unit**2 + curvature + coupling,
            np.square(self._z).sum(),
        )
        step, residual = np.zeros_like(gradient), gradient.copy()
        scaled = residual / diagonal
        direction, size = scaled, float(residual @ scaled)
        smallest = _CG_TOLERANCE * size
        for _ in range(_CG_MAX_STEPS):
            product = hessian(direction)
            length = size / float(direction @ product)
            step += length * direction
            residual -= length * product
            scaled = residual / diagonal
            previous, size = size, float(residual @ scaled)
            if size < smallest:
                break
            direction = scaled + size / previous * direction
        return step


def best_alpha(probabilities: FloatArray, laplacians: Laplacians) -> float:
    """Minimises rho(E W'W - J), a convex function of alpha; the minimum is not above 1 / lambda_2(S)."""
    # Imported here because most runs never need it.
    from scipy.optimize import minimize_scalar

    mean = laplacians.combined(probabilities)
    second = mean @ mean + 2.0 * laplacians.combined(probabilities * (1.0 - probabilities))
    rest = np.eye(len(mean)) - 1.0 / len(mean)

    def rho(alpha: float) -> float:
        return float(np.linalg.eigvalsh(rest - 2.0 * alpha * mean + alpha**2 * second)[-1])

    largest = 1.0 / float(np.linalg.eigvalsh(mean)[1])
    found = minimize_scalar(rho, bounds=(0.0, largest), method="bounded", options={"xatol": 1e-9 * largest})
    return float(found.x)
