"""Exact second moments step by step, against the operator that D-SGD applies to all parameters on average."""

import networkx as nx
import numpy as np
import pytest

from simulator.graphs.hypercube import Hypercube
from simulator.graphs.one_peer_exponential import OnePeerExponential
from simulator.graphs.ring import Ring
from simulator.topology.invariance import invariant_spectra
from simulator.topology.quadratic import InvariantRates, MomentRates
from simulator.topology.rounds import period_of
from simulator.topology.trajectory import trajectory
from tests.topology.schedules import Drawn, Matrices, doubly_stochastic, metropolis

ORDERS = ("adapt_then_combine", "combine_and_adapt")


def moments_of_samples(variances, batch_size, num_nodes):
    """E[A (x) A] for A = blockdiag(A_i), A_i the mean of a a' over b samples; from the fourth moments of normals.

    E[a_k a_l a_m a_n] = S_kl S_mn + S_km S_ln + S_kn S_lm, so E[A_i (x) A_i][(k, m), (l, n)] for S = diag(s).
    """
    dim, S = len(variances), np.diag(variances)
    fourth = (np.einsum("kl,mn->kmln", S, S) + np.einsum("km,ln->kmln", S, S) + np.einsum("kn,lm->kmln", S, S)).reshape(
        dim**2, dim**2
    )
    apart = np.kron(S, S)
    own = fourth / batch_size + (1 - 1 / batch_size) * apart
    size = num_nodes * dim
    full = np.zeros((size, size, size, size))
    for i in range(num_nodes):
        for j in range(num_nodes):
            block = (own if i == j else apart).reshape(dim, dim, dim, dim)  # [k, m, l, n]
            rows, others = slice(i * dim, (i + 1) * dim), slice(j * dim, (j + 1) * dim)
            full[rows, others, rows, others] = block
    return full.reshape(size**2, size**2)


def brute_force(matrices, start, variances, lrs, batch_size, order):
    """E[x x'] of the stacked x of all nodes, [M d, M d], by the mean of (step matrix) (x) (step matrix)."""
    num_nodes, dim = len(matrices[0]), len(start)
    size, identity = num_nodes * dim, np.eye(num_nodes * dim)
    mean_descent = np.kron(np.eye(num_nodes), np.diag(variances))
    squares = moments_of_samples(variances, batch_size, num_nodes)
    second = np.outer(np.tile(start, num_nodes), np.tile(start, num_nodes))
    found = []
    for step in range(len(lrs) + 1):
        blocks = second.reshape(num_nodes, dim, num_nodes, dim)
        inner = np.einsum("ikjk->ij", blocks)
        found.append((np.trace(inner) / num_nodes, inner.sum() / num_nodes**2))
        if step == len(lrs):
            break
        lr, mixing = lrs[step], np.kron(matrices[step % len(matrices)], np.eye(dim))
        if order == "adapt_then_combine":
            drift = np.kron(identity, mean_descent) + np.kron(mean_descent, identity)
            average = np.kron(mixing, mixing) @ (np.eye(size**2) - lr * drift + lr**2 * squares)
        else:
            drift = np.kron(mixing, mean_descent) + np.kron(mean_descent, mixing)
            average = np.kron(mixing, mixing) - lr * drift + lr**2 * squares
        second = (average @ second.ravel()).reshape(size, size)
    return np.array(found).T


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("batch_size", [1, 3])
def test_equals_the_mean_operator(order, batch_size):
    """Irregular, directed, time-varying, with unlike variances of which two are the same and changing rates."""
    matrices = [doubly_stochastic(4, seed) for seed in (1, 2)]
    start, variances, lrs = np.array([0.5, -1.0, 0.3]), np.array([2.0, 0.5, 2.0]), [0.1, 0.3, 0.2, 0.05, 0.25]
    found = trajectory(Matrices(*matrices), start, variances, lrs, batch_size=batch_size, order=order)
    norms, means = brute_force(matrices, start, variances, lrs, batch_size, order)
    np.testing.assert_allclose(found.squared_norm, norms, rtol=1e-12)
    np.testing.assert_allclose(found.squared_mean, means, rtol=1e-12)
    np.testing.assert_allclose(found.squared_distance, norms - means, rtol=0, atol=1e-12)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(
    "graph",
    [Ring(num_nodes=16), Hypercube(num_nodes=16), OnePeerExponential(num_nodes=16)],
    ids=lambda g: g.description,
)
def test_invariant_schedules_equal_the_same_with_nodes_in_disorder(graph, order):
    """In disorder nothing is invariant any more, and moments are computed node by node."""
    shuffled = np.random.default_rng(0).permutation(16)
    matrices = [graph.edges(t).to_matrix(16)[np.ix_(shuffled, shuffled)] for t in range(graph.period)]
    disordered = Matrices(*matrices)
    assert invariant_spectra(graph) is not None
    assert invariant_spectra(disordered) is None
    start, variances, lrs = np.array([0.5, -1.0, 0.3]), np.array([2.0, 0.5, 1.0]), [0.1, 0.3, 0.2, 0.05, 0.25, 0.2]
    fast, slow = (trajectory(g, start, variances, lrs, batch_size=2, order=order) for g in (graph, disordered))
    np.testing.assert_allclose(fast.squared_norm, slow.squared_norm, rtol=1e-12)
    np.testing.assert_allclose(fast.squared_mean, slow.squared_mean, rtol=1e-12)


def test_in_the_long_run_steps_take_what_the_rate_says():
    dim, lr, steps = 18, 0.1, 400
    for graph in (Ring(num_nodes=8), Matrices(metropolis(nx.star_graph(7)))):
        zeta, spectra = dim + 2, invariant_spectra(graph)
        rates = MomentRates(period_of(graph), zeta) if spectra is None else InvariantRates(spectra, zeta)
        norms = trajectory(
            graph, np.ones(dim), np.ones(dim), [lr] * steps, batch_size=1, order="adapt_then_combine"
        ).squared_norm
        assert 1 - norms[-1] / norms[-2] == pytest.approx(rates.rate(lr), abs=1e-9)


def test_random_schedules_follow_their_rounds():
    draws = Drawn(6, lambda rng: doubly_stochastic(6, rng.integers(1000)), seed=3)
    rounds = Matrices(*[draws.edges(t).to_matrix(6) for t in range(5)])
    for order in ORDERS:
        drawn, given = (
            trajectory(graph, [1.0, 2.0], [1.0, 1.0], [0.2] * 5, batch_size=1, order=order) for graph in (draws, rounds)
        )
        np.testing.assert_allclose(drawn.squared_norm, given.squared_norm, rtol=1e-13)
        np.testing.assert_allclose(drawn.squared_mean, given.squared_mean, rtol=1e-13)


def test_schedules_that_are_too_large_are_refused():
    large = Drawn(3000, lambda rng: np.eye(3000))
    with pytest.raises(ValueError, match="Drawn with 3000 nodes and 1 different variances: more than 4000000 moments"):
        trajectory(large, [1.0], [1.0], [0.1], batch_size=1, order="adapt_then_combine")
