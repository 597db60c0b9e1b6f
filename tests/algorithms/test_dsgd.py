"""Local steps, weight decay and the moving average of D-SGD, against dense float64 NumPy on minibatches."""

import numpy as np
import pytest
import torch

from simulator.algorithms.dsgd import DSGD
from simulator.graphs.ring import Ring
from simulator.network import Network
from simulator.placement import Placement
from simulator.schedules import Constant, Inverse
from tests.algorithms.node_data import NUM_NODES, Regression, make_problem

NUM_STEPS = 9
GRAPH = Ring(num_nodes=NUM_NODES)

pytestmark = pytest.mark.usefixtures("one_thread")


def run(problem, **settings):
    """The states after every step, copied."""
    network = Network(GRAPH, Placement(NUM_NODES), torch.device("cpu"))
    algorithm = DSGD(
        **{"lr": 0.2, "lr_schedule": Inverse(), "momentum": 0.0, "order": "adapt_then_combine", **settings}
    )
    state = algorithm.init(problem, network)
    for step in range(NUM_STEPS):
        state = algorithm.step(state, step, problem, network)
        yield {key: rows.clone().numpy() for key, rows in state.items()}, algorithm.estimate(state).numpy()


def minibatches(regression, node):
    """The minibatches of a node, epoch after epoch."""
    epoch = 0
    while True:
        yield from regression.epoch(node, epoch)
        epoch += 1


@pytest.mark.parametrize("order", ["adapt_then_combine", "combine_and_adapt"])
@pytest.mark.parametrize(("momentum", "local_steps"), [(0.0, 1), (0.0, 3), (0.7, 1), (0.7, 3)])
def test_local_steps_with_momentum_and_weight_decay(order, momentum, local_steps):
    """The oracle's gradient holds the weight decay, and its momentum is taken of that."""
    regression = Regression(make_problem())
    start = np.tile(regression.start, (NUM_NODES, 1))
    x, m = start.copy(), np.zeros_like(start)
    streams = [minibatches(regression, node) for node in range(NUM_NODES)]
    W = GRAPH.edges(0).to_matrix(NUM_NODES)
    states = run(make_problem(), order=order, momentum=momentum, local_steps=local_steps)
    for step, (state, _) in enumerate(states):
        u = x.copy()
        for _ in range(local_steps):
            for node in range(NUM_NODES):
                m[node] = momentum * m[node] + regression.gradient(node, u[node], next(streams[node]))
            u = u - 0.2 / (step + 1) * m
        x = W @ u if order == "adapt_then_combine" else W @ x + (u - x)
        np.testing.assert_allclose(state["params"], x, rtol=0, atol=1e-11)
    assert np.abs(x - start).max() > 0.05


def test_the_moving_average_is_evaluated_and_changes_nothing_else():
    plain = [state["params"] for state, _ in run(make_problem(), momentum=0.5)]
    average = np.tile(Regression(make_problem()).start, (NUM_NODES, 1))
    for params, (state, estimate) in zip(plain, run(make_problem(), momentum=0.5, ema=0.8), strict=True):
        np.testing.assert_array_equal(state["params"], params)
        average = 0.8 * average + 0.2 * params
        np.testing.assert_allclose(state["average"], average, rtol=0, atol=1e-13)
        np.testing.assert_array_equal(estimate, state["average"])
    assert np.abs(average - params).max() > 1e-3


@pytest.mark.parametrize("changes", [{"local_steps": 0}, {"ema": 1.0}, {"ema": -0.1}])
def test_refuses(changes):
    (key,) = changes
    good = {"lr": 0.1, "lr_schedule": Constant(), "momentum": 0.0, "order": "adapt_then_combine"}
    with pytest.raises(ValueError, match=rf"algorithm\.{key}=.*expected"):
        DSGD(**good, **changes)
