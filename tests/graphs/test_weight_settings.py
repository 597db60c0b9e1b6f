"""The setting `weights` on every undirected graph that has it, against dense transcriptions of the rules."""

from pathlib import Path

import networkx as nx
import numpy as np
import pytest
from hydra.utils import get_class
from omegaconf import OmegaConf

from simulator.config.hydra_versions import instantiate
from simulator.graphs.chain import Chain
from simulator.graphs.d_regular_tree import DRegularTree
from simulator.graphs.de_bruijn import DeBruijn
from simulator.graphs.equi_static import EquiStatic
from simulator.graphs.file import File
from simulator.graphs.grid import Grid
from simulator.graphs.hypercube import Hypercube
from simulator.graphs.mix import Mix
from simulator.graphs.networkx import NetworkX
from simulator.graphs.nice import Nice
from simulator.graphs.random_geometric import RandomGeometric
from simulator.graphs.random_regular import RandomRegular
from simulator.graphs.ring import Ring
from simulator.graphs.social_network import SocialNetwork
from simulator.graphs.star import Star
from simulator.graphs.twisted_torus import TwistedTorus
from simulator.graphs.undirected import UndirectedGraph
from simulator.graphs.weights import fastest_mixing

CONF = Path(__file__).parents[2] / "conf" / "graph"
NAMES = [
    path.stem
    for path in sorted(CONF.glob("*.yaml"))
    if issubclass(get_class(OmegaConf.load(path)["_target_"]), UndirectedGraph)
]


def make(name, num_nodes, **changes):
    root = OmegaConf.create({"num_nodes": num_nodes, "seed": 2, "graph": OmegaConf.load(CONF / f"{name}.yaml")})
    root.graph.update(changes)
    return instantiate(root.graph)


def matrix_of(graph):
    return graph.edges(0).to_matrix(graph.num_nodes)


def metropolis(adjacency):
    degree = adjacency.sum(axis=1)
    matrix = adjacency / (1 + np.maximum.outer(degree, degree))
    return matrix + np.diag(1 - matrix.sum(axis=1))


def metropolis_without_self(adjacency):
    degree = adjacency.sum(axis=1)
    matrix = adjacency / np.maximum(np.maximum.outer(degree, degree), 1)
    return matrix + np.diag(1 - matrix.sum(axis=1))


def laplacian(adjacency):
    return np.diag(adjacency.sum(axis=1)) - adjacency


def best_constant(adjacency):
    eigenvalues = np.linalg.eigvalsh(laplacian(adjacency))
    return np.eye(len(adjacency)) - 2 / (eigenvalues[1] + eigenvalues[-1]) * laplacian(adjacency)


RULES = {
    "metropolis": metropolis,
    "metropolis_without_self": lambda a: metropolis_without_self(a),
    "lazy": lambda a: (np.eye(len(a)) + metropolis(a)) / 2,
    "lazy_metropolis": lambda a: (np.eye(len(a)) + metropolis(a)) / 2,
    "max_degree": lambda a: np.eye(len(a)) - laplacian(a) / (1 + a.sum(axis=1).max()),
    "best_constant": best_constant,
}


def test_all_undirected_static_graphs_have_the_setting():
    with_setting = {
        "barabasi_albert",
        "binary_tree",
        "chain",
        "d_regular_tree",
        "erdos_renyi",
        "exchange_tree",
        "fully_connected",
        "grid",
    }
    with_setting |= {"hypercube", "k_hop_ring", "random_geometric", "random_regular", "ring", "social_network", "star"}
    with_setting |= {"social_network_tree", "torus", "twisted_torus", "two_cliques", "two_hop_ring", "watts_strogatz"}
    assert with_setting <= set(NAMES)
    for name in NAMES:
        settings = OmegaConf.load(CONF / f"{name}.yaml")
        assert (settings.weights, settings.gamma) == ("metropolis", 0.95), name


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", NAMES)
def test_rules_on_every_graph(name, rule):
    num_nodes = {"social_network": 32, "social_network_tree": 32, "exchange_tree": 5}.get(name, 16)
    graph = make(name, num_nodes, weights=rule)
    adjacency = (matrix_of(make(name, num_nodes)) != 0).astype(float)
    np.fill_diagonal(adjacency, 0)
    np.testing.assert_allclose(matrix_of(graph), RULES[rule](adjacency), rtol=0, atol=1e-13)
    assert (graph.stochasticity, graph.directed) == ("double", False)


@pytest.mark.parametrize("name", ["ring", "torus", "hypercube", "fully_connected", "k_hop_ring"])
def test_metropolis_weights_of_a_regular_graph_are_equal_to_the_last_bit(name):
    for num_nodes in (4, 16, 64):
        weight = make(name, num_nodes).edges(0).weight
        degree = len(weight) // num_nodes
        np.testing.assert_array_equal(weight, 1 / degree)


def test_without_the_self_a_node_of_largest_degree_keeps_nothing():
    """A complete graph gives (11' - I) / (n - 1); on a ring of even length the eigenvalue -1 stays."""
    complete = matrix_of(make("fully_connected", 6, weights="metropolis_without_self"))
    np.testing.assert_allclose(complete, (1 - np.eye(6)) / 5, rtol=0, atol=1e-15)
    assert (np.diag(complete) == 0).all()
    for num_nodes, least in ((6, -1.0), (5, np.cos(4 * np.pi / 5))):
        ring = matrix_of(make("ring", num_nodes, weights="metropolis_without_self"))
        assert np.linalg.eigvalsh(ring)[0] == pytest.approx(least)
    star = matrix_of(make("star", 5, weights="metropolis_without_self"))
    np.testing.assert_allclose(np.diag(star), [0, 0.75, 0.75, 0.75, 0.75], rtol=0, atol=1e-15)
    assert matrix_of(make("ring", 1, weights="metropolis_without_self")).tolist() == [[1.0]]


def test_fastest_mixing_by_either_name():
    graphs = [Chain(num_nodes=6, weights=name) for name in ("fastest_mixing", "fmmc")]
    first, second = map(matrix_of, graphs)
    np.testing.assert_array_equal(first, second)
    source, target = graphs[0].support()
    np.testing.assert_array_equal(graphs[0].edges(0).weight, fastest_mixing(source, target, 6))
    slems = [np.sort(np.abs(np.linalg.eigvalsh(matrix)))[-2] for matrix in (first, matrix_of(Chain(num_nodes=6)))]
    assert slems[0] < slems[1] - 0.02


def test_auto_and_named_rules_of_networkx():
    petersen = {"num_nodes": 10, "generator": "petersen_graph"}
    np.testing.assert_array_equal(
        matrix_of(NetworkX(**petersen)), matrix_of(NetworkX(**petersen, weights="metropolis"))
    )
    adjacency = nx.to_numpy_array(nx.petersen_graph())
    found = NetworkX(**petersen, weights="best_constant")
    np.testing.assert_allclose(matrix_of(found), best_constant(adjacency), rtol=0, atol=1e-13)
    arcs = {"num_nodes": 7, "generator": "gnp_random_graph", "arguments": {"p": 0.5, "directed": True}, "seed": 3}
    pattern = (matrix_of(NetworkX(**arcs)) != 0).astype(float)
    for rule, expected, stochasticity in (
        ("auto", pattern / pattern.sum(axis=0), "column"),
        ("out_degree", pattern / pattern.sum(axis=0), "column"),
        ("in_degree", pattern / pattern.sum(axis=1, keepdims=True), "row"),
    ):
        graph = NetworkX(**arcs, weights=rule)
        np.testing.assert_allclose(matrix_of(graph), expected, rtol=0, atol=1e-15)
        assert graph.stochasticity == stochasticity
    double = NetworkX(**arcs, weights="sinkhorn")
    assert double.stochasticity == "double"
    np.testing.assert_allclose([matrix_of(double).sum(axis=k) for k in (0, 1)], 1, rtol=0, atol=1e-11)
    with pytest.raises(ValueError, match="the rules of a directed graph are out_degree, in_degree, sinkhorn"):
        NetworkX(**arcs, weights="metropolis").edges(0)
    with pytest.raises(ValueError, match=r"graph\.weights='sinkhorn': the rules are metropolis"):
        NetworkX(**petersen, weights="sinkhorn").edges(0)


def test_a_named_rule_takes_the_place_of_the_weights_of_a_file(tmp_path):
    (tmp_path / "w.txt").write_text("0 1 0.3\n0 0 0.7\n1 1 0.5\n1 2 0.2\n2 2 0.8\n0 2 0\n")
    arguments = {"num_nodes": 3, "path": str(tmp_path / "w.txt")}
    own = np.array([[0.7, 0.3, 0], [0.3, 0.5, 0.2], [0, 0.2, 0.8]])
    np.testing.assert_array_equal(matrix_of(File(**arguments)), own)
    for rule in ("metropolis", "max_degree"):
        path = np.array([[2, 1, 0], [1, 1, 1], [0, 1, 2]]) / 3
        np.testing.assert_allclose(matrix_of(File(**arguments, weights=rule)), path, rtol=0, atol=1e-15)
    (tmp_path / "a.txt").write_text("0 1\n1 2\n2 0\n0 2\n")
    arcs = File(num_nodes=3, path=str(tmp_path / "a.txt"), directed=True, weights="in_degree")
    assert arcs.stochasticity == "row"
    np.testing.assert_allclose(matrix_of(arcs), [[1 / 2, 0, 1 / 2], [1 / 2, 1 / 2, 0], [1 / 3] * 3], rtol=0, atol=1e-15)


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        (
            Ring,
            {"weights": "mh"},
            "graph.weights='mh': the rules are metropolis, metropolis_without_self, lazy_metropolis",
        ),
        (Star, {"weights": "out_degree"}, "the rules are metropolis"),
        (Ring, {"weights": "nw_optimal", "gamma": 1.0}, "graph.gamma=1.0: a decay lies strictly between 0 and 1"),
        (Ring, {"gamma": 0}, "graph.gamma=0"),
        (Ring, {"num_nodes": 2001, "weights": "nw_optimal"}, "takes at most 2000 nodes, not 2001"),
        (File, {"path": "x", "weights": "mh"}, "the rules are metropolis"),
        (File, {"path": "x", "weights": "metropolis", "directed": True}, "the rules of a directed graph"),
        (Hypercube, {"num_nodes": 12}, "graph.num_nodes=12: a hypercube has 1, 2, 4, 8, ... nodes, a power of two"),
        (SocialNetwork, {"num_nodes": 16}, "graph.num_nodes=16: the social network has 32 nodes; set num_nodes=32"),
        (Grid, {"shape": [4, 5]}, r"graph.shape=\[4, 5\]: the lengths multiply to 20, but num_nodes=16"),
        (Grid, {"shape": [4, -4]}, r"graph.shape=\[4, -4\]: a list of lengths of 1 or more"),
        (Grid, {"shape": []}, r"graph.shape=\[\]: a list of lengths"),
        (Grid, {"shape": [4.0, 4]}, r"graph.shape=\[4.0, 4\]: a list of lengths"),
        (TwistedTorus, {"shape": [2, 2, 4]}, r"graph.shape=\[2, 2, 4\]: a twisted torus has rows and columns"),
        (DRegularTree, {"degree": 1}, "graph.degree=1"),
        (RandomRegular, {"degree": 1}, "graph.degree=1"),
        (RandomRegular, {"num_nodes": 15, "degree": 3}, "graph.degree=3: no graph of 15 nodes has 3 neighbours"),
        (RandomGeometric, {"radius": 0}, "graph.radius=0"),
        (DeBruijn, {"degree": 1}, "graph.degree=1"),
        (EquiStatic, {"num_offsets": 0}, "graph.num_offsets=0"),
        (Mix, {"gap": 0}, "graph.gap=0"),
        (Nice, {"gap": 1.2}, "graph.gap=1.2"),
    ],
)
def test_bad_arguments_are_one_line(kind, arguments, message):
    with pytest.raises(ValueError, match=message) as error:
        kind(**{"num_nodes": 16, **arguments})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("watts_strogatz", {"degree": 3}, "graph.degree=3: an even number"),
        ("watts_strogatz", {"probability": 1.1}, "graph.probability=1.1"),
        ("barabasi_albert", {"num_edges": 0}, "graph.num_edges=0"),
    ],
)
def test_bad_settings_of_random_graphs(name, changes, message):
    target = get_class(OmegaConf.load(CONF / f"{name}.yaml")["_target_"])
    with pytest.raises(ValueError, match=message):
        target(num_nodes=16, **changes)
