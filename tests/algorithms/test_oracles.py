"""SGP, D-SGD and push-sum against dense float64 NumPy with the same W_t, written apart from the simulator."""

import numpy as np
import pytest
import torch

from simulator.algorithms.gossip.dsgd import DSGD
from simulator.algorithms.gossip.sgp import SGP
from simulator.graphs.directed_ring import DirectedRing
from simulator.graphs.one_peer_exponential import OnePeerExponential
from simulator.graphs.random_directed import RandomDirected
from simulator.graphs.random_undirected import RandomUndirected
from simulator.graphs.star import Star
from simulator.network.network import Network
from simulator.placement import Placement
from simulator.problems.base import Setting
from simulator.problems.quadratic import Quadratic
from simulator.schedules import InverseRoot, MultiStep

NUM_NODES, DIM, NUM_STEPS = 7, 4, 200
CPU = torch.device("cpu")

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def problem():
    problem = Quadratic(
        dim=DIM, num_hyperparameters=0, condition=3.0, heterogeneity=1.0, noise=0.0, outer_regularization=0.0
    )
    problem.setup(Setting(nodes=range(NUM_NODES), num_nodes=NUM_NODES, seed=2, dtype=torch.float64, device=CPU))
    return problem


def gradients(problem, z):
    return np.einsum("nij,nj->ni", problem.hessian.numpy(), z) - problem.linear.numpy()


def run(algorithm, problem, graph, num_steps=NUM_STEPS):
    network = Network(graph, Placement(graph.num_nodes), CPU)
    state = algorithm.init(problem, network)
    for step in range(num_steps):
        state = algorithm.step(state, step, problem, network)
    return state


def numpy_sgp(problem, matrices, rates, adapt_first):
    x, w = np.zeros((NUM_NODES, DIM)), np.ones(NUM_NODES)
    for P, a in zip(matrices, rates, strict=True):
        g = gradients(problem, x / w[:, None])
        x = P @ (x - a * g) if adapt_first else P @ x - a * g
        w = P @ w
    return x, w


@pytest.mark.parametrize("order", ["adapt_then_mix", "mix_then_adapt"])
@pytest.mark.parametrize(
    "graph",
    [
        RandomDirected(num_nodes=NUM_NODES, rate_low=0.3, rate_high=0.6, seed=5),
        RandomUndirected(num_nodes=NUM_NODES, rate_low=0.3, rate_high=0.6, seed=5),
        OnePeerExponential(num_nodes=NUM_NODES),
    ],
    ids=lambda graph: graph.description,
)
def test_sgp(problem, graph, order):
    state = run(SGP(lr=0.1, lr_schedule=InverseRoot(), order=order), problem, graph)
    matrices = [graph.edges(t).to_matrix(NUM_NODES) for t in range(NUM_STEPS)]
    rates = [0.1 / (t + 1) ** 0.5 for t in range(NUM_STEPS)]
    x, w = numpy_sgp(problem, matrices, rates, order == "adapt_then_mix")
    np.testing.assert_allclose(state["params"].numpy(), x, rtol=0, atol=1e-10)
    np.testing.assert_allclose(state["push_sum_weight"].numpy(), w, rtol=0, atol=1e-10)
    # The same oracle sees transposed edges, and weights normalised over rows instead of columns.
    if graph.stochasticity == "column":
        rows = [(P > 0) / (P > 0).sum(axis=1, keepdims=True) for P in matrices]
        for wrong in ([P.T for P in matrices], rows):
            other, _ = numpy_sgp(problem, wrong, rates, order == "adapt_then_mix")
            assert np.abs(other - x).max() > 1e-3


@pytest.mark.parametrize("order", ["adapt_then_combine", "combine_and_adapt"])
@pytest.mark.parametrize("momentum", [0.0, 0.8])
def test_dsgd(problem, order, momentum):
    graph = OnePeerExponential(num_nodes=NUM_NODES)
    schedule = MultiStep(milestones=[50, 120], decay=0.5)
    state = run(DSGD(lr=0.05, lr_schedule=schedule, momentum=momentum, order=order), problem, graph)
    x, m = np.zeros((NUM_NODES, DIM)), np.zeros((NUM_NODES, DIM))
    for t in range(NUM_STEPS):
        W = graph.edges(t).to_matrix(NUM_NODES)
        a = 0.05 * (1 if t < 50 else 0.5 if t < 120 else 0.25)
        m = momentum * m + gradients(problem, x)
        x = W @ (x - a * m) if order == "adapt_then_combine" else W @ x - a * m
    np.testing.assert_allclose(state["params"].numpy(), x, rtol=0, atol=1e-10)


@pytest.mark.parametrize("order", ["adapt_then_combine", "combine_and_adapt"])
def test_dsgd_with_exact_averaging_is_gradient_descent_on_the_mean(order):
    """On identical quadratics every node does plain gradient descent with momentum."""
    problem = Quadratic(
        dim=DIM, num_hyperparameters=0, condition=1.0, heterogeneity=0.0, noise=0.0, outer_regularization=0.0
    )
    problem.setup(Setting(nodes=range(8), num_nodes=8, seed=2, dtype=torch.float64, device=CPU))
    graph = OnePeerExponential(num_nodes=8)
    state = run(DSGD(lr=0.1, lr_schedule=MultiStep(milestones=[]), momentum=0.0, order=order), problem, graph, 30)
    expected = (1 - 0.9**30) * problem.linear
    torch.testing.assert_close(state["params"], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "graph",
    [
        RandomDirected(num_nodes=NUM_NODES, rate_low=0.3, rate_high=0.6, seed=5),
        DirectedRing(num_nodes=NUM_NODES),
        Star(num_nodes=NUM_NODES),
        OnePeerExponential(num_nodes=NUM_NODES),
    ],
    ids=lambda graph: graph.description,
)
def test_push_sum_keeps_mass_and_finds_the_mean(graph):
    network = Network(graph, Placement(NUM_NODES), CPU)
    start = torch.randn(NUM_NODES, DIM, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    x, w = start.clone(), torch.ones(NUM_NODES, dtype=torch.float64)
    seen = []
    for step in range(300):
        x, w = network.mix((x, w), step)
        torch.testing.assert_close(x.sum(0), start.sum(0), rtol=0, atol=1e-12)
        assert abs(float(w.sum()) - NUM_NODES) < 1e-12
        seen.append(float(w.max() - w.min()))
    torch.testing.assert_close(x / w[:, None], start.mean(0).expand_as(start), rtol=0, atol=1e-10)
    # On weights that are not doubly stochastic the push-sum weights really leave 1.
    assert (max(seen) > 0.1) == (graph.stochasticity == "column")


@pytest.mark.parametrize("changes", [{"lr": 0.0}, {"lr": float("nan")}, {"order": "mix"}])
def test_sgp_refuses(changes):
    (key,) = changes
    with pytest.raises(ValueError, match=rf"algorithm\.{key}=.*expected"):
        SGP(**{"lr": 0.1, "lr_schedule": InverseRoot(), "order": "mix_then_adapt", **changes})


@pytest.mark.parametrize("changes", [{"lr": -1.0}, {"momentum": 1.0}, {"momentum": -0.1}, {"order": "mix_then_adapt"}])
def test_dsgd_refuses(changes):
    (key,) = changes
    good = {"lr": 0.1, "lr_schedule": InverseRoot(), "momentum": 0.0, "order": "adapt_then_combine"}
    with pytest.raises(ValueError, match=rf"algorithm\.{key}=.*expected"):
        DSGD(**{**good, **changes})
