"""Quasi-global momentum, alone and by push-sum, against dense float64 NumPy in the form of the paper."""

import numpy as np
import pytest
import torch

from simulator.algorithms.gossip.dsgd import DSGD
from simulator.algorithms.gossip.qg_dsgdm import QGDSGDm
from simulator.algorithms.gossip.qg_sgp import QGSGP
from simulator.algorithms.weights import check_weights
from simulator.graphs.directed_ring import DirectedRing
from simulator.graphs.one_peer_exponential import OnePeerExponential
from simulator.graphs.random_directed import RandomDirected
from simulator.graphs.ring import Ring
from simulator.network.network import Network
from simulator.placement import Placement
from simulator.schedules import Constant
from simulator.testing.algorithms import Flat
from tests.algorithms.unlike_quadratics import (
    CPU,
    DIM,
    MILESTONES,
    NUM_NODES,
    RATES,
    gradient_of,
    matrices,
    minimiser_of,
    quadratic,
    run,
)

DIRECTED = RandomDirected(num_nodes=NUM_NODES, rate_low=0.3, rate_high=0.6, seed=5)
NUM_STEPS = len(RATES)

pytestmark = pytest.mark.usefixtures("one_thread")


def settings(**changes):
    return {"lr": 0.05, "lr_schedule": Constant(), "momentum": 0.8, **changes}


def recursion(gradient, P, b, c, nesterov):
    """Lines 5 to 10 of the paper's algorithm, with the debiased model wherever the paper has the model."""
    x, w, q = np.zeros((NUM_NODES, DIM)), np.ones(NUM_NODES), np.zeros((NUM_NODES, DIM))
    for matrix, a in zip(P, RATES, strict=True):
        z = x / w[:, None]
        m = b * q + gradient(z)
        x = matrix @ (x - a * (gradient(z) + b * m if nesterov else m))
        w = matrix @ w
        d = (z - x / w[:, None]) / a
        q = c * q + (1 - c) * d
    return x, w, q


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("decay", [None, 0.6])
@pytest.mark.parametrize(
    ("kind", "graph"),
    [(QGDSGDm, OnePeerExponential(num_nodes=NUM_NODES)), (QGSGP, DIRECTED)],
    ids=["qg_dsgdm", "qg_sgp"],
)
def test_is_the_recursion_of_the_paper(kind, graph, decay, nesterov):
    problem = quadratic()
    algorithm = kind(**settings(lr_schedule=MILESTONES, decay=decay, nesterov=nesterov))
    state = run(algorithm, problem, graph, NUM_STEPS)
    c = 0.8 if decay is None else decay
    x, w, q = recursion(gradient_of(problem), matrices(graph), 0.8, c, nesterov)
    np.testing.assert_allclose(state["params"].numpy(), x, rtol=0, atol=1e-10)
    np.testing.assert_allclose(state["momentum"].numpy(), q, rtol=0, atol=1e-10)
    np.testing.assert_allclose(algorithm.estimate(state).numpy(), x / w[:, None], rtol=0, atol=1e-10)
    assert np.abs(q).max() > 1e-2
    if kind is QGSGP:
        assert np.ptp(w) > 0.1
        np.testing.assert_allclose(state["push_sum_weight"].numpy(), w, rtol=0, atol=1e-12)


def test_push_sum_changes_nothing_on_doubly_stochastic_schedules():
    graph = OnePeerExponential(num_nodes=NUM_NODES)
    plain, pushed = (run(kind(**settings()), quadratic(), graph, 30) for kind in (QGDSGDm, QGSGP))
    torch.testing.assert_close(pushed["params"], plain["params"], rtol=0, atol=1e-12)
    torch.testing.assert_close(pushed["momentum"], plain["momentum"], rtol=0, atol=1e-12)


def test_without_momentum_it_is_dsgd():
    graph = Ring(num_nodes=NUM_NODES)
    state = run(QGDSGDm(**settings(momentum=0.0)), quadratic(), graph, 30)
    dsgd = DSGD(lr=0.05, lr_schedule=Constant(), momentum=0.0, order="adapt_then_combine")
    torch.testing.assert_close(state["params"], run(dsgd, quadratic(), graph, 30)["params"], rtol=0, atol=1e-12)


def test_agrees_better_than_local_momentum_on_unlike_nodes():
    """What the paper is for: momentum of the nodes' own gradients drives unlike nodes apart."""
    problem, graph = quadratic(), Ring(num_nodes=NUM_NODES)
    optimum = minimiser_of(problem)
    dsgd = DSGD(lr=0.01, lr_schedule=Constant(), momentum=0.9, order="adapt_then_combine")
    errors = [
        float((run(algorithm, problem, graph, 400)["params"] - optimum).norm(dim=1).max())
        for algorithm in (QGDSGDm(**settings(lr=0.01, momentum=0.9)), dsgd)
    ]
    assert errors[0] < 0.3 * errors[1]


@pytest.mark.parametrize("changes", [{"lr": 0.0}, {"momentum": 1.0}, {"decay": -0.1}])
def test_refuses(changes):
    (key,) = changes
    with pytest.raises(ValueError, match=rf"algorithm\.{key}=.*expected"):
        QGDSGDm(**settings(**changes))


def test_names_its_push_sum_form():
    with pytest.raises(ValueError, match=r"algorithm=qg_dsgdm needs doubly stochastic .* use algorithm=qg_sgp there"):
        check_weights(QGDSGDm(**settings()), DIRECTED)


def test_disagreement_grows_by_itself_on_a_long_directed_ring():
    """One eigenvalue of W by itself: x and a q, without gradients, as the docstring says; not on a short ring."""

    def largest(num_nodes, b=0.8):
        angles = 2j * np.pi * np.arange(1, num_nodes) / num_nodes
        pairs = [np.array([[w, -w * b], [(1 - b) * (1 - w), b + (1 - b) * w * b]]) for w in 0.5 + 0.5 * np.exp(angles)]
        return max(np.abs(np.linalg.eigvals(pair)).max() for pair in pairs)

    assert largest(8) > 1 > largest(4)
    for num_nodes, grows in ((8, True), (4, False)):
        network = Network(DirectedRing(num_nodes=num_nodes), Placement(num_nodes), CPU)
        algorithm = QGDSGDm(**settings())
        state = algorithm.init(Flat(num_nodes), network)
        generator = torch.Generator().manual_seed(1)
        state["params"] += torch.randn(num_nodes, 7, dtype=torch.float64, generator=generator)
        spread = [float(state["params"].std(dim=0).norm())]
        for step in range(200):
            state = algorithm.step(state, step, Flat(num_nodes), network)
        spread.append(float(state["params"].std(dim=0).norm()))
        assert (spread[1] > 10 * spread[0]) == grows
