"""MADSBO and MADSBO-GT against dense NumPy, and where they end."""

import numpy as np
import pytest

from tests.algorithms.shared_quadratic import Instance, apply, farthest, mixing, outer, run, simulation, start

T_IN, N, LR, OUTER_LR, MOMENTUM = 10, 10, 0.05, 0.05, 0.3

pytestmark = pytest.mark.usefixtures("one_thread")


def madsbo(instance, W, num_steps, tracking, adjoint_steps):
    x, y = start()
    z = np.zeros_like(y)
    V = P = Gy = Gz = np.zeros_like(y)
    r = s = None
    t = 0
    for _ in range(num_steps):
        new = instance.inner_y(x, y)
        V, Gy = V + new - Gy, new
        for _ in range(T_IN):
            y = W(t) @ y - LR * V
            new = instance.inner_y(x, y)
            V, Gy, t = W(t) @ V + new - Gy, new, t + 1
        new = apply(instance.A, z) - instance.outer_y(y)
        P, Gz = P + new - Gz, new
        for _ in range(adjoint_steps):
            z = W(t) @ z - LR * P
            new = apply(instance.A, z) - instance.outer_y(y)
            P, Gz, t = W(t) @ P + new - Gz, new, t + 1
        u = instance.hypergradient_parts(x, y, z)
        r_old, r = r, u if r is None else (1 - MOMENTUM) * r + MOMENTUM * u
        s = r if r_old is None else W(t) @ s + r - r_old
        x, t = W(t) @ x - OUTER_LR * (s if tracking else r), t + 1
    return x, y


@pytest.mark.parametrize(
    ("name", "graph", "adjoint_steps"),
    [("madsbo", "ring", N), ("madsbo_gt", "ring", N), ("madsbo_gt", "one_peer_hypercube", 9)],
)
def test_first_steps(name, graph, adjoint_steps):
    settings = {"outer_lr": OUTER_LR, "adjoint_steps": adjoint_steps, "check_invariants": True}
    state, made = run(name, 5, graph=graph, **settings)
    x, y = madsbo(Instance(), mixing(made), 5, name == "madsbo_gt", adjoint_steps)
    np.testing.assert_allclose(outer(state, made), x, rtol=0, atol=1e-9)
    np.testing.assert_allclose(made.estimate(state).numpy(), y, rtol=0, atol=1e-9)
    assert np.abs(x).max() > 0.1


@pytest.mark.parametrize(("graph", "adjoint_steps"), [("ring", N), ("one_peer_hypercube", 9)])
def test_with_tracking_it_reaches_the_solution(graph, adjoint_steps):
    state, made = run("madsbo_gt", 600, graph=graph, adjoint_steps=adjoint_steps)
    assert farthest(state, made, Instance().x_star()) < 1e-6


def test_without_tracking_a_bias_stays_in_proportion_to_the_step():
    biases = []
    for outer_lr, num_steps in ((0.01, 500), (0.005, 1000)):
        state, made = run("madsbo", num_steps, outer_lr=outer_lr)
        biases.append(farthest(state, made, Instance().x_star()))
    assert biases[1] > 0.05
    assert 1.7 < biases[0] / biases[1] < 2.3


@pytest.mark.parametrize(("name", "copies"), [("madsbo", 1), ("madsbo_gt", 2)])
def test_bytes(name, copies):
    _, made = run(name, 3, "dtype=float32")
    ledger = made.network.ledger
    assert ledger.bytes == 16 * 3 * 4 * (copies * 6 + 2 * (T_IN + N) * 20)
    assert ledger.messages == 16 * 3 * (T_IN + N + 1)


@pytest.mark.parametrize(("key", "value"), [("averaging", 0.0), ("adjoint_steps", 0), ("outer_lr", -1.0)])
def test_refuses(key, value):
    with pytest.raises(ValueError, match=rf"algorithm\.{key}=.*expected"):
        simulation("madsbo", **{key: value})
