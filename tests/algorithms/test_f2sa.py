"""F2SA with gradient tracking against dense NumPy, and where it ends."""

import numpy as np
import pytest

from tests.algorithms.shared_quadratic import NUM_NODES, Instance, farthest, mixing, outer, run, simulation, start

pytestmark = pytest.mark.usefixtures("one_thread")


def f2sa(instance, W, num_steps, penalty, growth, K, lr, outer_lr, outer_consensus):
    x, y = start()
    z = y.copy()
    sy = sz = Gy = Gz = np.zeros_like(y)
    t, u, tracker = 0, 0.0, 0.0
    for call in range(num_steps + 1):
        weight = penalty * (1 + call) ** growth
        if call:
            step = (1 - outer_consensus) * np.eye(NUM_NODES) + outer_consensus * W(t)
            x, tracker, t = step @ x - outer_lr * tracker, step @ tracker, t + 1
        for first in [True] + [False] * K:
            if not first:
                y, z, sy, sz = W(t) @ y - lr * sy, W(t) @ z - lr * sz, W(t) @ sy, W(t) @ sz
                t += 1
            new_y, new_z = instance.inner_y(x, y) + instance.outer_y(y) / weight, instance.inner_y(x, z)
            sy, sz, Gy, Gz = sy + new_y - Gy, sz + new_z - Gz, new_y, new_z
        new = instance.surrogate(x, y, z, weight)
        tracker, u = tracker + new - u, new
    return x, y


@pytest.mark.parametrize(("graph", "steps", "growth"), [("ring", 1, 0.0), ("one_peer_hypercube", 3, 0.5)])
def test_first_steps(graph, steps, growth):
    state, made = run("f2sa", 6, graph=graph, inner_steps=steps, penalty_growth=growth, check_invariants=True)
    x, y = f2sa(Instance(), mixing(made), 6, 100.0, growth, steps, 0.05, 0.02, 0.8)
    np.testing.assert_allclose(outer(state, made), x, rtol=0, atol=1e-9)
    np.testing.assert_allclose(made.estimate(state).numpy(), y, rtol=0, atol=1e-9)
    assert np.abs(x).max() > 0.05


def test_reaches_the_penalty_solution_on_a_single_loop():
    target = Instance().x_penalty(100.0)
    state, made = run("f2sa", 1500)
    assert farthest(state, made, target) < 1e-6


def test_a_growing_penalty_goes_past_the_constant_one():
    """The penalty ends at 10 * 1500^0.3 = 90."""
    target, errors = Instance().x_star(), []
    for growth in (0.0, 0.3):
        state, made = run("f2sa", 1500, penalty=10.0, penalty_growth=growth)
        errors.append(farthest(state, made, target))
    assert abs(errors[0] - np.linalg.norm(Instance().x_penalty(10.0) - target)) < 1e-6
    assert errors[1] < 0.2 * errors[0]


def test_bytes():
    """Two of x and four of y and z per step and link, and once four for the setup."""
    _, made = run("f2sa", 7)
    ledger = made.network.ledger
    assert ledger.bytes == 16 * 8 * (4 * 20 + 7 * (2 * 6 + 4 * 20))
    assert ledger.messages == 16 * (1 + 7 * 2)


def test_refuses_a_penalty_that_shrinks():
    with pytest.raises(ValueError, match=r"algorithm\.penalty_growth=-1\.0.*expected"):
        simulation("f2sa", penalty_growth=-1.0)
