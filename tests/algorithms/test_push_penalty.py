"""The penalty method by push-sum against dense NumPy, and where it ends on directed graphs."""

import numpy as np
import pytest

from tests.algorithms.shared_quadratic import NUM_NODES, Instance, farthest, mixing, outer, run, simulation, start

PENALTY, LR, OUTER_LR = 100.0, 0.03, 0.05
GRAPHS = ["directed_ring", "exponential", "random_directed graph.seed=4"]

pytestmark = pytest.mark.usefixtures("one_thread")


def push_penalty(instance, P, num_steps, K):
    """The nodes' x, their mean share of it, and y."""
    X, Y = start()
    Z, w, p = Y.copy(), np.ones((NUM_NODES, 1)), np.ones((NUM_NODES, 1))
    vy = vz = Gy = Gz = np.zeros_like(Y)
    t, u, s = 0, 0.0, 0.0
    for call in range(num_steps + 1):
        if call:
            X, w, s, t = P(t) @ (X - OUTER_LR * s), P(t) @ w, P(t) @ s, t + 1
        for first in [True] + [False] * K:
            if not first:
                Y, Z, vy, vz, p = P(t) @ (Y - LR * vy), P(t) @ (Z - LR * vz), P(t) @ vy, P(t) @ vz, P(t) @ p
                t += 1
            y, z = Y / p, Z / p
            new_y, new_z = instance.inner_y(X / w, y) + instance.outer_y(y) / PENALTY, instance.inner_y(X / w, z)
            vy, vz, Gy, Gz = vy + new_y - Gy, vz + new_z - Gz, new_y, new_z
        new = instance.surrogate(X / w, Y / p, Z / p, PENALTY)
        s, u = s + new - u, new
    return X / w, w, Y / p


@pytest.mark.parametrize("graph", GRAPHS)
def test_first_steps(graph):
    graph, *further = graph.split()
    settings = {"inner_lr": LR, "outer_lr": OUTER_LR, "inner_steps": 4, "check_invariants": True}
    state, made = run("push_penalty", 6, *further, graph=graph, **settings)
    x, w, y = push_penalty(Instance(), mixing(made), 6, 4)
    np.testing.assert_allclose(outer(state, made), x, rtol=0, atol=1e-9)
    np.testing.assert_allclose(made.estimate(state).numpy(), y, rtol=0, atol=1e-9)
    assert np.abs(x).max() > 0.1
    assert (np.abs(w - 1).max() > 0.1) == (graph == "random_directed")


@pytest.mark.parametrize("graph", GRAPHS)
def test_reaches_the_penalty_solution_on_directed_graphs(graph):
    graph, *further = graph.split()
    target = Instance().x_penalty(PENALTY)
    state, made = run("push_penalty", 350, *further, graph=graph)
    assert farthest(state, made, target) < 1e-6


def test_bytes():
    _, made = run("push_penalty", 7, "dtype=float32", graph="directed_ring")
    assert made.network.ledger.bytes == 8 * 4 * (15 * 81 + 7 * (13 + 15 * 81))


def test_hyperparameters_stay_within_their_range():
    state, made = run("push_penalty", 30, graph="random_directed", hparam_range=[-0.1, 0.2])
    x = outer(state, made)
    assert x.min() >= -0.1 - 1e-12
    assert x.max() <= 0.2 + 1e-12
    assert np.isclose(np.abs(x).max(), 0.2)


def test_needs_column_stochastic_weights():
    with pytest.raises(ValueError, match="algorithm=push_penalty needs column-stochastic or doubly stochastic"):
        simulation("push_penalty", graph="hub")
