"""SPARKLE with each correction against dense NumPy in the forms of the papers, and where it ends."""

import numpy as np
import pytest

from tests.algorithms.shared_quadratic import (
    NUM_NODES,
    Instance,
    apply,
    farthest,
    mixing,
    outer,
    run,
    simulation,
    start,
)

OUTER_LR, LR, MOMENTUM = 0.05, 0.1, 0.5
NAMES = ("gradient_tracking", "extra", "exact_diffusion")
STATIC_PAIRS = [(x, y) for x in NAMES for y in NAMES]

pytestmark = pytest.mark.usefixtures("one_thread")


class Tracking:
    def __init__(self, v, d, lr):
        self.v, self.d, self.T, self.lr = v, d, d, lr

    def move(self, W):
        self.v, self.T = W @ (self.v - self.lr * self.T), W @ self.T

    def turn(self, d):
        self.T, self.d = self.T + d - self.d, d


class Extra:
    """As in the paper: two iterates and two gradients are kept."""

    def __init__(self, v, d, lr):
        self.v, self.d, self.lr, self.v_before, self.d_before = v, d, lr, None, None

    def move(self, W):
        eye = np.eye(NUM_NODES)
        if self.v_before is None:
            new = W @ self.v - self.lr * self.d
        else:
            new = (eye + W) @ self.v - (eye + W) / 2 @ self.v_before - self.lr * (self.d - self.d_before)
        self.v_before, self.v = self.v, new

    def turn(self, d):
        self.d_before, self.d = self.d, d


class Diffusion:
    def __init__(self, v, d, lr):
        self.v, self.d, self.lr, self.psi = v, d, lr, v

    def move(self, W):
        psi = self.v - self.lr * self.d
        self.v, self.psi = (np.eye(NUM_NODES) + W) / 2 @ (psi + self.v - self.psi), psi

    def turn(self, d):
        self.d = d


KINDS = {"gradient_tracking": Tracking, "extra": Extra, "exact_diffusion": Diffusion}


def sparkle(instance, W, num_steps, outer_kind, inner_kind):
    x, y = start()

    def directions(x, y, z):
        u = instance.hypergradient_parts(x, y, z)
        return u, instance.inner_y(x, y), apply(instance.A, z) - instance.outer_y(y)

    kinds, rates = (outer_kind, inner_kind, inner_kind), (OUTER_LR, LR, LR)
    at = (x, y, np.zeros_like(y))
    parts = [KINDS[k](v, d, lr) for k, v, d, lr in zip(kinds, at, directions(*at), rates, strict=True)]
    for t in range(num_steps):
        for part in parts:
            part.move(W(t))
        u, on_y, on_z = directions(*(part.v for part in parts))
        r = (1 - MOMENTUM) * parts[0].d + MOMENTUM * u
        for part, d in zip(parts, (r, on_y, on_z), strict=True):
            part.turn(d)
    return [part.v for part in parts]


def check_first_steps(graph, outer_kind, inner_kind):
    settings = {"outer_correction": outer_kind, "inner_correction": inner_kind, "check_invariants": True}
    state, made = run("sparkle", 6, graph=graph, **settings)
    expected = sparkle(Instance(), mixing(made), 6, outer_kind, inner_kind)
    for key, rows in zip(("hparams", "params", "adjoint"), expected, strict=True):
        np.testing.assert_allclose(state[key].numpy(), rows, rtol=0, atol=1e-9)
        assert np.abs(rows).max() > 0.1


@pytest.mark.parametrize(("outer_kind", "inner_kind"), [(name, name) for name in NAMES] + [(NAMES[0], NAMES[2])])
def test_first_steps(outer_kind, inner_kind):
    check_first_steps("ring", outer_kind, inner_kind)


def test_first_steps_on_a_graph_that_changes():
    check_first_steps("one_peer_hypercube", "gradient_tracking", "gradient_tracking")


@pytest.mark.parametrize(("outer_kind", "inner_kind"), STATIC_PAIRS)
def test_every_correction_reaches_the_solution(outer_kind, inner_kind):
    state, made = run("sparkle", 500, outer_correction=outer_kind, inner_correction=inner_kind)
    assert farthest(state, made, Instance().x_star()) < 1e-6


def test_first_order_reaches_the_solution():
    state, made = run("sparkle", 500, first_order=True)
    assert np.abs(outer(state, made) - Instance().x_star()).max() < 1e-6


def test_reaches_the_solution_on_a_graph_that_changes():
    state, made = run("sparkle", 600, graph="one_peer_hypercube")
    assert farthest(state, made, Instance().x_star()) < 1e-6


@pytest.mark.parametrize(
    ("outer_kind", "inner_kind", "numbers"),
    [("gradient_tracking", "gradient_tracking", 2 * 6 + 4 * 20), ("gradient_tracking", "extra", 2 * 6 + 2 * 20)],
)
def test_bytes(outer_kind, inner_kind, numbers):
    _, made = run("sparkle", 3, "dtype=float32", outer_correction=outer_kind, inner_correction=inner_kind)
    assert made.network.ledger.bytes == 16 * 3 * 4 * numbers
    assert made.network.ledger.messages == 16 * 3


def test_refuses():
    with pytest.raises(ValueError, match=r"algorithm\.inner_correction='none': expected gradient_tracking, extra"):
        simulation("sparkle", inner_correction="none")
    with pytest.raises(ValueError, match=r"algorithm\.outer_correction=extra needs a static graph"):
        simulation("sparkle", outer_correction="extra", graph="one_peer_hypercube")
    with pytest.raises(ValueError, match=r"algorithm\.hparam_range=\[0, 1\]: needs algorithm\.outer_correction"):
        simulation("sparkle", outer_correction="extra", hparam_range=[0, 1])
