"""D-SOBA against dense NumPy, by both kinds of products, and where it ends."""

import numpy as np
import pytest

from tests.algorithms.shared_quadratic import Instance, apply, farthest, mixing, outer, run, simulation, start

OUTER_LR, LR, MOMENTUM = 0.05, 0.1, 0.5

pytestmark = pytest.mark.usefixtures("one_thread")


def dsoba(instance, W, num_steps):
    x, y = start()
    z, r = np.zeros_like(y), None
    for t in range(num_steps):
        u, on_y = instance.hypergradient_parts(x, y, z), instance.inner_y(x, y)
        on_z = apply(instance.A, z) - instance.outer_y(y)
        r = u if r is None else (1 - MOMENTUM) * r + MOMENTUM * u
        x, y, z = W(t) @ (x - OUTER_LR * r), W(t) @ (y - LR * on_y), W(t) @ (z - LR * on_z)
    return x, y, z


@pytest.mark.parametrize("first_order", [False, True])
@pytest.mark.parametrize("graph", ["ring", "one_peer_hypercube"])
def test_first_steps(graph, first_order):
    """Central differences of a quadratic's gradients are exact up to rounding."""
    settings = {"outer_lr": OUTER_LR, "inner_lr": LR, "adjoint_lr": LR, "first_order": first_order}
    state, made = run("dsoba", 5, graph=graph, **settings)
    x, y, z = dsoba(Instance(), mixing(made), 5)
    np.testing.assert_allclose(outer(state, made), x, rtol=0, atol=1e-9)
    np.testing.assert_allclose(made.estimate(state).numpy(), y, rtol=0, atol=1e-9)
    np.testing.assert_allclose(state["adjoint"].numpy(), z, rtol=0, atol=1e-9)
    assert np.abs(z).max() > 0.1


def test_first_order_takes_no_second_derivatives(monkeypatch):
    made = simulation("dsoba", first_order=True)

    def refuse(*_):
        raise AssertionError("second derivatives")

    monkeypatch.setattr(made.problem, "second_order", refuse)
    made.run(made.init(), 0, 3)


def test_a_bias_stays_that_shrinks_with_the_steps():
    biases = []
    for scale, num_steps in ((1.0, 4000), (0.5, 8000)):
        rates = {"outer_lr": 0.005 * scale, "inner_lr": 0.01 * scale, "adjoint_lr": 0.01 * scale}
        state, made = run("dsoba", num_steps, **rates)
        biases.append(farthest(state, made, Instance().x_star()))
    assert biases[1] > 0.02
    assert 1.5 < biases[0] / biases[1] < 2.5


def test_bytes():
    _, made = run("dsoba", 3, "dtype=float32")
    assert made.network.ledger.bytes == 16 * 3 * 4 * (6 + 2 * 20)
    assert made.network.ledger.messages == 16 * 3


@pytest.mark.parametrize(("key", "value"), [("averaging", 2.0), ("difference_step", 0.0), ("adjoint_lr", -0.1)])
def test_refuses(key, value):
    with pytest.raises(ValueError, match=rf"algorithm\.{key}=.*expected"):
        simulation("dsoba", **{key: value})
