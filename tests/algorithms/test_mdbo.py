"""MDBO against dense NumPy, and the biased point where it ends."""

import numpy as np
import pytest

from tests.algorithms.shared_quadratic import Instance, apply, farthest, mixing, outer, run, simulation, start

STEP, OUTER_LR, LR, MOMENTUM, CURVATURE = 0.5, 0.1, 0.1, 1.2, 7.0

pytestmark = pytest.mark.usefixtures("one_thread")


def mdbo(instance, W, num_steps, terms):
    """The start of U, V and their trackers, then one round per step with all four mixed alike."""
    x, y = start()
    residual = np.eye(20) - instance.A / CURVATURE
    inverse = sum(np.stack([np.linalg.matrix_power(R, j) for R in residual]) for j in range(terms)) / CURVATURE

    def directions():
        return instance.hypergradient_parts(x, y, apply(inverse, instance.outer_y(y))), instance.inner_y(x, y)

    u, v = directions()
    s, r = u, v
    for t in range(num_steps):
        x = x + STEP * (W(t) @ x - OUTER_LR * s - x)
        y = y + STEP * (W(t) @ y - LR * r - y)
        du, dv = directions()
        u_old, u = u, (1 - MOMENTUM * STEP) * u + MOMENTUM * STEP * du
        v_old, v = v, (1 - MOMENTUM * STEP) * v + MOMENTUM * STEP * dv
        s, r = W(t) @ s + u - u_old, W(t) @ r + v - v_old
    return x, y


@pytest.mark.parametrize("graph", ["ring", "one_peer_hypercube"])
def test_first_steps(graph):
    settings = {"neumann_terms": 4, "outer_momentum": MOMENTUM, "inner_momentum": MOMENTUM, "check_invariants": True}
    state, made = run("mdbo", 5, graph=graph, **settings)
    x, y = mdbo(Instance(), mixing(made), 5, 4)
    np.testing.assert_allclose(outer(state, made), x, rtol=0, atol=1e-9)
    np.testing.assert_allclose(made.estimate(state).numpy(), y, rtol=0, atol=1e-9)
    assert np.abs(y).max() > 0.1


def test_ends_where_the_mean_of_local_hypergradients_is_zero():
    """With so many terms that the series is the inverse: (1 - 1 / 7)^100 = 2e-7."""
    instance = Instance()
    state, made = run("mdbo", 700, neumann_terms=100, outer_lr=0.2)
    assert farthest(state, made, instance.x_local()) < 1e-6
    assert np.linalg.norm(instance.x_local() - instance.x_star()) > 0.5


def test_ends_at_the_solution_where_all_nodes_have_one_hessian():
    instance = Instance(alike=True)
    settings = {"neumann_terms": 100, "outer_lr": 0.1}
    state, made = run("mdbo", 600, "problem.heterogeneous_curvature=false", **settings)
    assert farthest(state, made, instance.x_star()) < 1e-6


def test_bytes():
    _, made = run("mdbo", 3, "dtype=float32")
    assert made.network.ledger.bytes == 16 * 3 * 4 * (2 * 6 + 2 * 20)
    assert made.network.ledger.messages == 16 * 3


@pytest.mark.parametrize(
    ("key", "value"), [("step_size", 1.5), ("inner_momentum", 3.0), ("neumann_terms", 0), ("curvature", 0.0)]
)
def test_refuses(key, value):
    with pytest.raises(ValueError, match=rf"algorithm\.{key}=.*(expected|must)"):
        simulation("mdbo", **{key: value})
