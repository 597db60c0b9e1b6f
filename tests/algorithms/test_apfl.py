"""APFL against NumPy, node by node, and its two ends: FedAvg and local training."""

import numpy as np
import pytest
import torch

from simulator.algorithms.federated.apfl import APFL
from simulator.algorithms.federated.fedavg import FedAvg
from simulator.graphs.hub import Hub
from simulator.graphs.self_loop import SelfLoop
from simulator.schedules import Constant
from tests.algorithms.node_data import NUM_NODES, TRAIN_SIZES, Regression, make_problem, run

LR, NUM_ROUNDS = 0.2, 6
HUB = Hub(num_nodes=NUM_NODES)

pytestmark = pytest.mark.usefixtures("one_thread")


def make(**changes):
    settings = {"lr": LR, "lr_schedule": Constant(), "local_steps": None, "mixing": 0.4, "adaptive": True}
    return APFL(**{**settings, **changes})


@pytest.mark.parametrize("adaptive", [False, True])
def test_apfl(adaptive):
    problem = make_problem()
    algorithm = make(adaptive=adaptive)
    state, _ = run(algorithm, problem, HUB, NUM_ROUNDS)
    data = Regression(problem)
    x = np.tile(data.start, (NUM_NODES, 1))
    v, a = x.copy(), np.full(NUM_NODES, 0.4)
    for index in range(NUM_ROUNDS):
        for i in range(NUM_NODES):
            for position, batch in enumerate(data.epoch(i, index)):
                if adaptive and position == 0:
                    gradient = data.gradient(i, a[i] * v[i] + (1 - a[i]) * x[i], batch)
                    a[i] = np.clip(a[i] - LR * (v[i] - x[i]) @ gradient, 0, 1)
                own = a[i] * data.gradient(i, a[i] * v[i] + (1 - a[i]) * x[i], batch)
                shared = data.gradient(i, x[i], batch)
                v[i], x[i] = v[i] - LR * own, x[i] - LR * shared
        x = np.tile(TRAIN_SIZES @ x / TRAIN_SIZES.sum(), (NUM_NODES, 1))
    for name, expected in (("params", x), ("own", v), ("mixing", a)):
        np.testing.assert_allclose(state[name].numpy(), expected, rtol=0, atol=1e-12)
    expected = a[:, None] * v + (1 - a[:, None]) * x
    np.testing.assert_allclose(algorithm.estimate(state).numpy(), expected, rtol=0, atol=1e-12)
    assert (np.abs(a - 0.4).max() > 1e-2) == adaptive


def test_share_0_is_fedavg_and_share_1_is_local_training():
    problem = make_problem()
    plain = FedAvg(
        lr=LR, lr_schedule=Constant(), local_steps=None, momentum=0.0, adaptation_epochs=0, adaptation_lr=None
    )
    for mixing, graph in ((0.0, HUB), (1.0, SelfLoop(num_nodes=NUM_NODES))):
        algorithm = make(mixing=mixing, adaptive=False)
        state, _ = run(algorithm, problem, HUB, NUM_ROUNDS)
        expected, _ = run(plain, problem, graph, NUM_ROUNDS)
        torch.testing.assert_close(algorithm.estimate(state), expected["params"], rtol=0, atol=1e-12)


def test_only_the_shared_model_is_sent():
    problem = make_problem()
    _, network = run(make(), problem, HUB, NUM_ROUNDS)
    assert network.ledger.bytes == NUM_ROUNDS * 2 * (NUM_NODES - 1) * 8 * problem.num_params


@pytest.mark.parametrize("mixing", [-0.1, 1.1])
def test_refuses_shares_outside_the_unit_interval(mixing):
    with pytest.raises(ValueError, match=r"algorithm\.mixing=.*\[0, 1\]"):
        make(mixing=mixing)
