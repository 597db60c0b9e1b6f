"""Ditto against NumPy, node by node, and without its proximal term: local training beside FedAvg."""

import numpy as np
import pytest
import torch

from simulator.algorithms.federated.ditto import Ditto
from simulator.algorithms.federated.fedavg import FedAvg
from simulator.graphs.hub import Hub
from simulator.graphs.ring import Ring
from simulator.graphs.self_loop import SelfLoop
from simulator.schedules import MultiStep
from tests.algorithms.node_data import NUM_NODES, TRAIN_SIZES, Regression, make_problem, run

LR, NUM_ROUNDS, PROXIMITY = 0.2, 6, 0.7
HUB, RING = Hub(num_nodes=NUM_NODES), Ring(num_nodes=NUM_NODES)
MEAN = np.tile(TRAIN_SIZES / TRAIN_SIZES.sum(), (NUM_NODES, 1))
GRAPHS = {"hub": (HUB, MEAN), "ring": (RING, RING.edges(0).to_matrix(NUM_NODES))}
SETTINGS = {"lr": LR, "lr_schedule": MultiStep(milestones=[2], decay=0.5), "local_steps": None}

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize(("where", "momentum"), [("hub", 0.0), ("ring", 0.9)])
def test_ditto(where, momentum):
    graph, matrix = GRAPHS[where]
    problem = make_problem()
    algorithm = Ditto(**SETTINGS, momentum=momentum, proximity=PROXIMITY)
    state, network = run(algorithm, problem, graph, NUM_ROUNDS)
    data = Regression(problem)
    x = np.tile(data.start, (NUM_NODES, 1))
    v, m_x, m_v = x.copy(), np.zeros_like(x), np.zeros_like(x)
    for index in range(NUM_ROUNDS):
        lr = LR * (0.5 if index >= 2 else 1.0)
        began = x.copy()
        for i in range(NUM_NODES):
            for batch in data.epoch(i, index):
                m_v[i] = momentum * m_v[i] + data.gradient(i, v[i], batch) + PROXIMITY * (v[i] - began[i])
                m_x[i] = momentum * m_x[i] + data.gradient(i, x[i], batch)
                v[i], x[i] = v[i] - lr * m_v[i], x[i] - lr * m_x[i]
        x = matrix @ x
    np.testing.assert_allclose(state["params"].numpy(), x, rtol=0, atol=1e-12)
    np.testing.assert_allclose(algorithm.estimate(state).numpy(), v, rtol=0, atol=1e-12)
    assert np.ptp(v, axis=0).max() > 0.05
    # Only the shared model is sent, in float64.
    edges = 2 * (NUM_NODES - 1) if graph is HUB else 2 * NUM_NODES
    assert network.ledger.bytes == NUM_ROUNDS * edges * 8 * problem.num_params


def test_without_its_term_it_is_local_training_beside_fedavg():
    problem = make_problem()
    fedavg = FedAvg(**SETTINGS, momentum=0.9, adaptation_epochs=0, adaptation_lr=None)
    state, _ = run(Ditto(**SETTINGS, momentum=0.9, proximity=0.0), problem, HUB, NUM_ROUNDS)
    for name, graph in (("params", HUB), ("own", SelfLoop(num_nodes=NUM_NODES))):
        expected, _ = run(fedavg, problem, graph, NUM_ROUNDS)
        torch.testing.assert_close(state[name], expected["params"], rtol=0, atol=0)


def test_a_strong_term_holds_the_own_models_at_the_shared_one():
    """With curvature C the own model rests where C (v - its optimum) = proximity (x - v), within C / proximity of x."""
    problem = make_problem(batch_size=None)
    gaps = []
    for proximity in (1.0, 100.0):
        schedule = MultiStep(milestones=[], decay=1.0)
        algorithm = Ditto(lr=0.01, lr_schedule=schedule, local_steps=1, momentum=0.0, proximity=proximity)
        state, _ = run(algorithm, problem, HUB, 200)
        gaps.append(float((state["own"] - state["params"]).norm()))
    assert 0 < gaps[1] < 0.05 * gaps[0]


def test_refuses_a_negative_term():
    with pytest.raises(ValueError, match=r"algorithm\.proximity=-0\.1: expected at least 0"):
        Ditto(**SETTINGS, momentum=0.0, proximity=-0.1)
