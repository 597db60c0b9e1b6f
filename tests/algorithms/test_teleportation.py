"""Teleportation against float64 NumPy over the tokens, and its claim: the number of nodes does not matter."""

import numpy as np
import pytest
import torch

from simulator.algorithms.gossip.dsgd import DSGD
from simulator.algorithms.gossip.teleportation import TeleportationSGD
from simulator.graphs.base_k import BaseK
from simulator.graphs.ring import Ring
from simulator.graphs.teleportation import Teleportation
from simulator.network.network import Network
from simulator.placement import Placement
from simulator.problems.base import Setting
from simulator.problems.quadratic import Quadratic
from simulator.schedules import Constant, InverseRoot

pytestmark = pytest.mark.usefixtures("one_thread")


def make_problem(num_nodes, noise=0.0):
    kind = {"dim": 4, "num_hyperparameters": 0, "outer_regularization": 0.0}
    problem = Quadratic(**kind, condition=3.0, heterogeneity=1.0, noise=noise)
    nodes = range(num_nodes)
    problem.setup(Setting(nodes=nodes, num_nodes=num_nodes, seed=2, dtype=torch.float64, device=torch.device("cpu")))
    return problem


def states(algorithm, problem, graph, num_steps):
    """The state after every step, the models that are evaluated, and the bytes so far."""
    network = Network(graph, Placement(graph.num_nodes), torch.device("cpu"))
    state = algorithm.init(problem, network)
    for step in range(num_steps):
        state = algorithm.step(state, step, problem, network)
        models = algorithm.estimate(algorithm.prepare_evaluation(state, problem, network))
        yield {key: rows.clone().numpy() for key, rows in state.items()}, models.numpy(), network.ledger.bytes


@pytest.mark.parametrize("base", [Ring(num_nodes=5), BaseK(num_nodes=5, max_degree=1)])
def test_recursion_over_the_tokens(base):
    num_nodes, graph = 12, Teleportation(num_nodes=12, num_active=5, base=base, seed=4)
    problem = make_problem(num_nodes)
    hessian, linear = problem.hessian.numpy(), problem.linear.numpy()
    x, whole, sent = np.zeros((5, 4)), np.zeros((12, 4)), 0
    algorithm = TeleportationSGD(lr=0.2, lr_schedule=InverseRoot())
    for t, (state, models, num_bytes) in enumerate(states(algorithm, problem, graph, 20)):
        at, lr = graph.active(t), 0.2 / (t + 1) ** 0.5
        gradients = np.einsum("kij,kj->ki", hessian[at], x) - linear[at]
        stepped = x - lr * gradients
        x = base.edges(t).to_matrix(5) @ stepped
        # The same with the matrix of all nodes.
        whole[at] -= lr * (np.einsum("kij,kj->ki", hessian[at], whole[at]) - linear[at])
        whole = graph.edges(t).to_matrix(12) @ whole
        np.testing.assert_allclose(state["params"][graph.active(t + 1)], x, rtol=0, atol=1e-10)
        np.testing.assert_allclose(state["params"], whole, rtol=0, atol=1e-10)
        np.testing.assert_allclose(x.mean(axis=0), stepped.mean(axis=0), rtol=0, atol=1e-13)  # mixing keeps the mean
        np.testing.assert_array_equal(state["token"][graph.active(t + 1)], np.arange(1, 6))
        assert (state["token"] > 0).sum() == 5
        np.testing.assert_allclose(models, x[np.arange(12) % 5], rtol=0, atol=1e-10)
        sent += np.count_nonzero(graph.edges(t).source != graph.edges(t).target)
        assert num_bytes == sent * 4 * 8
    assert np.abs(x).max() > 0.3


def test_with_all_nodes_active_it_is_dsgd_on_the_same_graph():
    graph = Teleportation(num_nodes=6, num_active=6, base=Ring(num_nodes=6), seed=4)
    ours = states(TeleportationSGD(lr=0.1, lr_schedule=Constant()), make_problem(6, noise=1.0), graph, 15)
    settings = {"lr": 0.1, "lr_schedule": Constant(), "momentum": 0.0, "order": "adapt_then_combine"}
    theirs = states(DSGD(**settings), make_problem(6, noise=1.0), graph, 15)
    for (state, *_), (other, *_) in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(state["params"], other["params"], rtol=0, atol=1e-12)


def mean_error(algorithm, graph):
    """Squared distance from the minimizer of the mean objective, over nodes and the last steps."""
    problem = make_problem(graph.num_nodes, noise=1.0)
    minimizer = torch.linalg.solve(problem.hessian.mean(0), problem.linear.mean(0)).numpy()
    found = states(algorithm, problem, graph, 400)
    return np.mean([np.square(models - minimizer).sum(axis=1).mean() for _, models, _ in found][100:])


def test_the_error_does_not_grow_with_the_number_of_nodes():
    """That of D-SGD on a ring does, because the spectral gap of the ring closes."""
    sgd = TeleportationSGD(lr=0.05, lr_schedule=Constant())
    dsgd = DSGD(lr=0.05, lr_schedule=Constant(), momentum=0.0, order="adapt_then_combine")
    ours, rings = {}, {}
    for num_nodes in (8, 96):
        active = Ring(num_nodes=4)
        ours[num_nodes] = mean_error(sgd, Teleportation(num_nodes=num_nodes, num_active=4, base=active, seed=1))
        rings[num_nodes] = mean_error(dsgd, Ring(num_nodes=num_nodes))
    assert ours[96] < 1.4 * ours[8]
    assert rings[96] > 2.5 * rings[8]
    assert ours[96] < 0.3 * rings[96]


def test_refuses_other_graphs_and_problems():
    algorithm = TeleportationSGD(lr=0.05, lr_schedule=Constant())
    with pytest.raises(ValueError, match="needs graph=teleportation, and this graph is Ring; use algorithm=dsgd here"):
        algorithm.check_graph(Ring(num_nodes=4))
    with pytest.raises(ValueError, match=r"algorithm\.lr=0\.0: expected a positive number"):
        TeleportationSGD(lr=0.0, lr_schedule=Constant())
