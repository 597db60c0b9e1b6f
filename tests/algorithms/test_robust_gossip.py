"""Clipped gossip, trimmed means and medians against dense float64 NumPy, node by node and message by message."""

import numpy as np
import pytest
import torch

from simulator.algorithms.gossip.dsgd import DSGD
from simulator.algorithms.robust.clipped_gossip import ClippedGossip
from simulator.algorithms.robust.trimmed_mean import TrimmedMean
from simulator.algorithms.weights import check_weights
from simulator.graphs.one_peer_exponential import OnePeerExponential
from simulator.graphs.random_directed import RandomDirected
from simulator.schedules import Constant
from tests.algorithms.explicit_copies import load
from tests.algorithms.unlike_quadratics import (
    DIM,
    MILESTONES,
    NUM_NODES,
    RATES,
    gradient_of,
    matrices,
    quadratic,
    run,
)

SHARED = {"lr": 0.05, "lr_schedule": Constant(), "momentum": 0.0, "order": "adapt_then_combine"}

pytestmark = pytest.mark.usefixtures("one_thread")


def undirected():
    return load("graph", "erdos_renyi")


def changing():
    return OnePeerExponential(num_nodes=NUM_NODES)


def directed():
    return RandomDirected(num_nodes=NUM_NODES, rate_low=0.3, rate_high=0.6, seed=5)


def clipped(**changes):
    return ClippedGossip(**{**SHARED, "radius": "adaptive", "num_attackers": 1, **changes})


def trimmed(**changes):
    return TrimmedMean(**{**SHARED, "rule": "trimmed_mean", "trim": 1, **changes})


def clip(W, u, radius, b):
    """ClippedGossip at every node; ``radius`` is a number or None for the adaptive one."""
    x = u.copy()
    for i in range(len(u)):
        heard = [j for j in range(len(u)) if j != i and W[i, j]]
        distance = {j: np.linalg.norm(u[j] - u[i]) for j in heard}
        tau = radius
        if tau is None:
            by_distance = sorted(heard, key=distance.get)
            near = by_distance[: max(len(heard) - b, 1)]
            far = by_distance[len(near) :]
            squares = sum(W[i, j] * distance[j] ** 2 for j in near)
            tau = np.sqrt(squares / sum(W[i, j] for j in far)) if far else np.inf
        for j in heard:
            x[i] += W[i, j] * (u[j] - u[i]) * min(1.0, tau / distance[j] if distance[j] else 1.0)
    return x


def trim(W, u, rule, b):
    """The trimmed mean or the median of each column among a node and those that it hears."""
    x = np.empty_like(u)
    for i in range(len(u)):
        values = np.sort(u[[j for j in range(len(u)) if j == i or W[i, j]]], axis=0)
        cut = b
        while 2 * cut >= len(values):
            cut -= 1
        x[i] = np.median(values, axis=0) if rule == "median" else values[cut : len(values) - cut].mean(axis=0)
    return x


def recursion(problem, graph, combine, momentum=0.0, order="adapt_then_combine"):
    gradient, x, m = gradient_of(problem), np.zeros((NUM_NODES, DIM)), np.zeros((NUM_NODES, DIM))
    for W, a in zip(matrices(graph), RATES, strict=True):
        m = momentum * m + gradient(x)
        x = combine(W, x - a * m) if order == "adapt_then_combine" else combine(W, x) - a * m
    return x


@pytest.mark.parametrize("graph", [undirected, changing])
@pytest.mark.parametrize(("radius", "b"), [(0.02, 1), (None, 0), (None, 1), (None, 2)])
@pytest.mark.parametrize("order", ["adapt_then_combine", "combine_and_adapt"])
def test_clipped_gossip(graph, radius, b, order):
    algorithm = clipped(
        radius="adaptive" if radius is None else radius,
        num_attackers=b,
        momentum=0.5,
        lr_schedule=MILESTONES,
        order=order,
    )
    state = run(algorithm, quadratic(), graph(), len(RATES))
    x = recursion(quadratic(), graph(), lambda W, u: clip(W, u, radius, b), 0.5, order)
    np.testing.assert_allclose(state["params"].numpy(), x, rtol=0, atol=1e-10)
    if graph is undirected and (radius is not None or b):
        plain = recursion(quadratic(), graph(), lambda W, u: W @ u, 0.5, order)
        assert np.abs(plain - x).max() > 1e-3


@pytest.mark.parametrize("graph", [undirected, directed])
@pytest.mark.parametrize(("rule", "b"), [("trimmed_mean", 0), ("trimmed_mean", 2), ("median", 0)])
def test_trimmed_mean(graph, rule, b):
    algorithm = trimmed(rule=rule, trim=b, momentum=0.5, lr_schedule=MILESTONES)
    state = run(algorithm, quadratic(), graph(), len(RATES))
    x = recursion(quadratic(), graph(), lambda W, u: trim(W, u, rule, b), 0.5)
    np.testing.assert_allclose(state["params"].numpy(), x, rtol=0, atol=1e-10)


def test_what_is_wide_or_trims_nothing_is_gossip():
    state = run(clipped(radius=1e6), quadratic(), undirected(), 30)
    expected = run(DSGD(**SHARED), quadratic(), undirected(), 30)["params"]
    torch.testing.assert_close(state["params"], expected, rtol=0, atol=1e-12)
    complete = load("graph", "fully_connected")
    state = run(trimmed(trim=0), quadratic(), complete, 30)
    expected = run(DSGD(**SHARED), quadratic(), complete, 30)["params"]
    torch.testing.assert_close(state["params"], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("make", "changes"),
    [
        (clipped, {"radius": "wide"}),
        (clipped, {"radius": 0.0}),
        (clipped, {"num_attackers": -1}),
        (trimmed, {"rule": "mean"}),
        (trimmed, {"trim": -1}),
        (trimmed, {"lr": 0.0}),
    ],
)
def test_refuses(make, changes):
    (key,) = changes
    with pytest.raises(ValueError, match=rf"algorithm\.{key}=.*expected"):
        make(**changes)


def test_which_weights_they_take():
    with pytest.raises(ValueError, match="algorithm=clipped_gossip needs doubly stochastic weights"):
        check_weights(clipped(), directed())
    check_weights(trimmed(), directed())
