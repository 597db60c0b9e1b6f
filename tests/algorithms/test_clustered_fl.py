"""Clustered federated learning: what it splits, against planted clusters; averages by cluster, against NumPy."""

import numpy as np
import pytest
import torch

from simulator.algorithms.federated.clustered_fl import ClusteredFL, bipartition, split_clusters
from simulator.algorithms.federated.fedavg import FedAvg
from simulator.graphs.hub import Hub
from simulator.graphs.ring import Ring
from simulator.network.network import Network
from simulator.placement import Placement
from simulator.problems.base import Problem
from simulator.schedules import Constant
from tests.algorithms.node_data import NUM_NODES, make_problem, run

LR = 0.1
PULLS = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])

pytestmark = pytest.mark.usefixtures("one_thread")


class Planted(Problem):
    """Node i is pulled towards 20 times one of three directions, with a little of its own; nodes count 1, 2, 3, ..."""

    uses_data = False
    num_params = 2

    def __init__(self, groups):
        rng = np.random.default_rng(0)
        self.groups = np.asarray(groups)
        self.targets = 20 * PULLS[self.groups] + 0.1 * rng.standard_normal((len(groups), 2))

    def setup(self, setting):
        pass

    def init_params(self):
        return torch.zeros(len(self.groups), 2, dtype=torch.float64)

    def add_grad_(self, out, params, hparams, step, alpha):
        out.add_(params - torch.from_numpy(self.targets), alpha=alpha)

    def sample_counts(self):
        return np.arange(1, len(self.groups) + 1)

    def evaluate(self, params, hparams):
        return {}


def make(**changes):
    settings = {"lr": LR, "lr_schedule": Constant(), "local_steps": 1, "momentum": 0.0}
    return ClusteredFL(**{**settings, "mean_threshold": 0.4, "max_threshold": 1.6, **changes})


def clusters_of(groups, num_steps, **changes):
    problem = Planted(groups)
    state, network = run(make(**changes), problem, Hub(num_nodes=len(groups)), num_steps)
    return problem, state, network


def test_two_opposite_clusters_are_found_and_nothing_else():
    groups = [0, 2, 0, 2, 2, 0, 0, 2]
    problem, state, _ = clusters_of(groups, 200)
    # The cluster of node 0 keeps its name; the other is named after its first node.
    np.testing.assert_array_equal(state["clusters"].numpy(), [0, 1, 0, 1, 1, 0, 0, 1])
    counts = problem.sample_counts()
    for group in (0, 2):
        members = problem.groups == group
        centre = counts[members] @ problem.targets[members] / counts[members].sum()
        found = state["params"].numpy()[members]
        np.testing.assert_allclose(found, np.tile(centre, (members.sum(), 1)), rtol=0, atol=1e-6)


def test_a_part_is_split_again_by_its_own_nodes():
    """Of three directions the odd one leaves first; the other two are told apart when their mean stands still."""
    groups = [2, 0, 1, 0, 2, 1, 0, 1, 2, 0, 1]
    _, state, _ = clusters_of(groups, 400)
    found = state["clusters"].long().numpy()
    assert {tuple(sorted(set(np.array(groups)[found == name]))) for name in set(found)} == {(0,), (1,), (2,)}
    assert all(found[name] == name for name in set(found))


def test_nodes_that_agree_stay_together_and_so_do_nodes_that_still_move():
    _, state, _ = clusters_of([0] * 6, 100)
    assert (state["clusters"] == 0).all()
    # Far from stationary the mean update is large: no split however different the nodes are.
    _, state, _ = clusters_of([0, 0, 0, 1, 1, 1], 3)
    assert (state["clusters"] == 0).all()
    _, state, _ = clusters_of([0, 2], 100)
    assert (state["clusters"] == 0).all()


def test_the_criteria():
    updates = np.array([[2.0, 0.1], [2.0, -0.1], [-2.0, 0.1], [-2.0, -0.1]])
    nodes, together = np.array([1, 4, 5, 7]), np.full(4, 1)
    products = updates @ updates.T
    np.testing.assert_array_equal(split_clusters(together, nodes, products, 0.4, 1.6), [1, 1, 5, 5])
    np.testing.assert_array_equal(split_clusters(together, nodes, products, 0.4, 2.1), together)
    moved = updates + np.array([0.5, 0.0])
    shifted = moved @ moved.T
    np.testing.assert_array_equal(split_clusters(together, nodes, shifted, 0.4, 1.6), together)
    np.testing.assert_array_equal(split_clusters(together, nodes, shifted, 0.6, 1.6), [1, 1, 5, 5])
    np.testing.assert_array_equal(
        split_clusters(np.array([1, 1, 5, 5]), nodes, products, 0.4, 1.6), np.array([1, 1, 5, 5])
    )


def test_bipartition_is_complete_linkage_of_angles():
    """Lengths do not matter; on a chain of angles complete linkage cuts in the middle, single linkage at the gap."""
    angles = np.array([0, 20, 40, 62, 82, 102]) * np.pi / 180
    lengths = np.array([1.0, 100.0, 1.0, 0.01, 1.0, 5.0])
    updates = lengths[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    np.testing.assert_array_equal(bipartition(updates @ updates.T), [0, 0, 0, 1, 1, 1])
    reverse = updates[::-1]
    np.testing.assert_array_equal(bipartition(reverse @ reverse.T), [0, 0, 0, 1, 1, 1])


def test_one_cluster_is_fedavg():
    problem = make_problem()
    hub = Hub(num_nodes=NUM_NODES)
    state, _ = run(make(local_steps=None, momentum=0.9, max_threshold=1e9), problem, hub, 5)
    plain = FedAvg(
        lr=LR, lr_schedule=Constant(), local_steps=None, momentum=0.9, adaptation_epochs=0, adaptation_lr=None
    )
    expected, _ = run(plain, problem, hub, 5)
    torch.testing.assert_close(state["params"], expected["params"], rtol=0, atol=1e-13)


def test_bytes():
    """Up D + 1 numbers; down M numbers, and D for every cluster."""
    groups = [0, 1, 0, 1, 1, 0, 0, 1]
    problem, algorithm = Planted(groups), make(max_threshold=1.2)
    network = Network(Hub(num_nodes=8), Placement(8), torch.device("cpu"))
    state, before, seen = algorithm.init(problem, network), 0, set()
    for step in range(100):
        state = algorithm.step(state, step, problem, network)
        num_clusters = len(state["clusters"].unique())
        assert network.ledger.bytes - before == 7 * 8 * ((2 + 1) + 8 + 2 * num_clusters)
        before = network.ledger.bytes
        seen.add(num_clusters)
    assert seen == {1, 2}


def test_refuses_graphs_without_a_hub_and_bad_settings():
    with pytest.raises(ValueError, match=r"algorithm=clustered_fl needs graph=hub, and this graph is Ring"):
        make().check_graph(Ring(num_nodes=4))
    for key in ("mean_threshold", "max_threshold"):
        with pytest.raises(ValueError, match=rf"algorithm\.{key}=0.0: expected a positive number"):
            make(**{key: 0.0})
