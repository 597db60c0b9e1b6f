"""DIGing and Push-DIGing against dense float64 NumPy, and the invariant of their trackers under noise."""

import numpy as np
import pytest
import torch

from simulator.algorithms.gossip.diging import DIGing
from simulator.algorithms.gossip.dsgd import DSGD
from simulator.algorithms.gossip.push_diging import PushDIGing
from simulator.algorithms.weights import check_weights
from simulator.graphs.directed_ring import DirectedRing
from simulator.graphs.one_peer_exponential import OnePeerExponential
from simulator.graphs.random_directed import RandomDirected
from simulator.graphs.ring import Ring
from simulator.schedules import Constant, InverseRoot
from tests.algorithms.node_data import NUM_NODES as NUM_DATA_NODES
from tests.algorithms.node_data import make_problem
from tests.algorithms.unlike_quadratics import (
    DIM,
    MILESTONES,
    NUM_NODES,
    NUM_STEPS,
    RATES,
    gradient_of,
    matrices,
    minimiser_of,
    quadratic,
    run,
)

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("order", ["combine_and_adapt", "adapt_then_combine"])
def test_diging(order):
    problem, graph = quadratic(), OnePeerExponential(num_nodes=NUM_NODES)
    state = run(DIGing(lr=0.05, lr_schedule=MILESTONES, order=order), problem, graph, NUM_STEPS)
    gradient = gradient_of(problem)
    x = np.zeros((NUM_NODES, DIM))
    g = y = gradient(x)
    for W, a in zip(matrices(graph), RATES, strict=True):
        x = W @ x - a * y if order == "combine_and_adapt" else W @ (x - a * y)
        g_before, g = g, gradient(x)
        y = W @ y + g - g_before if order == "combine_and_adapt" else W @ (y + g - g_before)
    for name, expected in (("params", x), ("tracker", y), ("gradient", g)):
        np.testing.assert_allclose(state[name].numpy(), expected, rtol=0, atol=1e-11)


@pytest.mark.parametrize(
    "graph",
    [RandomDirected(num_nodes=NUM_NODES, rate_low=0.3, rate_high=0.6, seed=5), DirectedRing(num_nodes=NUM_NODES)],
    ids=lambda graph: graph.description,
)
def test_push_diging(graph):
    problem = quadratic()
    state = run(PushDIGing(lr=0.05, lr_schedule=MILESTONES), problem, graph, NUM_STEPS)
    gradient = gradient_of(problem)
    u, w = np.zeros((NUM_NODES, DIM)), np.ones(NUM_NODES)
    g = y = gradient(u)
    for P, a in zip(matrices(graph), RATES, strict=True):
        u, w = P @ (u - a * y), P @ w
        g_before, g = g, gradient(u / w[:, None])
        y = P @ y + g - g_before
    np.testing.assert_allclose(state["params"].numpy(), u, rtol=0, atol=1e-11)
    np.testing.assert_allclose(state["push_sum_weight"].numpy(), w, rtol=0, atol=1e-11)
    np.testing.assert_allclose(state["tracker"].numpy(), y, rtol=0, atol=1e-11)


@pytest.mark.parametrize(
    ("algorithm", "graph"),
    [
        (
            DIGing(lr=0.05, lr_schedule=Constant(), order="combine_and_adapt"),
            Ring(num_nodes=NUM_NODES),
        ),
        (
            DIGing(lr=0.1, lr_schedule=Constant(), order="adapt_then_combine"),
            OnePeerExponential(num_nodes=NUM_NODES),
        ),
        (
            PushDIGing(lr=0.05, lr_schedule=Constant()),
            RandomDirected(num_nodes=NUM_NODES, rate_low=0.3, rate_high=0.6, seed=5),
        ),
    ],
    ids=["diging", "diging_adapt_then_combine", "push_diging"],
)
def test_a_constant_rate_reaches_the_minimiser_of_unlike_quadratics(algorithm, graph):
    """D-SGD at these rates stays away from it."""
    problem = quadratic()
    estimate = algorithm.estimate(run(algorithm, problem, graph, 600))
    optimum = minimiser_of(problem)
    torch.testing.assert_close(estimate, optimum.expand_as(estimate), rtol=0, atol=1e-9)
    dsgd = DSGD(lr=0.05, lr_schedule=Constant(), momentum=0.0, order="combine_and_adapt")
    assert (run(dsgd, problem, graph, 600)["params"] - optimum).norm(dim=1).min() > 1e-2


@pytest.mark.parametrize("order", ["combine_and_adapt", "adapt_then_combine"])
def test_the_largest_stable_rate(order):
    """A ring with Metropolis weights, and curvature 1 at every node."""
    problem, graph = quadratic(condition=1.0), Ring(num_nodes=NUM_NODES)
    w = np.linalg.eigvalsh(matrices(graph, 1)[0])[0]
    bound = (1 + w) ** 2 / 2 if order == "combine_and_adapt" else min(2, (1 + w) ** 2 / (2 * w**2))
    sizes = {}
    for share in (0.95, 1.05):
        state = run(DIGing(lr=share * bound, lr_schedule=Constant(), order=order), problem, graph, 600)
        sizes[share] = (state["params"] - minimiser_of(problem)).abs().max()
    assert sizes[0.95] < 1e-6
    assert sizes[1.05] > 1e3


@pytest.mark.parametrize(
    ("algorithm", "graph"),
    [
        (DIGing(lr=0.1, lr_schedule=InverseRoot(), order="combine_and_adapt"), OnePeerExponential),
        (DIGing(lr=0.1, lr_schedule=InverseRoot(), order="adapt_then_combine"), OnePeerExponential),
        (PushDIGing(lr=0.1, lr_schedule=InverseRoot()), DirectedRing),
    ],
    ids=["diging", "diging_adapt_then_combine", "push_diging"],
)
@pytest.mark.parametrize("kind", ["noise", "minibatches"])
def test_trackers_sum_to_the_gradients_whatever_the_noise(algorithm, graph, kind):
    problem = quadratic(noise=0.5) if kind == "noise" else make_problem()
    size = NUM_NODES if kind == "noise" else NUM_DATA_NODES
    spread = []

    def look(state, done):
        latest = problem.grad(algorithm.estimate(state), problem.init_hparams(), done)
        torch.testing.assert_close(state["gradient"], latest, rtol=0, atol=1e-12)
        torch.testing.assert_close(state["tracker"].sum(0), latest.sum(0), rtol=0, atol=1e-12)
        spread.append(float((state["tracker"] - latest).abs().max()))

    run(algorithm, problem, graph(num_nodes=size), 30, look)
    assert spread[-1] > 1e-2


@pytest.mark.parametrize("changes", [{"lr": 0.0}, {"order": "mix_then_adapt"}])
def test_diging_refuses(changes):
    (key,) = changes
    with pytest.raises(ValueError, match=rf"algorithm\.{key}=.*expected"):
        DIGing(**{"lr": 0.1, "lr_schedule": Constant(), "order": "combine_and_adapt", **changes})
    with pytest.raises(ValueError, match=r"algorithm\.lr=.*expected"):
        PushDIGing(lr=-1.0, lr_schedule=Constant())


def test_trackers_need_the_weights_that_keep_their_sums():
    column = RandomDirected(num_nodes=NUM_NODES, rate_low=0.3, rate_high=0.6, seed=5)
    with pytest.raises(ValueError, match=r"algorithm=diging needs doubly stochastic .* use algorithm=push_diging"):
        check_weights(DIGing(lr=0.1, lr_schedule=Constant(), order="combine_and_adapt"), column)
    check_weights(PushDIGing(lr=0.1, lr_schedule=Constant()), column)
