"""Quasi-global momentum, alone and by push-sum, against dense float64 NumPy in the form of the paper."""

import numpy as np
import pytest
import torch

from simulator.algorithms.gossip.dsgd import DSGD
from simulator.algorithms.gossip.qg_dsgdm import QGDSGDm
from simulator.algorithms.gossip.qg_sgp import QGSGP
from simulator.algorithms.weights import check_weights
from simulator.graphs.one_peer_exponential import OnePeerExponential
from simulator.graphs.random_directed import RandomDirected
from simulator.graphs.ring import Ring
from simulator.schedules import Constant
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
    optimum = torch.linalg.solve(problem.hessian.mean(dim=0), problem.linear.mean(dim=0))
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
