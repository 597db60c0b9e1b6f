"""Decentralized AdamW against dense float64 NumPy, and where it ends."""

import numpy as np
import pytest
import torch

from simulator.algorithms.gossip.dadamw import DAdamW
from simulator.graphs.fully_connected import FullyConnected
from simulator.graphs.ring import Ring
from simulator.network.network import Network
from simulator.placement import Placement
from simulator.problems.base import Setting
from simulator.problems.quadratic import Quadratic
from simulator.schedules import Constant, Inverse, InverseRoot
from tests.algorithms.node_data import NUM_NODES, Regression, make_problem
from tests.algorithms.node_data import run as run_to_end

SETTINGS = {
    "lr": 0.02,
    "lr_schedule": Inverse(),
    "beta_1": 0.8,
    "beta_2": 0.95,
    "epsilon": 1e-6,
    "weight_decay": 0.3,
    "order": "adapt_then_combine",
    "local_steps": 1,
    "ema": 0.0,
}
GRAPH = Ring(num_nodes=NUM_NODES)

pytestmark = pytest.mark.usefixtures("one_thread")


def minibatches(regression, node):
    """The minibatches of a node, epoch after epoch."""
    epoch = 0
    while True:
        yield from regression.epoch(node, epoch)
        epoch += 1


@pytest.mark.parametrize("order", ["adapt_then_combine", "combine_and_adapt"])
@pytest.mark.parametrize("local_steps", [1, 3])
def test_recursion(order, local_steps):
    regression, problem = Regression(make_problem()), make_problem()
    x = np.tile(regression.start, (NUM_NODES, 1))
    m, s, e = np.zeros_like(x), np.zeros_like(x), x.copy()
    streams = [minibatches(regression, node) for node in range(NUM_NODES)]
    W = GRAPH.edges(0).to_matrix(NUM_NODES)
    algorithm = DAdamW(**{**SETTINGS, "order": order, "local_steps": local_steps, "ema": 0.6})
    network = Network(GRAPH, Placement(NUM_NODES), torch.device("cpu"))
    state, k = algorithm.init(problem, network), 0
    for step in range(8):
        state = algorithm.step(state, step, problem, network)
        u, lr = x.copy(), 0.02 / (step + 1)
        for _ in range(local_steps):
            k += 1
            for node in range(NUM_NODES):
                g = regression.gradient(node, u[node], next(streams[node]))
                m[node] = 0.8 * m[node] + 0.2 * g
                s[node] = 0.95 * s[node] + 0.05 * g**2
                unbiased = m[node] / (1 - 0.8**k), s[node] / (1 - 0.95**k)
                u[node] = u[node] - lr * unbiased[0] / (np.sqrt(unbiased[1]) + 1e-6) - lr * 0.3 * u[node]
        x = W @ u if order == "adapt_then_combine" else W @ x + (u - x)
        e = 0.6 * e + 0.4 * x
        np.testing.assert_allclose(state["params"].numpy(), x, rtol=0, atol=1e-10)
        np.testing.assert_allclose(algorithm.estimate(state).numpy(), e, rtol=0, atol=1e-10)
    np.testing.assert_allclose(state["mean"].numpy(), m, rtol=0, atol=1e-10)
    np.testing.assert_allclose(state["mean_square"].numpy(), s, rtol=0, atol=1e-10)
    assert network.ledger.bytes == 8 * 2 * NUM_NODES * x.shape[1] * 8


def test_nodes_that_differ_end_at_the_median_of_their_minimisers():
    """On f_i = |x - c_i|^2 / 2 the ratio m_i / sqrt(s_i) comes to sign(x - c_i), whose sum is 0 at the median."""
    kind = {"dim": 4, "num_hyperparameters": 0, "noise": 0.0, "outer_regularization": 0.0}
    problem = Quadratic(**kind, condition=1.0, heterogeneity=1.0)
    problem.setup(Setting(range(7), 7, seed=2, dtype=torch.float64, device=torch.device("cpu")))
    settings = {"beta_1": 0.9, "beta_2": 0.9, "weight_decay": 0.0, "lr": 0.5, "lr_schedule": InverseRoot()}
    state, _ = run_to_end(DAdamW(**{**SETTINGS, **settings}), problem, FullyConnected(num_nodes=7), 2500)
    found = state["params"].numpy()
    median, mean = np.median(problem.linear.numpy(), axis=0), problem.linear.numpy().mean(axis=0)
    assert np.abs(median - mean).max() > 0.2
    np.testing.assert_allclose(found, np.tile(median, (7, 1)), rtol=0, atol=0.05)


@pytest.mark.parametrize(
    "changes",
    [{"lr": 0.0}, {"beta_1": 1.0}, {"beta_2": -0.1}, {"epsilon": 0.0}, {"weight_decay": -1.0}, {"local_steps": 0}],
)
def test_refuses(changes):
    (key,) = changes
    with pytest.raises(ValueError, match=rf"algorithm\.{key}=.*expected"):
        DAdamW(**{**SETTINGS, "lr_schedule": Constant(), **changes})
