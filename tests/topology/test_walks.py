"""Variances of the walk by every way, against the linear system of the recursion, noise and closed forms."""

import networkx as nx
import numpy as np
import pytest

from simulator.graphs.hub import Hub
from simulator.graphs.one_peer_exponential import OnePeerExponential
from simulator.graphs.ring import Ring
from simulator.topology.invariance import invariant_spectra
from simulator.topology.neighbors import (
    bound_by_dimension,
    bound_by_gap,
    doubling_num_neighbors,
    effective_num_neighbors,
    effective_num_neighbors_by_node,
    effective_num_neighbors_last_phase,
    effective_num_neighbors_worst,
    infinite_ring_num_neighbors,
    random_matching_num_neighbors,
    standard_error,
)
from simulator.topology.rounds import period_of
from simulator.topology.sampled_walk import SampledWalk
from simulator.topology.walk import InvariantWalk, PeriodicWalk, SymmetricWalk
from tests.topology.schedules import Drawn, Matrices, column_stochastic, doubly_stochastic, metropolis, ten_topologies

GAMMAS = (0.0, 0.3, 0.951, 0.9999)


def invariant_walk(graph):
    spectra = invariant_spectra(graph)
    assert spectra is not None
    return InvariantWalk(spectra)


def solved(matrices, gamma):
    """Covariance after each round: vec(C) = (W x W)(gamma vec(C) + vec(I)), composed and solved, [T, n, n]."""
    n = len(matrices[0])
    linear, constant = np.eye(n * n), np.zeros(n * n)
    steps = [np.kron(matrix, matrix) for matrix in matrices]
    for step in steps:
        linear, constant = gamma * step @ linear, step @ (gamma * constant + np.eye(n).ravel())
    found, covariance = [], np.linalg.solve(np.eye(n * n) - linear, constant)
    for step in steps:
        covariance = step @ (gamma * covariance + np.eye(n).ravel())
        found.append(covariance.reshape(n, n))
    return np.array(found)


CASES = {
    "static": [doubly_stochastic(6, 1)],
    "period 3": [doubly_stochastic(5, seed) for seed in range(3)],
    "static row": [column_stochastic(5, 2).T],
    "hub": [Hub(num_nodes=5).edges(step).to_matrix(5) for step in (0, 1)],
    "not connected": [np.kron(np.eye(2), doubly_stochastic(3, 4))],
    "local steps": [np.eye(4), np.eye(4), np.full((4, 4), 0.25)],
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("gamma", GAMMAS)
def test_periodic_walk_solves_the_recursion(case, gamma):
    kind = "row" if case in ("static row", "hub") else "double"
    graph = Matrices(*CASES[case], stochasticity=kind)
    walk, expected = PeriodicWalk(period_of(graph)), solved(CASES[case], gamma)
    variances = np.diagonal(expected, axis1=1, axis2=2)
    np.testing.assert_allclose(walk.phase_variances(gamma), variances, rtol=1e-8)
    np.testing.assert_allclose(walk.variances(gamma), variances.mean(axis=0), rtol=1e-8)
    for phase, covariance in enumerate(expected):
        np.testing.assert_allclose(walk.covariance(gamma, phase), covariance, rtol=1e-7, atol=1e-10)
    neighbors = 1 / ((1 - gamma) * variances)
    worst = 1 / ((1 - gamma) * variances.mean(axis=0).max())
    assert effective_num_neighbors(walk, gamma) == pytest.approx(1 / np.mean(1 / neighbors), rel=1e-8)
    assert effective_num_neighbors_worst(walk, gamma) == pytest.approx(worst, rel=1e-8)
    last = 1 / np.mean(1 / neighbors[-1])
    assert effective_num_neighbors_last_phase(walk, gamma) == pytest.approx(last, rel=1e-8)


@pytest.mark.parametrize("gamma", GAMMAS)
def test_column_stochastic_walks_are_debiased(gamma):
    """Against the recursion of x itself, divided by push-sum weights that a thousand rounds have brought about."""
    matrices = [column_stochastic(5, seed) for seed in (3, 4, 5)]
    weights = np.ones(5)
    for step in range(999):
        weights = matrices[step % 3] @ weights
    after = [matrices[0] @ weights, matrices[1] @ matrices[0] @ weights, weights]
    covariances = solved(matrices, gamma)
    variances = [covariances[t].diagonal() / after[t] ** 2 for t in range(3)]
    graph = Matrices(*matrices, stochasticity="column")
    np.testing.assert_allclose(PeriodicWalk(period_of(graph)).phase_variances(gamma), variances, rtol=1e-9)
    sampled = SampledWalk(graph, num_samples=8, max_rounds=8000, by_node=True)
    np.testing.assert_allclose(sampled.variances(gamma), np.mean(variances, axis=0), rtol=1e-6)
    signs = SampledWalk(graph, num_samples=64, max_rounds=40_000, by_node=False)
    error = standard_error(signs, gamma)
    expected = 1 / ((1 - gamma) * np.mean(variances))
    assert abs(effective_num_neighbors(signs, gamma) - expected) < 4 * error < 0.5 * expected


@pytest.mark.parametrize("name", ["star", "binary tree", "social network", "two cliques"])
@pytest.mark.parametrize("gamma", GAMMAS)
def test_symmetric_and_sampled_walks_equal_doubling(name, gamma):
    graph = ten_topologies()[name]
    doubling = PeriodicWalk(period_of(graph)).variances(gamma)
    np.testing.assert_allclose(SymmetricWalk(graph.matrices[0]).variances(gamma), doubling, rtol=1e-8)
    if name == "social network":  # mixes fast enough to be followed to agreement
        sampled = SampledWalk(graph, num_samples=8, max_rounds=8000, by_node=True)
        np.testing.assert_allclose(sampled.variances(gamma), doubling, rtol=1e-8)


@pytest.mark.parametrize("name", ["ring", "torus", "hypercube", "complete", "one-peer exponential", "solo"])
@pytest.mark.parametrize("gamma", GAMMAS)
def test_invariant_walks_equal_doubling(name, gamma):
    graph = ten_topologies()[name]
    expected = PeriodicWalk(period_of(graph)).phase_variances(gamma)
    walk = invariant_walk(graph)
    np.testing.assert_allclose(walk.phase_variances(gamma), expected.mean(axis=1), rtol=1e-8)
    np.testing.assert_allclose(expected, expected.mean(axis=1, keepdims=True).repeat(32, axis=1), rtol=1e-8)


def test_invariance_is_seen_and_not_imagined():
    torus = np.kron(ten_topologies(5)["ring"].matrices[0], ten_topologies(6)["ring"].matrices[0])
    assert invariant_spectra(Matrices(torus)).factors == (5, 6)
    assert invariant_spectra(Ring(num_nodes=12)).factors == (12,)
    assert invariant_spectra(ten_topologies()["hypercube"]).factors == (2,) * 5
    assert invariant_spectra(Ring(num_nodes=1)).factors == (1,)
    directed = Matrices((np.eye(7) + 2 * np.roll(np.eye(7), 1, axis=1)) / 3)
    values = invariant_spectra(directed).eigenvalues[0]
    found = np.linalg.eigvals(directed.matrices[0])
    np.testing.assert_allclose(np.sort_complex(values), np.sort_complex(found), atol=1e-12)
    for name in ("star", "binary tree", "two cliques", "social network"):
        assert invariant_spectra(ten_topologies()[name]) is None
    shuffled = np.eye(12)[np.random.default_rng(0).permutation(12)]
    ring = ten_topologies(12)["ring"].matrices[0]
    assert invariant_spectra(Matrices(shuffled @ ring @ shuffled.T)) is None
    # The same places, but weights that differ by node.
    uneven = ring.copy()
    uneven[3:5, 3:5] += [[0.1, -0.1], [-0.1, 0.1]]
    assert invariant_spectra(Matrices(uneven)) is None


def test_the_definition_by_simulation():
    """2,000 independent walks of 200 steps; the ratio of summed variances has a standard error of about 1 %."""
    rng, gamma = np.random.default_rng(5), 0.9
    matrices = [doubly_stochastic(6, seed) for seed in (7, 8)]
    walk = PeriodicWalk(period_of(Matrices(*matrices)))
    alone, mixed = np.zeros((6, 2000)), np.zeros((6, 2000))
    ratios = []
    for step in range(200):
        noise = rng.standard_normal(alone.shape)
        alone = np.sqrt(gamma) * alone + noise
        mixed = matrices[step % 2] @ (np.sqrt(gamma) * mixed + noise)
        if step >= 198:
            ratios.append(mixed.var() / alone.var())
    error = np.sqrt(4 / mixed.size)
    assert effective_num_neighbors(walk, gamma) == pytest.approx(1 / np.mean(ratios), rel=4 * error)


@pytest.mark.parametrize("gamma", GAMMAS)
def test_closed_forms(gamma):
    for log_nodes in (0, 1, 3, 5):
        walk = invariant_walk(OnePeerExponential(num_nodes=2**log_nodes))
        assert effective_num_neighbors(walk, gamma) == pytest.approx(doubling_num_neighbors(2**log_nodes, gamma))
        np.testing.assert_allclose(np.ptp(walk.phase_variances(gamma)), 0, atol=1e-9)
    mix = 0.3 / 8 + 0.7 * np.eye(8)
    found = effective_num_neighbors(SymmetricWalk(mix), gamma)
    assert found == pytest.approx(bound_by_gap(8, gamma, 0.3), rel=1e-9)
    assert effective_num_neighbors(SymmetricWalk(np.eye(5)), gamma) == pytest.approx(1)
    assert effective_num_neighbors(SymmetricWalk(np.full((5, 5), 0.2)), gamma) == pytest.approx(5)
    theta = (np.arange(1_000_000) + 0.5) * np.pi / 1_000_000
    squares = ((1 + 2 * np.cos(theta)) / 3) ** 2
    quadrature = 1 / ((1 - gamma) * np.mean(squares / (1 - gamma * squares)))
    assert infinite_ring_num_neighbors(gamma) == pytest.approx(quadrature, rel=1e-6)


def test_bounds_hold():
    for name, graph in ten_topologies().items():
        if name == "one-peer exponential":
            continue
        walk = SymmetricWalk(graph.matrices[0])
        gap = 1 - np.sort(np.abs(walk.eigenvalues))[-2]
        for gamma in GAMMAS:
            assert effective_num_neighbors(walk, gamma) >= bound_by_gap(32, gamma, gap) * (1 - 1e-9)
    # c_s is the largest for which at most (1 - l)^(1/2) / c_s of the ring's eigenvalues lie above l.
    values = np.sort((1 + 2 * np.cos(2 * np.pi * np.arange(4096) / 4096)) / 3)[::-1]
    shares = np.arange(4096) / 4096
    inner = slice(2, 2000)
    constant = float((np.sqrt(1 - values[inner]) / shares[inner]).min())
    walk = invariant_walk(Ring(num_nodes=4096))
    for gamma in (0.9, 0.99, 0.999):
        assert effective_num_neighbors(walk, gamma) >= bound_by_dimension(4096, gamma, 1.0, constant)
    low, middle, high = (bound_by_dimension(10**9, 0.9, d, 1.0) for d in (1.999999, 2.0, 3.0))
    assert low < middle < high == pytest.approx(1 / (0.1 / 0.9), rel=1e-6)
    assert middle == pytest.approx(1.8 / (0.1 * np.log(10)), rel=1e-6)


def matching(num_nodes):
    def draw(rng):
        pairs = rng.permutation(num_nodes).reshape(-1, 2)
        matrix = np.eye(num_nodes) / 2
        matrix[pairs[:, 0], pairs[:, 1]] = matrix[pairs[:, 1], pairs[:, 0]] = 0.5
        return matrix

    return draw


@pytest.mark.parametrize("by_node", [True, False])
@pytest.mark.parametrize("gamma", GAMMAS)
def test_random_matchings_within_the_standard_error(by_node, gamma):
    walk = SampledWalk(Drawn(8, matching(8)), num_samples=64, max_rounds=10_000, by_node=by_node)
    expected, error = random_matching_num_neighbors(8, gamma), standard_error(walk, gamma)
    assert walk.agrees
    assert abs(effective_num_neighbors(walk, gamma) - expected) <= 4 * error + 1e-9
    assert error < 0.06 * expected


def test_random_circulants_within_the_standard_error():
    """v = mean over characters of rho / (1 - gamma rho), rho = E |w^(k)|^2 over offsets 1 .. 6 of 7 nodes."""
    spectra = [np.abs(np.fft.fft((np.eye(7)[0] + np.eye(7)[offset]) / 2)) ** 2 for offset in range(1, 7)]
    rho = np.mean(spectra, axis=0)
    schedule = Drawn(7, lambda rng: (np.eye(7) + np.roll(np.eye(7), rng.integers(1, 7), axis=1)) / 2)
    walk = SampledWalk(schedule, num_samples=64, max_rounds=10_000, by_node=True)
    for gamma in GAMMAS:
        expected = 1 / ((1 - gamma) * np.mean(rho / (1 - gamma * rho)))
        assert abs(effective_num_neighbors(walk, gamma) - expected) <= 4 * standard_error(walk, gamma) + 1e-9


def test_standard_errors_are_those_of_repetitions():
    found = [
        SampledWalk(Drawn(8, matching(8), seed=seed), num_samples=16, max_rounds=4000, by_node=True)
        for seed in range(30)
    ]
    values = [effective_num_neighbors(walk, 0.9) for walk in found]
    errors = [standard_error(walk, 0.9) for walk in found]
    # The spread of 30 values is known to 13 %, and each error to 18 %.
    assert np.std(values, ddof=1) == pytest.approx(np.mean(errors), rel=0.5)


@pytest.mark.slow
@pytest.mark.parametrize(("num_samples", "repetitions"), [(8, 80), (32, 25)])
def test_intervals_cover_the_value_as_often_as_stated(num_samples, repetitions):
    """Random matchings, whose value is known: 95 % of the intervals, within three binomial standard deviations.

    Sixteen nodes need some 35 rounds to agree, so that what is left out after the last round does not count.
    """
    gamma = 0.7
    expected = 1 / random_matching_num_neighbors(16, gamma)
    covered = 0
    for seed in range(repetitions):
        rounds = num_samples * 60
        walk = SampledWalk(Drawn(16, matching(16), seed=seed), num_samples=num_samples, max_rounds=rounds, by_node=True)
        found, error = float(walk.variances(gamma).mean()) * (1 - gamma), walk.standard_error(gamma) * (1 - gamma)
        covered += abs(found - expected) <= 1.96 * error
    spread = np.sqrt(0.95 * 0.05 / repetitions)
    assert abs(covered / repetitions - 0.95) < 3 * spread


@pytest.mark.parametrize("num_nodes", [4, 8])
def test_estimates_are_unbiased_where_some_stretches_agree_sooner_than_others(num_nodes):
    """Four nodes agree in two rounds or in many: a stretch of the rounds that another one needs is cut off too soon."""
    gamma, expected = 0.7, 1 / random_matching_num_neighbors(num_nodes, 0.7)
    found = []
    for seed in range(100):
        schedule = Drawn(num_nodes, matching(num_nodes), seed=seed)
        walk = SampledWalk(schedule, num_samples=8, max_rounds=480, by_node=True)
        found.append(float(walk.variances(gamma).mean()) * (1 - gamma))
    assert abs(np.mean(found) - expected) < 4 * np.std(found, ddof=1) / np.sqrt(100)


def test_there_are_eight_stretches_however_slowly_a_schedule_mixes():
    with_few_rounds = SampledWalk(Drawn(8, matching(8)), num_samples=8, max_rounds=100, by_node=True)
    assert with_few_rounds.rounds_to_agreement == 100 // 8
    assert len(with_few_rounds._means) == 8


def test_a_schedule_that_takes_too_long_is_not_guessed():
    chain = Matrices(metropolis(nx.path_graph(64)))
    walk = SampledWalk(chain, num_samples=8, max_rounds=800, by_node=True)
    assert not walk.agrees
    assert walk.distance() == np.inf
    exact = SymmetricWalk(chain.matrices[0])
    assert effective_num_neighbors(walk, 0.5) == pytest.approx(effective_num_neighbors(exact, 0.5), rel=1e-9)
    assert np.isnan(effective_num_neighbors(walk, 0.9999))


def test_distances_are_sums_of_gossip_errors():
    """The sum over k of ||W_{t+k-1} ... W_t - J||^2, mean over t, summed until nothing is left."""
    matrices = [doubly_stochastic(6, seed) for seed in (7, 8, 9)]
    total = 0.0
    for start in range(3):
        deviation = np.eye(6) - 1 / 6
        for k in range(2000):
            deviation = matrices[(start + k) % 3] @ deviation
            total += np.square(deviation).sum() / 3
    assert PeriodicWalk(period_of(Matrices(*matrices))).distance() == pytest.approx(total, rel=1e-9)
    ring = ten_topologies()["ring"]
    powers = sum(
        np.square(np.linalg.matrix_power(ring.matrices[0], k) - 1 / 32).sum() for k in range(1, 1500)
    )  # fmt: skip
    assert SymmetricWalk(ring.matrices[0]).distance() == pytest.approx(powers, rel=1e-9)
    assert invariant_walk(ring).distance() == pytest.approx(powers, rel=1e-9)
    assert PeriodicWalk(period_of(ring)).distance() == pytest.approx(powers, rel=1e-9)
    assert SampledWalk(ring, num_samples=8, max_rounds=16_000, by_node=True).distance() == pytest.approx(powers)
    one_peer = ten_topologies()["one-peer exponential"]
    assert invariant_walk(one_peer).distance() == pytest.approx(PeriodicWalk(period_of(one_peer)).distance())
    assert PeriodicWalk(period_of(Matrices(np.kron(np.eye(2), np.full((3, 3), 1 / 3))))).distance() == np.inf
    assert SymmetricWalk(np.eye(3)).distance() == np.inf


def test_neighbors_by_node_and_bad_decays():
    star = SymmetricWalk(ten_topologies()["star"].matrices[0])
    found = effective_num_neighbors_by_node(star, 0.9)
    assert found[0] == found.max() > found[1:].max()
    np.testing.assert_allclose(found[1:], found[1], rtol=1e-9)
    assert effective_num_neighbors_worst(star, 0.9) == found.min()
    for gamma in (1.0, -0.1):
        with pytest.raises(ValueError, match=r"the decay of the walk lies in \[0, 1\)"):
            effective_num_neighbors(star, gamma)
    with pytest.raises(ValueError, match="expected a power of two"):
        doubling_num_neighbors(12, 0.5)
    with pytest.raises(ValueError, match="is random and has no period"):
        period_of(Drawn(8, matching(8)))


def test_push_sum_weights_that_are_too_unequal_are_named():
    """A chain whose nodes all send to the first one as well: the weight of node k is about 2^-k."""
    matrix = np.zeros((60, 60))
    for node in range(60):
        targets = sorted({node, min(node + 1, 59), 0})
        matrix[targets, node] = 1.0 / len(targets)
    with pytest.raises(ValueError, match=r"node \d+ falls to \S+, where 1 is the mean; use doubly"):
        PeriodicWalk(period_of(Matrices(matrix, stochasticity="column")))
