"""The battery over every schedule in conf/graph, and what their files say."""

import inspect

import numpy as np
import pytest
from hydra.utils import get_class

from simulator.graphs.de_bruijn import DeBruijn
from simulator.graphs.matcha import Matcha
from simulator.graphs.networkx import NetworkX
from simulator.graphs.nice import Nice
from simulator.graphs.symmetry import is_symmetric
from simulator.graphs.teleportation import Teleportation
from simulator.testing.graphs import GRAPH_CHECKS, check_signs, rounds_of
from tests.graphs.every_graph import CASES, CONF, NAMES, make, name_of
from tests.graphs.loading import load

# A YAML that is a class of another YAML's module.
MODULES = {"two_hop_ring": "k_hop_ring", "solo": "self_loop", "social_network_tree": "social_network"}


@pytest.fixture(params=CASES, ids=name_of)
def new(request, tmp_path):
    name, changes, num_nodes = request.param
    return lambda **more: make(name, num_nodes, tmp_path, **{**changes, **more})


@pytest.mark.parametrize("check", GRAPH_CHECKS, ids=lambda check: check.__name__)
def test_battery(new, check):
    check(new())


def test_weights_are_non_negative_and_every_node_has_a_self_loop(new):
    graph = new()
    non_negative = not isinstance(graph, Nice | Matcha)
    self_loops = not isinstance(graph, DeBruijn | Matcha | Teleportation)
    check_signs(graph, non_negative=non_negative, self_loops=self_loops)


def test_directed_graphs_have_an_edge_without_counterpart(new):
    """What a generator or a file calls directed may turn out symmetric on very few nodes."""
    graph = new()
    matrices = [graph.edges(step).to_matrix(graph.num_nodes) for step in rounds_of(graph)]
    if graph.stochasticity != "double":  # of doubly stochastic graphs the weights count, too
        matrices = [matrix != 0 for matrix in matrices]
    asymmetric = any((matrix != matrix.T).any() for matrix in matrices)
    assert graph.directed == asymmetric or (isinstance(graph, NetworkX) and graph.num_nodes <= 3)


def test_undirected_and_doubly_stochastic_means_symmetric(new):
    graph = new()
    if graph.stochasticity != "double":
        return
    matrices = [graph.edges(step).to_matrix(graph.num_nodes) for step in rounds_of(graph)]
    symmetric = [np.array_equal(matrix, matrix.T) for matrix in matrices]
    assert [is_symmetric(graph.edges(step)) for step in rounds_of(graph)] == symmetric
    if not isinstance(graph, NetworkX):  # a generator may call a symmetric graph directed
        assert graph.directed != all(symmetric)


@pytest.mark.parametrize("name", NAMES)
def test_yaml_lists_every_constructor_argument_with_a_comment(name):
    config = load(name)
    signature = inspect.signature(get_class(config["_target_"]))
    assert set(config) - {"_target_"} == set(signature.parameters)
    assert all("  # " in line for line in (CONF / f"{name}.yaml").read_text().splitlines())
    module = config["_target_"].split(".")[-2]
    assert module == MODULES.get(name, name)


def test_seeds_give_different_graphs(tmp_path):
    for name in ("random_directed", "random_undirected", "erdos_renyi", "networkx"):
        matrices = [make(name, 16, tmp_path, seed=seed).edges(0).to_matrix(16) for seed in (0, 1)]
        assert not np.array_equal(*matrices), name
