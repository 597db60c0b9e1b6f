"""Rates on random quadratics against the dense matrix of the recursion, sampled gradients and closed forms."""

import numpy as np
import pytest

from simulator.topology.eigenvalues import largest_eigenvalue, spectral_radius
from simulator.topology.invariance import invariant_spectra
from simulator.topology.neighbors import effective_num_neighbors, infinite_ring_num_neighbors
from simulator.topology.quadratic import (
    InvariantRates,
    MomentRates,
    ScalarRates,
    anisotropic_rate,
    noise_level,
    rate_alone,
    rate_complete,
    steps_to_target,
    tune,
)
from simulator.topology.references import ring_walk
from simulator.topology.rounds import period_of
from simulator.topology.walk import InvariantWalk
from tests.topology.schedules import Matrices, column_stochastic, doubly_stochastic, ten_topologies

ZETA = 20.0
LRS = (0.003, 0.05, 0.3, 1.0)


def by_matrix(matrices, lr, zeta):
    """The rate from the n^2 x n^2 matrix of a period."""
    n = len(matrices[0])
    own = np.zeros((n * n, n * n))
    for i in range(n):
        own[i * n + i, i * n + i] = 1
    whole = np.eye(n * n)
    for matrix in matrices:
        whole = np.kron(matrix, matrix) @ ((1 - lr) ** 2 * np.eye(n * n) + (zeta - 1) * lr**2 * own) @ whole
    return 1 - np.abs(np.linalg.eigvals(whole)).max() ** (1 / len(matrices))


CASES = {
    "static": [doubly_stochastic(6, 1)],
    "period 2": [doubly_stochastic(5, seed) for seed in (2, 3)],
    "row": [column_stochastic(5, 2).T],
    "star": [ten_topologies(8)["star"].matrices[0][:6, :6] + np.diag([2 / 8] + [0] * 5)],
    "local steps": [np.eye(4), np.eye(4), np.full((4, 4), 0.25)],
    "alone": [np.eye(3)],
}


@pytest.mark.parametrize("lr", LRS)
@pytest.mark.parametrize("case", CASES)
def test_equals_the_dense_matrix(case, lr):
    kind = "row" if case == "row" else "double"
    rates = MomentRates(period_of(Matrices(*CASES[case], stochasticity=kind)), ZETA)
    assert rates.rate(lr) == pytest.approx(by_matrix(CASES[case], lr, ZETA), abs=1e-9)


@pytest.mark.parametrize("name", ["star", "binary tree", "two cliques"])
def test_large_maps_equal_the_dense_matrix(name):
    """12 nodes: 144 numbers, by Lanczos; and by Arnoldi once the schedule is written as a period of two."""
    matrix = ten_topologies(12)[name].matrices[0]
    for lr in LRS[:3]:
        expected = by_matrix([matrix], lr, ZETA)
        assert MomentRates(period_of(Matrices(matrix)), ZETA).rate(lr) == pytest.approx(expected, abs=1e-8)
        twice = MomentRates(period_of(Matrices(matrix, matrix)), ZETA).rate(lr)
        assert twice == pytest.approx(expected, abs=1e-8)


def test_moments_are_those_of_sampled_gradients():
    """One round of D-SGD with 40,000 draws; every moment within 5 of its standard errors."""
    rng, n, dim, lr = np.random.default_rng(3), 4, 6, 0.2
    matrix, start = doubly_stochastic(n, 5), rng.standard_normal((n, dim))
    products = np.empty((40_000, n, n))
    for draw in range(len(products)):
        features = rng.standard_normal((n, dim))
        after = matrix @ (start - lr * (features * start).sum(axis=1, keepdims=True) * features)
        products[draw] = after @ after.T
    rates = MomentRates(period_of(Matrices(matrix)), noise_level(dim))
    expected = rates.advance(start @ start.T, lr)
    error = products.std(axis=0) / np.sqrt(len(products))
    assert (np.abs(products.mean(axis=0) - expected) < 5 * error).all()
    assert (error < 0.05 * np.abs(expected).max()).all()
    assert noise_level(6) == 8
    assert noise_level(10, batch_size=4) == 15 / 4


def test_push_sum_takes_its_gradients_at_debiased_values():
    """x_i - lr g(x_i / w_i), mixed: the second moments of x by the dense matrix with the weights it settles to."""
    matrix, lr, n = column_stochastic(4, 6), 0.1, 4
    values, vectors = np.linalg.eig(matrix)
    weights = np.real(vectors[:, np.argmax(values.real)])
    weights *= n / weights.sum()
    whole = np.zeros((n * n, n * n))
    for column in range(n * n):
        moments = np.zeros(n * n)
        moments[column] = 1
        moments = moments.reshape(n, n)
        kept = np.diag(1 - lr / weights) @ moments @ np.diag(1 - lr / weights)
        kept += np.diag((ZETA - 1) * (lr / weights) ** 2 * np.diag(moments))
        whole[:, column] = (matrix @ kept @ matrix.T).ravel()
    expected = 1 - np.abs(np.linalg.eigvals(whole)).max()
    rates = MomentRates(period_of(Matrices(matrix, stochasticity="column")), ZETA)
    assert rates.rate(lr) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("name", ["ring", "hypercube", "torus", "one-peer exponential", "complete", "solo"])
def test_transitive_schedules_three_ways(name):
    graph = ten_topologies()[name]
    spectra = invariant_spectra(graph)
    walk = InvariantWalk(spectra)
    scalar = ScalarRates(lambda gamma: effective_num_neighbors(walk, gamma), 50.0)
    moments, invariant = MomentRates(period_of(graph), 50.0), InvariantRates(spectra, 50.0)
    for lr in LRS:
        found = moments.rate(lr)
        assert invariant.rate(lr) == pytest.approx(found, abs=1e-8)
        assert scalar.rate(lr) == pytest.approx(found, abs=1e-8)


def test_phases_that_differ_are_composed():
    """Local steps are invariant, but their variances differ by phase: the scalar equation is wrong there."""
    schedule = [np.eye(4), np.eye(4), np.full((4, 4), 0.25)]
    spectra = invariant_spectra(Matrices(*schedule))
    walk = InvariantWalk(spectra)
    expected = by_matrix(schedule, 0.1, ZETA)
    assert InvariantRates(spectra, ZETA).rate(0.1) == pytest.approx(expected, abs=1e-9)
    scalar = ScalarRates(lambda gamma: effective_num_neighbors(walk, gamma), ZETA).rate(0.1)
    assert abs(scalar - expected) > 5e-4


def test_closed_forms_and_best_learning_rates():
    grid = np.logspace(-3, 0, 100)
    for n in (1, 4, 32):
        rates = InvariantRates(invariant_spectra(ten_topologies(n)["complete"] if n > 1 else Matrices([[1.0]])), 50.0)
        best = tune(rates, grid)
        assert best.lr == pytest.approx(n / (n + 49), rel=1e-4)
        assert best.rate == pytest.approx(n / (n + 49), rel=1e-8)
        assert rates.rate(0.07) == pytest.approx(rate_complete(0.07, 50.0, n), abs=1e-12)
    assert rate_alone(1 / 50, 50.0) == pytest.approx(1 / 50)
    assert rate_alone(0.03, 50.0) == pytest.approx(rate_complete(0.03, 50.0, 1))
    alone = tune(MomentRates(period_of(Matrices(np.eye(3))), 50.0), grid)
    assert (alone.lr, alone.rate) == pytest.approx((0.02, 0.02), rel=1e-4)
    assert alone.rate >= alone.rates.max()


def test_growing_rings_reach_the_infinite_one():
    infinite = ScalarRates(infinite_ring_num_neighbors, 50.0)
    found = [tune(_ring(n), np.logspace(-2, -0.5, 40)).rate for n in (1, 2, 4, 8, 64)]
    assert found == sorted(found)
    assert tune(infinite, np.logspace(-2, -0.5, 40)).rate == pytest.approx(found[-1], abs=1e-6)
    assert infinite.rate(0.05) == pytest.approx(_ring(512).rate(0.05), abs=1e-9)


def _ring(num_nodes):
    walk = ring_walk(num_nodes)
    return ScalarRates(lambda gamma: effective_num_neighbors(walk, gamma), 50.0)


def test_steps_to_a_target():
    assert 0.9 ** steps_to_target(0.1, 0.01) == pytest.approx(0.01)
    assert steps_to_target(1.0, 0.01) == 1
    assert steps_to_target(0.0, 0.01) == steps_to_target(-0.2, 0.01) == np.inf
    with pytest.raises(ValueError, match="target=1"):
        steps_to_target(0.1, 1)


@pytest.mark.parametrize("batch_size", [1, 3])
def test_features_of_unlike_variance(batch_size):
    """Fourth moments of Gaussian features by Isserlis, written as one dense matrix over (feature, i, j)."""
    s, lr, matrix, n = np.array([2.0, 1.0, 0.3]), 0.1, doubly_stochastic(3, 9), 3
    whole = np.zeros((3 * n * n, 3 * n * n))
    for k in range(3):
        for i in range(n):
            for j in range(n):
                row = (k * n + i) * n + j
                whole[row, row] += (1 - lr * s[k]) ** 2
                if i == j:
                    whole[row, row] += lr**2 / batch_size * s[k] ** 2
                    for other in range(3):
                        whole[row, (other * n + i) * n + i] += lr**2 / batch_size * s[k] * s[other]
    whole = np.kron(np.eye(3), np.kron(matrix, matrix)) @ whole
    expected = 1 - np.abs(np.linalg.eigvals(whole)).max()
    period = period_of(Matrices(matrix))
    assert anisotropic_rate(period, lr, s, batch_size) == pytest.approx(expected, abs=1e-9)
    same = MomentRates(period, 1 + (4 + 1) / batch_size).rate(lr)
    assert anisotropic_rate(period, lr, np.ones(4), batch_size) == pytest.approx(same, abs=1e-9)


def test_bad_arguments_of_unlike_features():
    with pytest.raises(ValueError, match="row- or doubly stochastic"):
        anisotropic_rate(period_of(Matrices(column_stochastic(3, 1), stochasticity="column")), 0.1, [1.0])
    with pytest.raises(ValueError, match="expected positive numbers"):
        anisotropic_rate(period_of(Matrices(np.eye(3))), 0.1, [1.0, 0.0])


def test_eigenvalue_solvers_on_known_spectra():
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.standard_normal((300, 300)))[0]
    crowded = 1 - np.linspace(0, 1, 300) ** 2 * 0.5
    symmetric = basis * crowded @ basis.T
    assert largest_eigenvalue(lambda v: symmetric @ v, rng.standard_normal(300)) == pytest.approx(1, abs=1e-7)
    positive = rng.uniform(0, 1, (200, 200))
    expected = np.abs(np.linalg.eigvals(positive)).max()
    radius, vector = spectral_radius(lambda v: positive @ v, np.ones(200))
    assert radius == pytest.approx(expected, rel=1e-10)
    np.testing.assert_allclose(positive @ vector, radius * vector, atol=1e-6 * radius)
    assert spectral_radius(lambda v: np.zeros_like(v), np.ones(100))[0] == pytest.approx(0, abs=1e-12)
