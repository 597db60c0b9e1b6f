"""Push-pull and AB against dense float64 NumPy with both matrices, and the schedules with row- and column-sums of 1."""

import numpy as np
import pytest
import torch

from simulator.algorithms.gossip.diging import DIGing
from simulator.algorithms.gossip.push_pull import PushPull
from simulator.faults.message_loss import MessageLoss
from simulator.graphs.base import Edges, PeriodicGraph
from simulator.graphs.directed_ring import DirectedRing
from simulator.graphs.hub import Hub
from simulator.graphs.normalized import Normalized
from simulator.graphs.one_peer_exponential import OnePeerExponential
from simulator.graphs.random_directed import RandomDirected
from simulator.network.network import Network
from simulator.placement import Placement
from simulator.schedules import Constant
from simulator.testing.graphs import check_graph
from tests.algorithms.node_data import NUM_NODES as NUM_DATA_NODES
from tests.algorithms.node_data import make_problem
from tests.algorithms.unlike_quadratics import (
    CPU,
    DIM,
    MILESTONES,
    NUM_NODES,
    RATES,
    gradient_of,
    matrices,
    minimiser_of,
    quadratic,
    run,
)


class Uneven(PeriodicGraph):
    """A directed ring with chords: strongly connected, in- and out-degrees differ; weights sum to 1 over one side."""

    directed = True

    def __init__(self, *, num_nodes, stochasticity="column"):
        super().__init__(num_nodes=num_nodes)
        self._stochasticity = stochasticity

    @property
    def stochasticity(self):
        return self._stochasticity

    def build(self, phase):
        joined = np.eye(self.num_nodes) + np.roll(np.eye(self.num_nodes), 1, axis=0)
        joined[0, 2:] = joined[3, 0] = 1
        return Edges.from_matrix(joined / joined.sum(axis=0 if self.stochasticity == "column" else 1, keepdims=True))


RANDOM = RandomDirected(num_nodes=NUM_NODES, rate_low=0.3, rate_high=0.6, seed=5)
GRAPHS = {
    "static": lambda: Uneven(num_nodes=NUM_NODES),
    "row_stochastic": lambda: Uneven(num_nodes=NUM_NODES, stochasticity="row"),
    "changing": lambda: RANDOM,
    "lossy": lambda: MessageLoss(graph=RANDOM, probability=0.3, seed=1),
    "hub": lambda: Hub(num_nodes=NUM_NODES),
}
NUM_STEPS = len(RATES)

pytestmark = pytest.mark.usefixtures("one_thread")


def push_pull(**changes):
    return PushPull(**{"lr": 0.05, "lr_schedule": Constant(), "order": "adapt_then_combine", **changes})


def both_sides(matrix, stochasticity):
    """R and C of one round, from the entries of W_t alone."""
    joined = (matrix != 0).astype(float)
    R = matrix if stochasticity == "row" else joined / joined.sum(axis=1, keepdims=True)
    C = matrix if stochasticity == "column" else joined / joined.sum(axis=0, keepdims=True)
    return R, C


@pytest.mark.parametrize("order", ["adapt_then_combine", "combine_and_adapt"])
@pytest.mark.parametrize("name", GRAPHS)
def test_is_the_recursion_with_both_matrices(name, order):
    problem, graph = quadratic(), GRAPHS[name]()
    state = run(push_pull(lr_schedule=MILESTONES, order=order), problem, graph, NUM_STEPS)
    gradient = gradient_of(problem)
    x, g = np.zeros((NUM_NODES, DIM)), gradient(np.zeros((NUM_NODES, DIM)))
    y = g
    for matrix, a in zip(matrices(graph), RATES, strict=True):
        R, C = both_sides(matrix, graph.stochasticity)
        x = R @ (x - a * y) if order == "adapt_then_combine" else R @ x - a * y
        g_before, g = g, gradient(x)
        y = C @ y + g - g_before
    for key, expected in (("params", x), ("tracker", y), ("gradient", g)):
        np.testing.assert_allclose(state[key].numpy(), expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("order", ["adapt_then_combine", "combine_and_adapt"])
@pytest.mark.parametrize("name", ["static", "row_stochastic", "changing"])
def test_a_constant_rate_reaches_the_minimiser_of_unlike_quadratics(name, order):
    problem = quadratic()
    state = run(push_pull(order=order), problem, GRAPHS[name](), 1500)
    torch.testing.assert_close(state["params"], minimiser_of(problem).expand_as(state["params"]), rtol=0, atol=1e-9)


def test_gradient_descent_with_the_row_stochastic_matrix_alone_goes_elsewhere():
    """To the minimiser weighted by the left Perron vector, as the rate goes to 0."""
    problem, graph = quadratic(), GRAPHS["row_stochastic"]()
    (R,), gradient = matrices(graph, 1), gradient_of(problem)
    x = np.zeros((NUM_NODES, DIM))
    for _ in range(8000):
        x = R @ (x - 0.002 * gradient(x))
    values, vectors = np.linalg.eig(R.T)
    weights = np.real(vectors[:, np.argmin(abs(values - 1))])
    weights /= weights.sum()
    hessian, linear = problem.hessian.numpy(), problem.linear.numpy()
    weighted = np.linalg.solve(np.einsum("n,nij->ij", weights, hessian), weights @ linear)
    optimum = np.linalg.solve(hessian.mean(axis=0), linear.mean(axis=0))
    assert np.linalg.norm(x.mean(axis=0) - weighted) < 0.1 * np.linalg.norm(weighted - optimum)


@pytest.mark.parametrize("kind", ["noise", "minibatches"])
def test_trackers_sum_to_the_gradients_whatever_the_noise(kind):
    problem = quadratic(noise=0.5) if kind == "noise" else make_problem()
    size = NUM_NODES if kind == "noise" else NUM_DATA_NODES
    algorithm, spread = push_pull(), []

    def look(state, done):
        latest = problem.grad(algorithm.estimate(state), problem.init_hparams(), done)
        torch.testing.assert_close(state["tracker"].sum(0), latest.sum(0), rtol=0, atol=1e-12)
        spread.append(float((state["tracker"] - latest).abs().max()))

    run(algorithm, problem, Uneven(num_nodes=size), 30, look)
    assert spread[-1] > 1e-2


def test_with_doubly_stochastic_weights_it_is_diging():
    graph = OnePeerExponential(num_nodes=NUM_NODES)
    found = run(push_pull(order="combine_and_adapt"), quadratic(), graph, 40)
    expected = run(DIGing(lr=0.05, lr_schedule=Constant(), order="combine_and_adapt"), quadratic(), graph, 40)
    for key, rows in expected.items():
        assert torch.equal(found[key], rows)


def test_both_rows_travel_in_one_message():
    graph, problem = GRAPHS["static"](), quadratic()
    network = Network(graph, Placement(NUM_NODES), CPU)
    algorithm = push_pull()
    state = algorithm.init(problem, network)
    for step in range(3):
        state = algorithm.step(state, step, problem, network)
    edges = graph.edges(0)
    num_messages = 3 * int((edges.source != edges.target).sum())
    assert network.ledger.messages == num_messages
    assert network.ledger.bytes == num_messages * 2 * DIM * 8


@pytest.mark.parametrize("over", ["row", "column"])
@pytest.mark.parametrize("name", ["static", "row_stochastic", "changing", "lossy", "hub"])
def test_normalized_schedules(name, over):
    graph = GRAPHS[name]()
    view = Normalized(graph, over)
    check_graph(Normalized(GRAPHS[name](), over))
    for step in range(4):
        R, C = both_sides(graph.edges(step).to_matrix(NUM_NODES), graph.stochasticity)
        expected = R if over == "row" else C
        np.testing.assert_allclose(view.edges(step).to_matrix(NUM_NODES), expected, rtol=0, atol=1e-15)


def test_what_a_node_has_stays_where_nothing_comes_in():
    class Forgetful(PeriodicGraph):
        """In the first of two rounds node 0 gives all it has away and hears nothing."""

        directed, stochasticity, period = True, "column", 2

        def build(self, phase):
            return Edges.from_matrix(np.array([[0.0, 0.0], [1.0, 1.0]] if phase == 0 else [[1.0, 0.5], [0.0, 0.5]]))

    first = Normalized(Forgetful(num_nodes=2), "row").edges(0).to_matrix(2)
    np.testing.assert_array_equal(first, [[1.0, 0.0], [0.5, 0.5]])


def test_doubly_stochastic_schedules_stay_as_they_are():
    graph = DirectedRing(num_nodes=NUM_NODES)
    assert Normalized(graph, "row").edges(3) is graph.edges(3)
    assert Normalized(graph, "column").stochasticity == "double"


@pytest.mark.parametrize("changes", [{"lr": 0.0}, {"order": "mix_then_adapt"}])
def test_refuses(changes):
    (key,) = changes
    with pytest.raises(ValueError, match=rf"algorithm\.{key}=.*expected"):
        push_pull(**changes)
