"""The numbers of "Beyond spectral gap" and of fits to its figures; the graphs are networkx's."""

import numpy as np
import pytest

from simulator.topology.covariance import fit_covariance, normalized, sample_covariance, walk_covariance
from simulator.topology.fitting import fit_decay, rank_correlation
from simulator.topology.gaps import gaps
from simulator.topology.invariance import invariant_spectra
from simulator.topology.learning_rate_bound import high_dimension_bound, learning_rate_bound
from simulator.topology.neighbors import effective_num_neighbors
from simulator.topology.rounds import period_of
from simulator.topology.walk import PeriodicWalk, SymmetricWalk
from tests.topology.schedules import Matrices, doubly_stochastic, ten_topologies

# Loss of VGG-11 on CIFAR-10 after 2,500 steps at the best rate, n_W(0.951), spectral gap.
TABLE = {
    "solo": (1.548, 1, 0),
    "star": (1.139, 2.31, 0.0312),
    "binary tree": (0.586, 7.19, 0.0101),
    "ring": (0.518, 8.86, 0.0128),
    "one-peer exponential": (0.335, 14.31, 1),
    "social network": (0.343, 16.37, 0.0821),
    "two cliques": (0.318, 17.91, 0.0066),
    "torus": (0.323, 20.64, 0.1172),
    "hypercube": (0.288, 24.29, 0.3333),
    "complete": (0.216, 32, 1),
}
SPARSE = [name for name in TABLE if name not in ("solo", "complete")]
COMPLETE = {1: 1.548, 2: 1.183, 4: 0.854, 8: 0.581, 16: 0.391, 32: 0.216}
# gamma of the paper's fits, n_W there.
COVARIANCES = {
    "two cliques": (0.948, 17.81),
    "torus": (0.993, 29.48),
    "star": (0.986, 5.10),
    "social network": (0.992, 27.33),
    "ring": (0.983, 13.83),
    "hypercube": (0.997, 31.37),
    "binary tree": (0.984, 12.43),
}


@pytest.fixture(scope="module")
def walks():
    return {
        name: SymmetricWalk(graph.matrices[0]) if graph.period == 1 else PeriodicWalk(period_of(graph))
        for name, graph in ten_topologies().items()
    }


@pytest.mark.parametrize("name", TABLE)
def test_neighbors_and_gaps_of_ten_topologies(name, walks):
    _, neighbors, gap = TABLE[name]
    graph = ten_topologies()[name]
    assert effective_num_neighbors(walks[name], 0.951) == pytest.approx(neighbors, abs=0.006)
    assert gaps(graph, invariant_spectra(graph), num_rounds=1)["spectral_gap"] == pytest.approx(gap, abs=6e-5)


@pytest.mark.parametrize("name", COVARIANCES)
def test_neighbors_at_the_fitted_decays(name, walks):
    gamma, neighbors = COVARIANCES[name]
    assert effective_num_neighbors(walks[name], gamma) == pytest.approx(neighbors, abs=0.006)


def test_one_decay_explains_the_losses(walks):
    functions = {name: (lambda gamma, name=name: effective_num_neighbors(walks[name], gamma)) for name in SPARSE}
    losses = [TABLE[name][0] for name in SPARSE]
    fit = fit_decay(losses, list(functions.values()), COMPLETE)
    assert fit.gamma == pytest.approx(0.957, abs=0.002)
    neighbors = [TABLE[name][1] for name in SPARSE]
    assert rank_correlation(losses, neighbors) == pytest.approx(-0.95, abs=0.01)
    assert rank_correlation(losses, [TABLE[name][2] for name in SPARSE]) == pytest.approx(-0.33, abs=0.01)

    def squared(gamma):
        at = [
            np.interp(np.log2(f(gamma)), np.log2(list(COMPLETE)), list(COMPLETE.values())) for f in functions.values()
        ]
        return sum((a - b) ** 2 for a, b in zip(at, losses, strict=True))

    assert all(squared(fit.gamma) <= squared(gamma) + 1e-12 for gamma in np.linspace(0.93, 0.98, 51))
    assert fit.error == pytest.approx(np.sqrt(squared(fit.gamma) / 8))


def test_losses_made_by_a_decay_give_it_back(walks):
    names = ["ring", "star", "hypercube"]
    functions = [lambda gamma, name=name: effective_num_neighbors(walks[name], gamma) for name in names]
    losses = [2 - np.log2(function(0.97)) / 4 for function in functions]
    fit = fit_decay(losses, functions, {1: 2.0, 32: 2 - 5 / 4})
    assert fit.gamma == pytest.approx(0.97, abs=1e-4)
    assert fit.error < 1e-5
    np.testing.assert_allclose(fit.predicted, losses, atol=1e-5)
    with pytest.raises(ValueError, match="2 losses and 3 schedules"):
        fit_decay(losses[:2], functions, COMPLETE)
    with pytest.raises(ValueError, match="expected two or more"):
        fit_decay(losses, functions, {4: 1.0})


@pytest.mark.parametrize("graph", [ten_topologies(8)["ring"], Matrices(*[doubly_stochastic(8, s) for s in range(3)])])
def test_covariances_of_training_give_the_decay_back(graph):
    """Samples of a Gaussian with the covariance of decay 0.97, after round 10; 30,000 of them."""
    walk = walk_covariance(graph, last_round=10)
    exact = walk(0.97)
    expected = PeriodicWalk(period_of(graph)).covariance(0.97, 10 % graph.period)
    np.testing.assert_array_equal(exact, expected)
    fit = fit_covariance(7.0 * exact, walk)
    assert fit.gamma == pytest.approx(0.97, abs=1e-6)
    assert fit.distance < 1e-6
    assert fit.num_neighbors == pytest.approx(1 / (0.03 * exact.diagonal().mean()), rel=1e-4)
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((100, 300, 8)) @ np.linalg.cholesky(exact).T
    records = noise.transpose(0, 2, 1) + rng.standard_normal((8, 300))
    measured = sample_covariance(records)
    by_coordinate = np.mean([np.cov(records[:, :, p].T) for p in range(300)], axis=0)
    np.testing.assert_allclose(measured, by_coordinate, rtol=1e-9)
    assert normalized(measured).diagonal().mean() == pytest.approx(1)
    assert fit_covariance(measured, walk).gamma == pytest.approx(0.97, abs=0.005)
    with pytest.raises(ValueError, match=r"records of shape \(1, 3, 2\)"):
        sample_covariance(np.zeros((1, 3, 2)))


@pytest.mark.parametrize(
    ("name", "neighbors", "lr"), [("ring", 9.6, 0.00253), ("torus", 18.9, 0.00483), ("hypercube", 28.4, 0.00716)]
)
def test_learning_rate_bounds_of_the_figure(name, neighbors, lr, walks):
    """Peaks of the older form, for L = 1 and zeta = 2000."""
    values = np.linalg.eigvalsh(ten_topologies()[name].matrices[0])
    grid = 1 - 10.0 ** -np.linspace(0, 5, 2001)
    walk = SymmetricWalk(ten_topologies()[name].matrices[0])
    bound = learning_rate_bound(
        values, lambda gamma: effective_num_neighbors(walk, gamma), grid, smoothness=1.0, zeta=2000.0, form="older"
    )
    assert bound.neighbors == pytest.approx(neighbors, abs=0.15)
    assert bound.lr == pytest.approx(lr, rel=0.01)
    assert (np.diff(bound.noise) > 0).all()


def test_the_theorem_bound_by_its_definition():
    """beta from the matrix inequality L_M <= L_W W / beta, L_A = I - A, with M summed as a series."""
    ring = ten_topologies(8)["ring"].matrices[0]
    lazy, gamma = (np.eye(8) + 2 * ring) / 3, 0.9
    assert np.linalg.eigvalsh(lazy).min() > 0
    series = (1 - gamma) * sum(gamma ** (k - 1) * np.linalg.matrix_power(lazy, 2 * k) for k in range(1, 400))
    left, right = np.eye(8) - series, (np.eye(8) - lazy) @ lazy
    basis = np.linalg.svd(np.ones((1, 8)))[2][1:]
    ratios = np.linalg.eigvals(np.linalg.solve(basis @ right @ basis.T, basis @ left @ basis.T))
    beta = 1 / ratios.real.max()
    n = 1 / series[0, 0]
    walk = SymmetricWalk(lazy)
    assert effective_num_neighbors(walk, gamma) == pytest.approx(n)
    found = learning_rate_bound(
        walk.eigenvalues, lambda g: effective_num_neighbors(walk, g), [gamma], smoothness=2.0, zeta=5.0
    )
    assert found.consensus[0] == pytest.approx(beta / n / 2.0)
    assert found.noise[0] == pytest.approx(1 / (4 * (2 / n * 5.0 + 2.0)))
    assert found.lr == min(found.consensus[0], found.noise[0])


def test_bounds_are_undefined_without_positive_eigenvalues():
    values = np.array([1.0, 0.5, -0.1])
    bound = learning_rate_bound(values, lambda gamma: 2.0, [0.0, 0.9], smoothness=1.0, zeta=10.0)
    assert np.isnan([bound.lr, bound.gamma, *bound.consensus]).all()
    exact = learning_rate_bound(np.array([1.0]), lambda gamma: 1.0, [0.5], smoothness=1.0, zeta=10.0)
    assert exact.lr == exact.noise[0] == 1 / 84
    lr, neighbors = high_dimension_bound(3.0, 2.0, smoothness=1.0, zeta=4000.0)
    assert (lr, neighbors) == (pytest.approx((2 / 1.6e7) ** (1 / 3) / 8), pytest.approx(20.0))
    with pytest.raises(ValueError, match="above 2"):
        high_dimension_bound(2.0, 1.0, smoothness=1.0, zeta=1.0)


def test_rank_correlation():
    assert rank_correlation([1, 2, 3], [10, 20, 1000]) == pytest.approx(1)
    assert rank_correlation([1, 2, 2, 4], [4, 3, 3, 1]) == pytest.approx(-1)
    assert np.isnan(rank_correlation([1, 1], [1, 2]))
    with pytest.raises(ValueError, match="unlike numbers"):
        rank_correlation([1, 2], [1, 2, 3])
