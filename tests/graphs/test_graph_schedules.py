"""The battery over every schedule in conf/graph, and what single schedules promise beyond it."""

import inspect
import math
import time
import tracemalloc
from pathlib import Path

import networkx as nx
import numpy as np
import pytest
from hydra.utils import get_class
from omegaconf import OmegaConf

from simulator.graphs.base import Edges, Graph
from simulator.graphs.de_bruijn import DeBruijn
from simulator.graphs.directed_ring import DirectedRing
from simulator.graphs.equi_dyn import EquiDyn
from simulator.graphs.equi_static import EquiStatic
from simulator.graphs.erdos_renyi import ErdosRenyi
from simulator.graphs.exponential import Exponential
from simulator.graphs.hierarchical import Hierarchical
from simulator.graphs.k_hop_ring import KHopRing
from simulator.graphs.matcha import Matcha
from simulator.graphs.networkx import NetworkX
from simulator.graphs.nice import Nice
from simulator.graphs.one_peer_exponential import OnePeerExponential
from simulator.graphs.p_peer_exponential import PPeerExponential
from simulator.graphs.random_directed import RandomDirected
from simulator.graphs.random_undirected import RandomUndirected
from simulator.graphs.ring import Ring
from simulator.graphs.symmetry import is_symmetric
from simulator.graphs.teleportation import Teleportation
from simulator.testing import check_graph
from simulator.testing.graphs import GRAPH_CHECKS, check_signs, rounds_of
from tests.graphs.loading import build, load

CONF = Path(__file__).parents[2] / "conf" / "graph"
NAMES = sorted(path.stem for path in CONF.glob("*.yaml"))
SIZES = (1, 2, 3, 5, 8, 16)
# A YAML whose defaults need a file or a minimum size is tried with other values where that is so.
OVERRIDES = {
    "networkx": lambda num_nodes, folder: (
        {"generator": "complete_graph", "arguments": {}} if num_nodes < 5 else {}  # 4 neighbours need 5 nodes
    ),
    "file": lambda num_nodes, folder: {"path": str(write_path_graph(num_nodes, folder))},
    "epidemic": lambda num_nodes, folder: {"num_out": min(4, max(1, num_nodes - 1))},
    "hierarchical": lambda num_nodes, folder: {"group_size": math.gcd(num_nodes, 4)},
    "teleportation": lambda num_nodes, folder: {"num_active": min(4, (num_nodes + 1) // 2)},
}
# Sizes that a schedule refuses.
UNFIT = {
    "hypercube": (3, 5),
    "hyper_hypercube": (5,),
    "matching_ring": (1, 3, 5),
    "one_peer_hypercube": (3, 5),
    "random_chords": (1, 2, 3),
    "slowly_changing": (1, 2, 3),
    "exchange_tree": (1, 2, 3, 8, 16),
    "social_network": SIZES,
    "social_network_tree": SIZES,
}
# A YAML that is a class of another YAML's module.
MODULES = {"two_hop_ring": "k_hop_ring", "solo": "self_loop", "social_network_tree": "social_network"}


def load_part(name: str) -> dict:
    """A YAML as a setting of another graph."""
    return OmegaConf.to_container(load(name))


VARIANTS = [(name, {}) for name in NAMES] + [
    ("random_undirected", {"weights": "metropolis"}),
    ("random_undirected", {"base_probability": 0.7}),
    ("random_directed", {"base_probability": 0.7, "rate_low": 0.2}),
    ("erdos_renyi", {"weights": "max_degree", "probability": 0.6}),
    ("erdos_renyi", {"weights": "lazy_metropolis"}),
    ("networkx", {"generator": "gnp_random_graph", "arguments": {"p": 0.9, "directed": True}}),
    ("base_k", {"max_degree": 2, "simple": True}),
    ("p_peer_exponential", {"num_out": 1}),
    ("p_peer_exponential", {"num_out": 4}),
    ("epidemic", {"variant": "local"}),
    ("epidemic", {"num_out": 1}),
    ("equi_dyn", {"directed": False}),
    ("b_connected_directed", {"window": 1, "probability": 0.0}),
    *[("d_cliques", {"max_clique_size": 3, "connection": each}) for each in ("ring", "fractal", "complete")],
    ("matcha", {"base": load_part("star")}),
    ("gossip_pga", {"base": load_part("random_directed")}),
    ("gossip_pga", {"base": load_part("self_loop")}),
    ("gossip_pga", {"base": load_part("one_peer_exponential"), "every": 1}),
    (
        "cyclic",
        {"graphs": {"one": load_part("hub"), "other": load_part("epidemic") | {"num_out": 1, "variant": "local"}}},
    ),
    ("binary_tree", {"mirrored": True}),
    ("de_bruijn", {"degree": 3}),
    ("equi_static", {"directed": False, "num_offsets": 3}),
    ("random_regular", {"redraw": True, "degree": 2}),
    ("erdos_renyi", {"redraw": True}),
]
CASES = [(name, changes, size) for name, changes in VARIANTS for size in SIZES if size not in UNFIT.get(name, ())]
CASES += [(name, {}, 32) for name in ("social_network", "social_network_tree")]


def write_path_graph(num_nodes: int, folder: Path) -> Path:
    path = folder / f"path_{num_nodes}.txt"
    path.write_text("# a path\n0 0\n" + "".join(f"{i} {i + 1}\n" for i in range(num_nodes - 1)))
    return path


def make(name: str, num_nodes: int, folder: Path, seed: int = 3, **changes) -> Graph:
    values = {**OVERRIDES.get(name, lambda *_: {})(num_nodes, folder), **changes}
    config = OmegaConf.create({"num_nodes": num_nodes, "seed": seed, "graph": load(name)})
    for key, value in values.items():
        assert key in config.graph.keys()  # noqa: SIM118 - `in` alone overlooks a mandatory value that is missing
        OmegaConf.update(config, f"graph.{key}", value, merge=False)
    return build(config.graph)


def name_of(case: tuple) -> str:
    name, changes, num_nodes = case
    return "-".join([name, *(str(value) for value in changes.values() if not isinstance(value, dict)), str(num_nodes)])


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


@pytest.mark.parametrize("directed", [True, False])
@pytest.mark.parametrize("num_nodes", range(1, 11))
def test_equi_static_is_undirected_exactly_when_its_matrix_is_symmetric(num_nodes, directed):
    """An offset that is drawn twice and its opposite once make a symmetric support, but not a symmetric matrix."""
    only_the_support = 0
    for seed in range(200):
        graph = EquiStatic(num_nodes=num_nodes, directed=directed, seed=seed)
        matrix = graph.edges(0).to_matrix(num_nodes)
        assert graph.directed != np.array_equal(matrix, matrix.T)
        only_the_support += graph.directed and np.array_equal(matrix != 0, matrix.T != 0)
    if num_nodes <= 8:  # with nine nodes and four offsets it is rarer than one draw in 200
        assert (only_the_support > 0) == (directed and num_nodes >= 5)


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        *((DeBruijn, {"degree": degree}) for degree in range(2, 8)),
        *((PPeerExponential, {"num_out": num_out}) for num_out in range(1, 8)),
        *((KHopRing, {"k": k}) for k in range(1, 4)),
        *((kind, {}) for kind in (Exponential, OnePeerExponential, DirectedRing)),
        *((EquiDyn, {"directed": directed}) for directed in (True, False)),
        (Hierarchical, {"group_size": 1}),
    ],
)
def test_shifts_are_undirected_exactly_when_their_matrices_are_symmetric(kind, settings):
    for num_nodes in range(1, 20):
        graph = kind(num_nodes=num_nodes, **settings)
        matrices = [graph.edges(step).to_matrix(num_nodes) for step in rounds_of(graph)]
        assert graph.directed != all(np.array_equal(matrix, matrix.T) for matrix in matrices), num_nodes


def test_check_graph_runs_all_checks():
    check_graph(Ring(num_nodes=5, weights="metropolis"))


class Wrong(Ring):
    """A ring in which one thing is wrong."""

    def __init__(self, change, *, keeps):
        super().__init__(num_nodes=5, weights="metropolis")
        self.change, self.keeps, self.calls, self.kept = change, keeps, 0, None

    def edges(self, step):
        self.calls += 1
        if self.kept is None or not self.keeps:
            self.kept = self.change(super().edges(step), self.calls)
        return self.kept


SHIFT = np.roll(np.eye(5), 1, axis=0)


def of_matrix(matrix):
    return lambda *_: Edges.from_matrix(matrix)


@pytest.mark.parametrize(
    ("change", "keeps", "message"),
    [
        (lambda e, _: Edges.from_sorted(e.source, e.target, e.weight * 1.1), True, "the sums of rows are off by 0.1"),
        (lambda e, _: Edges(e.source, e.target, e.weight.copy()), True, "arrays can be written to"),
        (lambda e, _: Edges.from_sorted(e.source[::-1], e.target[::-1], e.weight[::-1]), True, "not sorted by"),
        (lambda e, _: Edges.from_sorted(e.source, e.target, e.weight), False, "built anew"),
        (
            lambda e, n: Edges.from_matrix(np.roll(np.eye(5), n, 0) / 2 + np.eye(5) / 2),
            False,
            "no counterpart|depends on",
        ),
        (of_matrix(np.eye(5)), True, "mixes=True, but connected: False"),
        (of_matrix(np.roll(np.eye(5), 1, axis=0)), True, "a node has no self-loop"),
        (of_matrix((np.roll(np.eye(5), 1, axis=0) + np.eye(5)) / 2), True, "an edge has no counterpart"),
        (of_matrix(np.eye(5) * 2 - 1 / 5), True, "a weight is negative"),
        (of_matrix(SHIFT / 2 + SHIFT.T / 4 + np.eye(5) / 4), True, "weights are not symmetric, and directed is False"),
    ],
)
def test_check_graph_finds_what_is_wrong(change, keeps, message):
    with pytest.raises((AssertionError, ValueError), match=message):
        check_graph(Wrong(change, keeps=keeps))


@pytest.mark.parametrize("name", NAMES)
def test_yaml_lists_every_constructor_argument_with_a_comment(name):
    config = load(name)
    signature = inspect.signature(get_class(config["_target_"]))
    assert set(config) - {"_target_"} == set(signature.parameters)
    assert all("  # " in line for line in (CONF / f"{name}.yaml").read_text().splitlines())
    module = config["_target_"].split(".")[-2]
    assert module == MODULES.get(name, name)


def test_known_matrices(tmp_path):
    third, fifth = 1 / 3, 1 / 5
    ring = make("ring", 4, tmp_path).edges(0).to_matrix(4)
    np.testing.assert_allclose(
        ring, third * np.array([[1, 1, 0, 1], [1, 1, 1, 0], [0, 1, 1, 1], [1, 0, 1, 1]]), atol=1e-15
    )
    directed = make("directed_ring", 3, tmp_path).edges(0).to_matrix(3)
    np.testing.assert_allclose(directed, 0.5 * np.array([[1, 0, 1], [1, 1, 0], [0, 1, 1]]), atol=1e-15)
    star = make("star", 3, tmp_path).edges(0).to_matrix(3)
    np.testing.assert_allclose(star, third * np.array([[1, 1, 1], [1, 2, 0], [1, 0, 2]]), atol=1e-15)
    two_hop = make("two_hop_ring", 7, tmp_path).edges(0).to_matrix(7)
    np.testing.assert_allclose(two_hop[3], fifth * np.array([0, 1, 1, 1, 1, 1, 0]), atol=1e-15)
    exponential = make("exponential", 6, tmp_path).edges(0).to_matrix(6)
    np.testing.assert_allclose(exponential[:, 0], 0.25 * np.array([1, 1, 1, 0, 1, 0]), atol=1e-15)
    np.testing.assert_array_equal(make("self_loop", 3, tmp_path).edges(0).to_matrix(3), np.eye(3))
    np.testing.assert_allclose(make("fully_connected", 3, tmp_path).edges(0).to_matrix(3), third, atol=1e-15)


@pytest.mark.parametrize("num_nodes", [2, 3, 5, 6, 8, 16])
def test_one_peer_exponential_averages_exactly_iff_power_of_two(num_nodes, tmp_path):
    graph = make("one_peer_exponential", num_nodes, tmp_path)
    assert graph.period == math.ceil(math.log2(num_nodes))
    product = np.eye(num_nodes)
    for step in range(graph.period):
        product = graph.edges(step).to_matrix(num_nodes) @ product
    deviation = np.abs(product - 1 / num_nodes).max()
    assert (deviation < 1e-15) == (num_nodes & (num_nodes - 1) == 0)


def test_k_hop_ring_becomes_the_complete_graph():
    np.testing.assert_allclose(KHopRing(num_nodes=6, k=3).edges(0).to_matrix(6), 1 / 6, atol=1e-15)
    np.testing.assert_allclose(KHopRing(num_nodes=6, k=10**9).edges(0).to_matrix(6), 1 / 6, atol=1e-15)


@pytest.mark.parametrize(("kind", "seed"), [(RandomDirected, 0), (RandomUndirected, 1)])
def test_edge_frequencies_follow_the_rates(kind, seed):
    num_nodes, num_rounds = 7, 3000
    graph = kind(num_nodes=num_nodes, rate_low=0.4, rate_high=0.8, seed=seed)
    counts = np.zeros((num_nodes, num_nodes))
    for step in range(num_rounds):
        counts += graph.edges(step).to_matrix(num_nodes) > 0
    rates = np.zeros((num_nodes, num_nodes))
    rates[graph.base[1], graph.base[0]] = graph.rates
    off_diagonal = rates[~np.eye(num_nodes, dtype=bool)]
    assert off_diagonal.min() >= 0.4
    assert off_diagonal.max() <= 0.8
    assert off_diagonal.std() > 0.05
    # Five standard deviations of a binomial frequency.
    bound = 5 * np.sqrt(rates * (1 - rates) / num_rounds) + 1e-12
    assert (np.abs(counts / num_rounds - rates) <= bound).all()
    assert np.array_equal(rates, rates.T) == (kind is RandomUndirected)


def test_random_directed_pairs_and_rounds_are_uncorrelated():
    graph = RandomDirected(num_nodes=6, rate_low=0.5, rate_high=0.5, seed=5)
    up = np.array([graph.edges(step).to_matrix(6)[~np.eye(6, dtype=bool)] > 0 for step in range(4000)], dtype=float)
    correlation = np.corrcoef(np.concatenate([up[1:], up[:-1]], axis=1).T)
    # 60 * 59 / 2 correlations of standard deviation 1/sqrt(4000): five of them.
    assert np.abs(correlation - np.eye(60)).max() < 5 / np.sqrt(4000)


def test_random_weights_against_a_plain_transcription():
    directed = RandomDirected(num_nodes=9, rate_low=0.4, rate_high=0.8, seed=2)
    undirected = RandomUndirected(num_nodes=9, rate_low=0.4, rate_high=0.8, seed=2)
    for graph in (directed, undirected):
        for step in range(5):
            matrix = graph.edges(step).to_matrix(9)
            connectivity = (matrix > 0).astype(float)
            np.testing.assert_allclose(matrix, connectivity / connectivity.sum(axis=0), rtol=0, atol=1e-15)


def test_seeds_give_different_graphs(tmp_path):
    for name in ("random_directed", "random_undirected", "erdos_renyi", "networkx"):
        matrices = [make(name, 16, tmp_path, seed=seed).edges(0).to_matrix(16) for seed in (0, 1)]
        assert not np.array_equal(*matrices), name


def test_base_graph_limits_the_edges():
    graph = RandomDirected(num_nodes=30, rate_low=1, rate_high=1, base_probability=0.3, seed=4)
    matrix = graph.edges(0).to_matrix(30) > 0
    assert (matrix == matrix.T).all()
    np.testing.assert_array_equal(matrix, graph.edges(9).to_matrix(30) > 0)
    assert 30 * 29 * 0.2 < matrix.sum() - 30 < 30 * 29 * 0.4


def test_erdos_renyi_density_over_seeds():
    num_nodes, probability, num_seeds = 12, 0.5, 300
    counts = np.zeros((num_nodes, num_nodes))
    for seed in range(num_seeds):
        graph = ErdosRenyi(num_nodes=num_nodes, probability=probability, seed=seed)
        counts += graph.edges(0).to_matrix(num_nodes) > 0
    upper = counts[np.triu_indices(num_nodes, 1)] / num_seeds
    # Conditioning on connectedness moves the frequency by less than 1 per cent here.
    assert np.abs(upper - probability).max() < 5 * math.sqrt(0.25 / num_seeds)
    assert abs(upper.mean() - probability) < 0.01 + 5 * math.sqrt(0.25 / num_seeds / len(upper))


def test_erdos_renyi_gives_up_with_one_line():
    graph = ErdosRenyi(num_nodes=200, probability=0.004)
    with pytest.raises(ValueError, match=r"none of 1000 draws is connected; about ln\(n\)/n = 0.0265") as error:
        graph.edges(0)
    assert "\n" not in str(error.value)


def test_networkx_graph_equals_the_generator():
    graph = NetworkX(num_nodes=20, generator="random_regular_graph", arguments={"d": 3}, seed=1)
    degrees = np.bincount(graph.edges(0).target) - 1
    np.testing.assert_array_equal(degrees, 3)
    petersen = NetworkX(num_nodes=10, generator="petersen_graph")
    np.testing.assert_array_equal(
        petersen.edges(0).to_matrix(10) > 0, nx.to_numpy_array(nx.petersen_graph()) + np.eye(10)
    )
    multi = NetworkX(num_nodes=8, generator="random_k_out_graph", arguments={"k": 2, "alpha": 1.0}, seed=1)
    assert multi.directed
    assert multi.stochasticity == "column"
    grid = NetworkX(num_nodes=6, generator="grid_2d_graph", arguments={"m": 2, "n": 3})
    assert len(grid.edges(0).source) == 6 + 2 * 7


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"generator": "no_such_graph"}, "networkx has no function of this name"),
        ({"generator": "star_graph"}, r"made a graph of 9 nodes, but num_nodes=8"),
        (
            {"generator": "watts_strogatz_graph", "arguments": {"k": 3}},
            r"graph.arguments: networkx.watts_strogatz_graph",
        ),
        ({"generator": "watts_strogatz_graph", "arguments": {"k": 30, "p": 0.1}}, "failed: k>n"),
        ({"generator": "density", "arguments": {"G": 1}}, "graph.arguments"),
        ({"generator": "number_of_walks", "arguments": {}}, "graph.arguments"),
    ],
)
def test_networkx_errors_are_one_clear_line(arguments, message):
    graph = NetworkX(num_nodes=8, **arguments)
    with pytest.raises(ValueError, match=message) as error:
        graph.edges(0)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        (Ring, {"num_nodes": 0}, "graph.num_nodes=0"),
        (KHopRing, {"num_nodes": 3, "k": 0}, "graph.k=0"),
        (ErdosRenyi, {"num_nodes": 3, "probability": 1.5}, "graph.probability=1.5"),
        (ErdosRenyi, {"num_nodes": 3, "probability": 0}, "graph.probability=0"),
        (
            ErdosRenyi,
            {"num_nodes": 3, "probability": 0.5, "weights": "mh"},
            "the rules are metropolis, metropolis_without_self, lazy_metropolis",
        ),
        (RandomDirected, {"num_nodes": 3, "rate_low": 0.9, "rate_high": 0.8}, "graph.rate_low=0.9"),
        (RandomDirected, {"num_nodes": 3, "rate_low": 0, "rate_high": 0}, "high above 0"),
        (RandomUndirected, {"num_nodes": 3, "rate_low": 0.4, "rate_high": 1.8}, "rates lie in"),
        (
            RandomUndirected,
            {"num_nodes": 3, "rate_low": 0.4, "rate_high": 0.8, "base_probability": 0},
            "graph.base_probability=0",
        ),
        (
            RandomUndirected,
            {"num_nodes": 3, "rate_low": 0.4, "rate_high": 0.8, "weights": "in_degree"},
            "the rules are out_degree, metropolis",
        ),
    ],
)
def test_bad_arguments_are_refused(kind, arguments, message):
    with pytest.raises(ValueError, match=message):
        kind(**arguments)


def test_ring_of_ten_thousand_nodes_takes_linear_memory():
    tracemalloc.start()
    edges = Ring(num_nodes=10_000).edges(0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(edges.source) == 30_000
    assert peak < 10 * 2**20  # an n x n matrix of bytes alone would be 95 MiB
    rows = np.bincount(edges.target, edges.weight)
    np.testing.assert_allclose(rows, 1, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", [RandomDirected, RandomUndirected])
def test_a_random_round_of_a_hundred_nodes_takes_less_than_a_millisecond(kind):
    graph = kind(num_nodes=100, rate_low=0.4, rate_high=0.8)
    graph.edges(0)
    times = []
    for step in range(30):
        start = time.perf_counter()
        graph.edges(step)
        times.append(time.perf_counter() - start)
    assert min(times) < 1e-3
