"""L2SGD against NumPy, node by node, and its two ends: local training and full averages."""

import numpy as np
import pytest
import torch

from simulator.algorithms.federated.fedavg import FedAvg
from simulator.algorithms.federated.l2sgd import L2SGD
from simulator.graphs.hub import Hub
from simulator.graphs.ring import Ring
from simulator.graphs.self_loop import SelfLoop
from simulator.schedules import Constant
from tests.algorithms.node_data import NUM_NODES, TRAIN_SIZES, Regression, make_problem, run

LR, PROBABILITY, NUM_STEPS = 0.1, 0.4, 12
HUB, RING = Hub(num_nodes=NUM_NODES), Ring(num_nodes=NUM_NODES)
MEAN = np.tile(TRAIN_SIZES / TRAIN_SIZES.sum(), (NUM_NODES, 1))

pytestmark = pytest.mark.usefixtures("one_thread")


def make(**changes):
    settings = {"lr": LR, "lr_schedule": Constant(), "local_steps": None}
    return L2SGD(**{**settings, "penalty": 2.0, "probability": PROBABILITY, "seed": 3, **changes})


@pytest.mark.parametrize(("graph", "matrix"), [(HUB, MEAN), (RING, RING.edges(0).to_matrix(NUM_NODES))])
def test_l2sgd(graph, matrix):
    problem, algorithm = make_problem(), make()
    state, network = run(algorithm, problem, graph, NUM_STEPS)
    data = Regression(problem)
    x = np.tile(data.start, (NUM_NODES, 1))
    coins = [algorithm.communicates(step) for step in range(NUM_STEPS)]
    assert 2 <= sum(coins) <= NUM_STEPS - 2
    for step, communicates in enumerate(coins):
        if communicates:
            x = x - LR * 2.0 / PROBABILITY * (x - matrix @ x)
            continue
        for i in range(NUM_NODES):
            for batch in data.epoch(i, step):
                x[i] = x[i] - LR / (1 - PROBABILITY) * data.gradient(i, x[i], batch)
    np.testing.assert_allclose(state["params"].numpy(), x, rtol=0, atol=1e-12)
    rounds = 2 * (NUM_NODES - 1) if graph is HUB else 2 * NUM_NODES
    assert network.ledger.bytes == sum(coins) * rounds * 8 * problem.num_params


def test_full_pull_is_the_average_and_none_is_local_training():
    problem = make_problem()
    full = make(penalty=PROBABILITY / LR)
    last = max(step for step in range(NUM_STEPS) if full.communicates(step))
    state, _ = run(full, problem, HUB, last + 1)
    torch.testing.assert_close(state["params"], state["params"][:1].expand(NUM_NODES, -1), rtol=0, atol=1e-14)
    # Without a pull, steps that communicate change nothing: what is left is local training with pauses.
    seed = next(seed for seed in range(20) if not make(seed=seed).communicates(0) and make(seed=seed).communicates(1))
    state, _ = run(make(penalty=0.0, seed=seed), problem, HUB, 2)
    local = FedAvg(lr=LR / 0.6, lr_schedule=Constant(), local_steps=None, momentum=0.0, adaptation_epochs=0)
    expected, _ = run(local, problem, SelfLoop(num_nodes=NUM_NODES), 1)
    torch.testing.assert_close(state["params"], expected["params"], rtol=0, atol=1e-14)


def test_the_coin_has_its_probability_and_is_keyed():
    tosses = np.array([make(seed=seed).communicates(step) for seed in range(4) for step in range(500)])
    # Five standard deviations of a binomial frequency over 2000 tosses.
    assert abs(tosses.mean() - PROBABILITY) < 5 * (PROBABILITY * (1 - PROBABILITY) / len(tosses)) ** 0.5
    assert not np.array_equal(tosses[:500], tosses[500:1000])


@pytest.mark.parametrize("changes", [{"probability": 0.0}, {"probability": 1.0}, {"penalty": -1.0}, {"penalty": 4.1}])
def test_refuses(changes):
    (key,) = changes
    with pytest.raises(ValueError, match=rf"algorithm\.{key}=.*expected"):
        make(**changes)
