"""RelaySum against the messages of every edge written out, and against averages of delayed values."""

import networkx as nx
import numpy as np
import pytest
import torch

from simulator.algorithms.gossip.relay_sum import RelaySum, parents, relay
from simulator.faults.message_loss import MessageLoss
from simulator.graphs.base import Edges, PeriodicGraph
from simulator.graphs.one_peer_exponential import OnePeerExponential
from simulator.graphs.ring import Ring
from simulator.graphs.star import Star
from simulator.network.network import Network
from simulator.placement import Placement
from simulator.problems.base import Setting
from simulator.problems.quadratic import Quadratic
from simulator.schedules import Constant, MultiStep

NUM_NODES, DIM = 9, 3
CPU = torch.device("cpu")
SETTINGS = {"lr": 0.05, "momentum": 0.0, "order": "adapt_then_combine", "normalize": "count"}

pytestmark = pytest.mark.usefixtures("one_thread")


class Given(PeriodicGraph):
    """The edges of a networkx graph, with weights that mean nothing."""

    directed = False
    stochasticity = "double"

    def __init__(self, graph, directed=False):
        super().__init__(num_nodes=len(graph))
        self.directed = directed
        self.pairs = [(i, j) for i, j in graph.edges] + [(j, i) for i, j in graph.edges if not directed]

    def build(self, phase):
        pairs = [*self.pairs, *((i, i) for i in range(self.num_nodes))]
        return Edges.build([i for i, _ in pairs], [j for _, j in pairs], 0.5)


TREES = {
    "star": nx.star_graph(NUM_NODES - 1),
    "path": nx.path_graph(NUM_NODES),
    "path_rooted_inside": nx.relabel_nodes(nx.path_graph(NUM_NODES), {0: 4, 4: 0}),
    "random": nx.Graph(nx.random_labeled_tree(NUM_NODES, seed=3)),
    "binary": nx.Graph(nx.full_rary_tree(2, NUM_NODES)),
}


@pytest.fixture(params=TREES)
def tree(request):
    return TREES[request.param]


def values_at(step):
    return torch.from_numpy(np.random.default_rng(step).standard_normal((NUM_NODES, DIM)))


def with_ones(values):
    return torch.cat([values, values.new_ones(len(values), 1)], dim=1)


def empty_state():
    return {f"relay_{name}": torch.zeros(NUM_NODES, DIM + 1).double() for name in ("up", "down", "children")}


def test_after_the_diameter_everybody_has_the_mean_of_delayed_values(tree):
    network = Network(Given(tree), Placement(NUM_NODES), CPU)
    state = empty_state()
    distances = dict(nx.all_pairs_shortest_path_length(tree))
    for step in range(nx.diameter(tree) + 3):
        total = relay(with_ones(values_at(step)), state, step, network)
        # What is d edges away is as old as the d - 1 rounds that it waited on its way.
        for i in range(NUM_NODES):
            ages = {j: max(d - 1, 0) for j, d in distances[i].items()}
            arrived = [values_at(step - age)[j] for j, age in ages.items() if age <= step]
            torch.testing.assert_close(total[i, :-1], torch.stack(arrived).sum(0), rtol=0, atol=1e-12)
            assert total[i, -1] == len(arrived)
    assert (total[:, -1] == NUM_NODES).all()


def relayed_by_edge(graph, rounds, values):
    """The sums and counts of every node in every round, one message per directed edge."""
    last = {}
    for step in range(rounds):
        edges = graph.edges(step)
        links = [(j, i) for j, i in zip(edges.source.tolist(), edges.target.tolist(), strict=True) if i != j]
        own = with_ones(values[step]).numpy()
        new = {(j, i): own[j] + sum(m for (k, to), m in last.items() if to == j and k != i) for j, i in links}
        last = new
        yield np.stack([own[i] + sum(m for (_, to), m in new.items() if to == i) for i in range(NUM_NODES)])


def test_lost_messages_take_their_counts_along(tree):
    graph = MessageLoss(graph=Given(tree), probability=0.3, seed=4)
    network = Network(graph, Placement(NUM_NODES), CPU)
    state, incomplete = empty_state(), 0
    values = [values_at(step) for step in range(30)]
    for step, expected in enumerate(relayed_by_edge(graph, 30, values)):
        total = relay(with_ones(values[step]), state, step, network).numpy()
        np.testing.assert_allclose(total, expected, rtol=0, atol=1e-12)
        incomplete += int((total[:, -1] < NUM_NODES).any())
    assert 20 < incomplete <= 30


@pytest.mark.parametrize("normalize", ["count", "nodes"])
@pytest.mark.parametrize("order", ["adapt_then_combine", "combine_and_adapt"])
def test_relay_sgd(tree, normalize, order):
    problem = Quadratic(
        dim=DIM, num_hyperparameters=0, condition=3.0, heterogeneity=1.0, noise=0.0, outer_regularization=0.0
    )
    problem.setup(Setting(nodes=range(NUM_NODES), num_nodes=NUM_NODES, seed=2, dtype=torch.float64, device=CPU))
    problem.init_params = lambda: torch.full((NUM_NODES, DIM), 0.7, dtype=torch.float64)
    graph = Given(tree)
    schedule = MultiStep(milestones=[10], decay=0.5)
    algorithm = RelaySum(lr=0.05, lr_schedule=schedule, momentum=0.6, order=order, normalize=normalize)
    algorithm.check_graph(graph)
    network = Network(graph, Placement(NUM_NODES), CPU)
    state = algorithm.init(problem, network)
    for step in range(20):
        state = algorithm.step(state, step, problem, network)

    hessian, linear = problem.hessian.numpy(), problem.linear.numpy()
    distance = dict(nx.all_pairs_shortest_path_length(tree))
    x, m, sent = np.full((NUM_NODES, DIM), 0.7), np.zeros((NUM_NODES, DIM)), []
    for step in range(20):
        m = 0.6 * m + np.einsum("nij,nj->ni", hessian, x) - linear
        move = (0.05 if step < 10 else 0.025) * m
        sent.append(x - move if order == "adapt_then_combine" else x)
        after = np.zeros_like(x)
        for i in range(NUM_NODES):
            ages = [(j, max(d - 1, 0)) for j, d in distance[i].items()]
            arrived = [sent[step - age][j] for j, age in ages if age <= step]
            if normalize == "count":
                after[i] = sum(arrived) / len(arrived)
            else:
                after[i] = (sum(arrived) + (NUM_NODES - len(arrived)) * 0.7) / NUM_NODES
        x = after if order == "adapt_then_combine" else after - move
    np.testing.assert_allclose(state["params"].numpy(), x, rtol=0, atol=1e-12)


def test_every_edge_carries_one_row_and_a_count(tree):
    network = Network(Given(tree), Placement(NUM_NODES), CPU)
    relay(with_ones(values_at(0)), empty_state(), 0, network)
    assert network.ledger.bytes == 2 * (NUM_NODES - 1) * (DIM + 1) * 8
    assert network.ledger.messages == 2 * (NUM_NODES - 1)


def test_parents_point_towards_node_0(tree):
    expected = dict(nx.bfs_predecessors(tree, 0))
    assert {i: p for i, p in enumerate(parents(Given(tree)).tolist()) if p >= 0} == expected


@pytest.mark.parametrize(
    "graph",
    [
        Ring(num_nodes=5),
        OnePeerExponential(num_nodes=4),
        Given(nx.disjoint_union(nx.path_graph(2), nx.cycle_graph(3))),
        Given(nx.DiGraph([(0, 1), (1, 0), (0, 2), (3, 0)]), directed=True),
        MessageLoss(graph=Ring(num_nodes=5), probability=0.5, seed=0),
    ],
    ids=["ring", "time_varying", "cycle_beside_a_path", "directed", "faulty_ring"],
)
def test_what_is_no_tree_is_refused(graph):
    with pytest.raises(ValueError, match=r"algorithm=relay_sum needs a static tree, and graph .* is none; use"):
        RelaySum(**SETTINGS, lr_schedule=Constant()).check_graph(graph)


def test_trees_with_faults_and_single_nodes_are_accepted():
    for graph in (Star(num_nodes=1), Star(num_nodes=5), MessageLoss(graph=Star(num_nodes=5), probability=0.5, seed=0)):
        RelaySum(**SETTINGS, lr_schedule=Constant()).check_graph(graph)


def test_settings_are_checked():
    with pytest.raises(ValueError, match=r"algorithm\.normalize='degree': expected count or nodes"):
        RelaySum(**{**SETTINGS, "normalize": "degree"}, lr_schedule=Constant())
