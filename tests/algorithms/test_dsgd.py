"""Local steps, weight decay and the moving average of D-SGD, against dense float64 NumPy on minibatches."""

import numpy as np
import pytest
import torch

from simulator.algorithms.gossip.dsgd import DSGD
from simulator.faults.message_loss import MessageLoss
from simulator.graphs.d_cliques import DCliques
from simulator.graphs.ring import Ring
from simulator.network.network import Network
from simulator.placement import Placement
from simulator.problems.base import Setting
from simulator.problems.quadratic import Quadratic
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


@pytest.mark.parametrize("order", ["adapt_then_combine", "combine_and_adapt"])
@pytest.mark.parametrize("probability", [0.0, 0.4])
def test_clique_averaging(order, probability):
    """Momentum is of the cliques' mean gradients; a node averages over those of its clique that it hears."""
    graph = DCliques(num_nodes=8, max_clique_size=3, connection="ring", seed=1)
    graph.use_label_counts(np.eye(4, dtype=np.int64)[np.arange(8) % 4])
    faulty = MessageLoss(graph=graph, probability=probability, seed=2)
    problem = Quadratic(
        dim=3, num_hyperparameters=0, condition=3.0, heterogeneity=1.0, noise=0.0, outer_regularization=0.0
    )
    problem.setup(Setting(nodes=range(8), num_nodes=8, seed=2, dtype=torch.float64, device=torch.device("cpu")))
    settings = {"lr": 0.1, "lr_schedule": Constant(), "momentum": 0.5, "order": order, "local_steps": 2}
    algorithm = DSGD(**settings, clique_averaging=True)
    algorithm.check_graph(faulty)
    network = Network(faulty, Placement(8), torch.device("cpu"))
    state = algorithm.init(problem, network)
    hessian, linear = problem.hessian.numpy(), problem.linear.numpy()
    x, m = np.zeros((8, 3)), np.zeros((8, 3))
    together = np.zeros((8, 8), dtype=bool)
    for clique in graph.cliques:
        together[np.ix_(clique, clique)] = True
    assert (together.sum(1) >= 2).all()
    for step in range(10):
        state = algorithm.step(state, step, problem, network)
        W = faulty.edges(step).to_matrix(8)
        mean = (W > 0) & together
        mean = mean / mean.sum(1, keepdims=True)
        u = x.copy()
        for _ in range(2):
            m = 0.5 * m + mean @ (np.einsum("nij,nj->ni", hessian, u) - linear)
            u = u - 0.1 * m
        x = W @ u if order == "adapt_then_combine" else W @ x + (u - x)
        np.testing.assert_allclose(state["params"].numpy(), x, rtol=0, atol=1e-12)


def test_clique_averaging_needs_cliques():
    settings = {"lr": 0.1, "lr_schedule": Constant(), "momentum": 0.0, "order": "adapt_then_combine"}
    with pytest.raises(
        ValueError, match=r"algorithm\.clique_averaging=true: graph Ring has no cliques; use graph=d_cl"
    ):
        DSGD(**settings, clique_averaging=True).check_graph(GRAPH)


@pytest.mark.parametrize("changes", [{"local_steps": 0}, {"ema": 1.0}, {"ema": -0.1}])
def test_refuses(changes):
    (key,) = changes
    good = {"lr": 0.1, "lr_schedule": Constant(), "momentum": 0.0, "order": "adapt_then_combine"}
    with pytest.raises(ValueError, match=rf"algorithm\.{key}=.*expected"):
        DSGD(**good, **changes)
