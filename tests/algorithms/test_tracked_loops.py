"""SLDBO and DSGDA-GT, in both orders of moving and mixing, against dense NumPy, and where they end."""

import numpy as np
import pytest

from tests.algorithms.shared_quadratic import Instance, apply, farthest, mixing, outer, run, simulation, start

RATES = {"sldbo": (0.05, 0.1, 0.08), "dsgda_gt": (0.03, 0.06, 0.05)}
RATE_NAMES = {
    "sldbo": ("outer_lr", "inner_lr", "adjoint_lr"),
    "dsgda_gt": ("outer_lr", "inner_lr", "ascent_lr"),
}
THIRD = {"sldbo": "adjoint", "dsgda_gt": "maximizer"}
PENALTY, RADIUS = 20.0, 0.7
ORDERS = ("adapt_then_combine", "combine_and_adapt")

pytestmark = pytest.mark.usefixtures("one_thread")


def directions(name, instance, x, y, z):
    if name == "sldbo":
        residual = apply(instance.A, z) - instance.outer_y(y)
        return instance.hypergradient_parts(x, y, z), instance.inner_y(x, y), residual
    on_y = instance.inner_y(x, y) + instance.outer_y(y) / PENALTY
    return instance.surrogate(x, y, z, PENALTY), on_y, instance.inner_y(x, z)


def tracked(name, W, num_steps, order, radius):
    x, y = start()
    values = [x, y, np.zeros_like(y)]
    trackers = old = directions(name, Instance(), *values)
    for t in range(num_steps):
        if order == "adapt_then_combine":
            values = [W(t) @ (v - lr * T) for v, T, lr in zip(values, trackers, RATES[name], strict=True)]
        else:
            values = [W(t) @ v - lr * T for v, T, lr in zip(values, trackers, RATES[name], strict=True)]
        if radius is not None:
            lengths = np.linalg.norm(values[2], axis=1, keepdims=True)
            values[2] = np.where(lengths > radius, values[2] * radius / lengths, values[2])
        new = directions(name, Instance(), *values)
        trackers = [W(t) @ T + after - before for T, after, before in zip(trackers, new, old, strict=True)]
        old = new
    return values


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("graph", ["ring", "one_peer_hypercube"])
@pytest.mark.parametrize(("name", "radius"), [("sldbo", None), ("sldbo", RADIUS), ("dsgda_gt", None)])
def test_first_steps(name, radius, graph, order):
    settings = dict(zip(RATE_NAMES[name], RATES[name], strict=True))
    settings |= {"adjoint_radius": radius} if name == "sldbo" else {"penalty": PENALTY}
    state, made = run(name, 6, graph=graph, order=order, check_invariants=True, **settings)
    expected = tracked(name, mixing(made), 6, order, radius)
    found = outer(state, made), made.estimate(state).numpy(), state[THIRD[name]].numpy()
    for rows, right in zip(found, expected, strict=True):
        np.testing.assert_allclose(rows, right, rtol=0, atol=1e-10)
        assert np.abs(right).max() > 0.05
    if radius is not None:
        assert np.isclose(np.linalg.norm(expected[2], axis=1), radius).any()


@pytest.mark.parametrize("graph", ["ring", "one_peer_hypercube"])
def test_sldbo_reaches_the_solution(graph):
    state, made = run("sldbo", 600, graph=graph)
    assert farthest(state, made, Instance().x_star()) < 1e-8


@pytest.mark.parametrize(("name", "target"), [("sldbo", "x_star"), ("dsgda_gt", "x_penalty")])
def test_the_other_order_reaches_the_same_solution(name, target):
    rates = {"outer_lr": 0.05, "inner_lr": 0.08, RATE_NAMES[name][2]: 0.08}
    state, made = run(name, 600, graph="one_peer_hypercube", order="combine_and_adapt", **rates)
    solution = Instance().x_star() if target == "x_star" else Instance().x_penalty(100.0)
    assert farthest(state, made, solution) < 1e-8


def test_dsgda_gt_ends_where_the_penalty_has_its_solution():
    """Which is O(1 / penalty) away from that of the bilevel problem."""
    distances = []
    for penalty, num_steps in ((10.0, 600), (20.0, 600)):
        state, made = run("dsgda_gt", num_steps, penalty=penalty)
        assert farthest(state, made, Instance().x_penalty(penalty)) < 1e-8
        distances.append(farthest(state, made, Instance().x_star()))
    assert 1.6 < distances[0] / distances[1] < 2.2


def test_a_ball_that_is_too_small_keeps_sldbo_from_the_solution():
    state, made = run("sldbo", 400, adjoint_radius=RADIUS)
    assert np.linalg.norm(state["adjoint"].numpy(), axis=1).max() <= RADIUS + 1e-12
    assert farthest(state, made, Instance().x_star()) > 0.05


def test_dsgda_gt_takes_first_derivatives_of_every_point_once(monkeypatch):
    made, calls = simulation("dsgda_gt"), []
    for key in ("inner_grads", "outer_grads", "second_order"):
        function = getattr(made.problem, key)

        def record(*arguments, key=key, function=function):
            calls.append(key)
            return function(*arguments)

        monkeypatch.setattr(made.problem, key, record)
    made.run(made.init(), 0, 2)
    assert sorted(calls) == ["inner_grads"] * 6 + ["outer_grads"] * 3


@pytest.mark.parametrize("name", sorted(RATES))
def test_bytes(name):
    _, made = run(name, 3, "dtype=float32")
    assert made.network.ledger.bytes == 16 * 3 * 4 * (2 * 6 + 4 * 20)
    assert made.network.ledger.messages == 16 * 3


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("sldbo", "adjoint_lr", 0.0),
        ("sldbo", "adjoint_radius", -1.0),
        ("sldbo", "order", "mix"),
        ("dsgda_gt", "penalty", 0.0),
        ("dsgda_gt", "ascent_lr", -0.1),
        ("dsgda_gt", "order", "mix"),
    ],
)
def test_refuses(name, key, value):
    with pytest.raises(ValueError, match=rf"algorithm\.{key}=.*expected"):
        simulation(name, **{key: value})


@pytest.mark.parametrize(("adjoint_lr", "said"), [(30.0, 1), (0.1, 0)])
def test_an_adjoint_variable_that_is_held_by_its_bound_is_said(adjoint_lr, said, caplog):
    state, made = run("sldbo", 40, adjoint_lr=adjoint_lr)
    made.algorithm.finish(state, 39, made.problem, made.network)
    lines = [record.getMessage() for record in caplog.records if "adjoint_radius=1000" in record.getMessage()]
    assert len(lines) == said
