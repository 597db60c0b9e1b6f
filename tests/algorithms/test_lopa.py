"""LoPA with and without gradient tracking against dense NumPy, and where it ends."""

import numpy as np
import pytest

from simulator import metrics
from tests.algorithms.shared_quadratic import Instance, apply, farthest, mixing, outer, run, simulation, start

OUTER_LR, INNER_LR, ADJOINT_LR, MOMENTUM, RELAXATION = 0.05, 0.1, 0.12, 0.4, 0.7
PERSONAL = "problem.lower_level=personal"

pytestmark = pytest.mark.usefixtures("one_thread")


def lopa(instance, W, num_steps, tracking):
    x, y = start()
    z, r, s = np.zeros_like(y), None, None
    for t in range(num_steps):
        on_y = instance.inner_y(x, y)
        on_z = apply(instance.A, z) - instance.outer_y(y)
        u = instance.hypergradient_parts(x, y, z)
        old, r = r, u if r is None else (1 - MOMENTUM) * r + MOMENTUM * u
        s = r if s is None or not tracking else W(t) @ s + r - old
        x = (1 - RELAXATION) * x + RELAXATION * (W(t) @ x - OUTER_LR * s)
        y, z = y - INNER_LR * on_y, z - ADJOINT_LR * on_z
    return x, y, z


@pytest.mark.parametrize(
    ("graph", "tracking", "first_order"),
    [
        ("ring", True, False),
        ("ring", False, False),
        ("one_peer_hypercube", True, False),
        ("one_peer_hypercube", False, False),
        ("ring", True, True),
    ],
)
def test_first_steps(graph, tracking, first_order):
    """Central differences of a quadratic's gradients are exact up to rounding."""
    rates = {"outer_lr": OUTER_LR, "inner_lr": INNER_LR, "adjoint_lr": ADJOINT_LR, "averaging": MOMENTUM}
    further = {"relaxation": RELAXATION, "gradient_tracking": tracking, "first_order": first_order}
    state, made = run("lopa", 6, graph=graph, check_invariants=True, **rates, **further)
    expected = lopa(Instance(), mixing(made), 6, tracking)
    for found, rows in zip((outer(state, made), made.estimate(state), state["adjoint"]), expected, strict=True):
        np.testing.assert_allclose(found, rows, rtol=0, atol=1e-9 if first_order else 1e-10)
        assert np.abs(rows).max() > 0.1


@pytest.mark.parametrize("graph", ["ring", "one_peer_hypercube"])
def test_with_tracking_it_reaches_the_solution_of_personal_lower_levels(graph):
    state, made = run("lopa", 600, PERSONAL, graph=graph, inner_lr=0.2)
    target = Instance().x_personal()
    assert farthest(state, made, target) < 1e-8
    np.testing.assert_allclose(made.estimate(state).numpy(), Instance().y_own(target), rtol=0, atol=1e-8)
    numbers = metrics.evaluate(made.algorithm, state, 600, made.problem, made.network).numbers
    for key in ("outer/distance_worst", "inner/distance", "outer/grad_norm", "mean_iterate/inner/distance"):
        assert numbers[key] < 1e-8, key
    assert np.linalg.norm(target - Instance().x_star()) > 0.1


def test_without_tracking_a_bias_stays_in_proportion_to_the_step():
    biases = []
    for outer_lr, num_steps in ((0.01, 2000), (0.005, 4000)):
        state, made = run("lopa", num_steps, gradient_tracking=False, outer_lr=outer_lr)
        biases.append(farthest(state, made, Instance().x_personal()))
    assert biases[1] > 0.02
    assert 1.7 < biases[0] / biases[1] < 2.3


@pytest.mark.parametrize(("tracking", "numbers"), [(True, 2 * 6), (False, 6)])
def test_no_lower_level_variable_is_sent(tracking, numbers):
    _, made = run("lopa", 3, "dtype=float32", gradient_tracking=tracking)
    assert made.network.ledger.bytes == 16 * 3 * 4 * numbers
    assert made.network.ledger.messages == 16 * 3


@pytest.mark.parametrize(("key", "value"), [("relaxation", 1.5), ("averaging", 0.0), ("adjoint_lr", 0.0)])
def test_refuses(key, value):
    with pytest.raises(ValueError, match=rf"algorithm\.{key}=.*expected"):
        simulation("lopa", **{key: value})
