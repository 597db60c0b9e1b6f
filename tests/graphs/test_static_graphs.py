"""Static graphs: who is joined, by networkx and by hand; gaps and effective neighbours, by closed form or published."""

import itertools

import networkx as nx
import numpy as np
import pytest

from simulator.graphs.barabasi_albert import BarabasiAlbert
from simulator.graphs.binary_tree import BinaryTree
from simulator.graphs.chain import Chain
from simulator.graphs.d_regular_tree import DRegularTree
from simulator.graphs.de_bruijn import DeBruijn
from simulator.graphs.equi_static import EquiStatic
from simulator.graphs.exchange_tree import ExchangeTree
from simulator.graphs.grid import Grid
from simulator.graphs.hypercube import Hypercube
from simulator.graphs.mix import Mix
from simulator.graphs.nice import Nice
from simulator.graphs.random_geometric import RandomGeometric
from simulator.graphs.random_regular import RandomRegular
from simulator.graphs.ring import Ring
from simulator.graphs.social_network import SocialNetwork, SocialNetworkTree
from simulator.graphs.spectra import spectral_gap
from simulator.graphs.star import Star
from simulator.graphs.torus import Torus
from simulator.graphs.twisted_torus import TwistedTorus
from simulator.graphs.two_cliques import TwoCliques
from simulator.graphs.watts_strogatz import WattsStrogatz


def matrix_of(graph):
    return graph.edges(0).to_matrix(graph.num_nodes)


def joined(graph):
    """The graph without self-loops, for networkx."""
    matrix = matrix_of(graph)
    np.fill_diagonal(matrix, 0)
    return nx.from_numpy_array(matrix != 0)


def adjacency(graph):
    return nx.to_numpy_array(graph, nodelist=sorted(graph)) != 0


def assert_joined_as(graph, expected):
    np.testing.assert_array_equal(adjacency(joined(graph)), adjacency(expected))


@pytest.mark.parametrize("num_nodes", [1, 2, 3, 7])
def test_chain(num_nodes):
    assert_joined_as(Chain(num_nodes=num_nodes), nx.path_graph(num_nodes))


SHAPES = [(1, 1), (1, 2), (1, 7), (2, 2), (2, 5), (3, 4), (4, 3), (2, 3, 4), (3, 3, 3), (2, 2, 2, 2), (6,)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("kind", "wraps"), [(Grid, False), (Torus, True)])
def test_lattices(shape, kind, wraps):
    expected = nx.Graph()
    expected.add_nodes_from(itertools.product(*map(range, shape)))
    for place in list(expected):
        for axis, length in enumerate(shape):
            following = list(place)
            following[axis] += 1
            if following[axis] < length or wraps:
                following[axis] %= length
                expected.add_edge(place, tuple(following))
    expected.remove_edges_from(list(nx.selfloop_edges(expected)))
    graph = kind(num_nodes=int(np.prod(shape)), shape=list(shape))
    assert_joined_as(graph, expected)
    if min(shape) >= 3:
        assert nx.is_isomorphic(joined(graph), nx.grid_graph(shape, periodic=wraps))


@pytest.mark.parametrize(
    ("num_nodes", "shape"), [(1, (1, 1)), (2, (1, 2)), (12, (3, 4)), (13, (1, 13)), (32, (4, 8)), (64, (8, 8))]
)
def test_the_default_shape_is_nearly_square(num_nodes, shape):
    assert all(kind(num_nodes=num_nodes).shape == shape for kind in (Grid, Torus, TwistedTorus))


@pytest.mark.parametrize("shape", [(4, 8), (3, 5), (8, 8), (4, 4)])
def test_twisted_torus_is_a_circulant_graph(shape):
    num_nodes = shape[0] * shape[1]
    graph = TwistedTorus(num_nodes=num_nodes, shape=shape)
    assert_joined_as(graph, nx.circulant_graph(num_nodes, [1, shape[1]]))
    np.testing.assert_allclose(matrix_of(graph)[matrix_of(graph) > 0], 0.2, rtol=0, atol=1e-15)
    # The end of a row is joined to the start of the next, not of its own.
    ends, true = matrix_of(graph)[shape[1] - 1], matrix_of(Torus(num_nodes=num_nodes, shape=shape))[shape[1] - 1]
    assert (ends[shape[1]] > 0, ends[0] > 0, true[shape[1]] > 0, true[0] > 0) == (True, False, False, True)


@pytest.mark.parametrize("columns", [4, 8, 16])
def test_twisted_torus_of_two_rows_keeps_two_fifths(columns):
    matrix = matrix_of(TwistedTorus(num_nodes=2 * columns, shape=[2, columns]))
    row = np.zeros(2 * columns)
    row[[0, 1, columns, -1]] = [0.4, 0.2, 0.2, 0.2]
    np.testing.assert_allclose(matrix, [np.roll(row, i) for i in range(2 * columns)], rtol=0, atol=1e-15)
    # Other rules count the three neighbours that there are.
    largest = matrix_of(TwistedTorus(num_nodes=2 * columns, shape=[2, columns], weights="max_degree"))
    np.testing.assert_allclose(largest[largest > 0], 0.25, rtol=0, atol=1e-15)


@pytest.mark.parametrize("log_nodes", range(6))
def test_hypercube(log_nodes):
    graph = Hypercube(num_nodes=2**log_nodes)
    pairs = itertools.combinations(range(2**log_nodes), 2)
    expected = nx.empty_graph(2**log_nodes)
    expected.add_edges_from((a, b) for a, b in pairs if bin(a ^ b).count("1") == 1)
    assert_joined_as(graph, expected)


@pytest.mark.parametrize("num_nodes", [1, 2, 3, 4, 9, 16, 32])
def test_binary_tree(num_nodes):
    graph = BinaryTree(num_nodes=num_nodes)
    expected = nx.empty_graph(num_nodes)
    expected.add_edges_from((k, k // 2) for k in range(1, num_nodes))
    assert_joined_as(graph, expected)
    assert nx.is_tree(joined(graph))
    mirror = matrix_of(BinaryTree(num_nodes=num_nodes, mirrored=True))
    np.testing.assert_array_equal(mirror, matrix_of(graph)[::-1, ::-1])


def test_binary_tree_has_a_pendant_on_its_root():
    tree = joined(BinaryTree(num_nodes=16))
    assert [sorted(tree[node]) for node in range(4)] == [[1], [0, 2, 3], [1, 4, 5], [1, 6, 7]]
    assert max(dict(tree.degree).values()) == 3
    # Inner nodes of the tree are leaves of its mirror image, but for the two in the middle.
    mirror = joined(BinaryTree(num_nodes=16, mirrored=True))
    assert [k for k in range(16) if tree.degree[k] > 1 and mirror.degree[k] > 1] == []


@pytest.mark.parametrize("degree", [2, 3, 4, 5])
def test_d_regular_tree(degree):
    full = [1 + degree * sum((degree - 1) ** j for j in range(layers)) for layers in range(4)]
    for num_nodes in {*full, 1, 2, 3, 11, 20}:
        tree = joined(DRegularTree(num_nodes=num_nodes, degree=degree))
        assert nx.is_tree(tree)
        distances = [nx.shortest_path_length(tree, 0, node) for node in range(num_nodes)]
        assert distances == sorted(distances)
        # All but the leaves and the last inner node have `degree` neighbours, and nobody has more.
        inner = [node for node in range(num_nodes) if tree.degree[node] > 1]
        assert all(tree.degree[node] == degree for node in inner[:-1])
        assert max(dict(tree.degree).values()) <= degree
        if num_nodes in full:
            assert all(tree.degree[node] == degree for node in inner)
            assert all(distances[node] == distances[-1] for node in range(num_nodes) if node not in inner)


@pytest.mark.parametrize("num_nodes", [1, 2, 3, 4, 7, 10])
def test_two_cliques(num_nodes):
    half = num_nodes // 2
    expected = nx.disjoint_union(nx.complete_graph(half), nx.complete_graph(num_nodes - half))
    if half:
        expected.add_edge(0, half)
    assert_joined_as(TwoCliques(num_nodes=num_nodes), expected)
    if num_nodes % 2 == 0 and num_nodes > 2:
        assert nx.is_isomorphic(expected, nx.barbell_graph(half, 0))


def test_social_network_and_its_tree():
    network = nx.convert_node_labels_to_integers(nx.davis_southern_women_graph())
    assert (len(network), network.number_of_edges()) == (32, 89)
    assert_joined_as(SocialNetwork(num_nodes=32), network)
    expected = nx.empty_graph(32)
    for node in range(1, 32):
        nx.add_path(expected, min(nx.all_shortest_paths(network, 0, node)))
    assert nx.is_tree(expected)
    assert_joined_as(SocialNetworkTree(num_nodes=32), expected)


def test_exchange_tree():
    expected = nx.Graph([(0, 1), (0, 2), (0, 3), (2, 4)])
    assert_joined_as(ExchangeTree(num_nodes=5), expected)
    with pytest.raises(ValueError, match=r"graph\.num_nodes=6: the exchange tree has 5 nodes; set num_nodes=5"):
        ExchangeTree(num_nodes=6)


UNDIRECTED = (BarabasiAlbert, BinaryTree, Chain, DRegularTree, Grid, Hypercube, RandomGeometric, RandomRegular, Torus)
UNDIRECTED += (TwoCliques, WattsStrogatz)


@pytest.mark.parametrize("kind", UNDIRECTED)
def test_one_and_two_nodes(kind):
    np.testing.assert_array_equal(matrix_of(kind(num_nodes=1)), [[1.0]])
    np.testing.assert_array_equal(matrix_of(kind(num_nodes=2)), np.full((2, 2), 0.5))


def test_three_nodes():
    path, triangle = np.array([[2, 1, 0], [1, 1, 1], [0, 1, 2]]) / 3, np.full((3, 3), 1 / 3)
    in_the_middle = {0: [1, 0, 2], 1: [0, 1, 2]}
    centres = {BinaryTree: 1, Chain: 1, Grid: 1, DRegularTree: 0, TwoCliques: 1, BarabasiAlbert: 0, Torus: None}
    centres |= {RandomRegular: None, WattsStrogatz: None}
    for kind, centre in centres.items():
        expected = triangle if centre is None else path[np.ix_(in_the_middle[centre], in_the_middle[centre])]
        np.testing.assert_allclose(matrix_of(kind(num_nodes=3)), expected, rtol=0, atol=1e-15, err_msg=kind.__name__)


def test_weights_of_a_few_nodes_by_hand():
    tree = np.array([[3, 1, 0, 0], [1, 1, 1, 1], [0, 1, 3, 0], [0, 1, 0, 3]]) / 4
    np.testing.assert_allclose(matrix_of(BinaryTree(num_nodes=4)), tree, rtol=0, atol=1e-15)
    five = matrix_of(TwoCliques(num_nodes=5))  # 0 - 1 and the triangle 2, 3, 4, joined by 0 - 2
    expected = np.zeros((5, 5))
    for a, b, weight in ((0, 1, 1 / 3), (0, 2, 1 / 4), (2, 3, 1 / 4), (2, 4, 1 / 4), (3, 4, 1 / 3)):
        expected[a, b] = expected[b, a] = weight
    expected += np.diag(1 - expected.sum(axis=1))
    np.testing.assert_allclose(five, expected, rtol=0, atol=1e-15)
    np.testing.assert_allclose(matrix_of(Mix(num_nodes=2, gap=0.25)), [[0.875, 0.125], [0.125, 0.875]], atol=1e-15)
    half = np.array([[0.5 + 0.375, 0.125], [0.125, 0.875]])  # v = (1, -1) / sqrt(2) whatever the draw
    np.testing.assert_allclose(matrix_of(Nice(num_nodes=2, gap=0.25)), half, rtol=0, atol=1e-15)
    two_three = np.zeros((5, 5))  # node i sends to 2i and 2i + 1 (mod 5)
    for i in range(5):
        two_three[2 * i % 5, i] += 0.5
        two_three[(2 * i + 1) % 5, i] += 0.5
    np.testing.assert_array_equal(matrix_of(DeBruijn(num_nodes=5)), two_three)


@pytest.mark.parametrize("num_nodes", [3, 4, 9, 16, 33])
@pytest.mark.parametrize("gap", [0.2, 0.7, 1.0])
def test_given_spectra(num_nodes, gap):
    worst = np.linalg.eigvalsh(matrix_of(Mix(num_nodes=num_nodes, gap=gap)))
    np.testing.assert_allclose(worst, [1 - gap] * (num_nodes - 1) + [1], rtol=0, atol=1e-12)
    best = np.linalg.eigvalsh(matrix_of(Nice(num_nodes=num_nodes, gap=gap, seed=5)))
    np.testing.assert_allclose(best, sorted([0] * (num_nodes - 2) + [1 - gap, 1]), rtol=0, atol=1e-12)
    other = matrix_of(Nice(num_nodes=num_nodes, gap=gap, seed=6))
    assert gap == 1 or np.abs(other - matrix_of(Nice(num_nodes=num_nodes, gap=gap, seed=5))).max() > 1e-3


@pytest.mark.parametrize("num_nodes", [2, 5, 16, 40])
def test_gap_of_a_chain(num_nodes):
    expected = 2 / 3 * (1 - np.cos(np.pi / num_nodes)) if num_nodes > 2 else 1
    assert spectral_gap(Chain(num_nodes=num_nodes)) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("log_nodes", [1, 2, 4, 5, 6])
def test_gap_of_a_hypercube(log_nodes):
    assert spectral_gap(Hypercube(num_nodes=2**log_nodes)) == pytest.approx(2 / (1 + log_nodes), abs=1e-12)


@pytest.mark.parametrize("shape", [(4, 8), (3, 5), (3, 4, 5), (11,)])
def test_gap_of_a_torus(shape):
    axes = np.meshgrid(*[2 * np.cos(2 * np.pi * np.arange(length) / length) for length in shape], indexing="ij")
    eigenvalues = ((1 + sum(axes)) / (1 + 2 * len(shape))).ravel()
    gap = 1 - np.abs(eigenvalues[1:]).max()
    assert spectral_gap(Torus(num_nodes=int(np.prod(shape)), shape=shape)) == pytest.approx(gap, abs=1e-12)


PUBLISHED = {
    # graph of 32 nodes: gap and n_W(0.951) as recomputed from "Beyond spectral gap"
    "star": (Star(num_nodes=32), 0.0312, 2.31),
    "binary tree": (BinaryTree(num_nodes=32), 0.0101, 7.19),
    "ring": (Ring(num_nodes=32), 0.0128, 8.86),
    "social network": (SocialNetwork(num_nodes=32), 0.0821, 16.37),
    "two cliques": (TwoCliques(num_nodes=32), 0.0066, 17.91),
    "torus 4 x 8": (TwistedTorus(num_nodes=32, shape=[4, 8]), 0.1172, 20.64),
    "hypercube": (Hypercube(num_nodes=32), 0.3333, 24.29),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_numbers(name):
    graph, gap, effective = PUBLISHED[name]
    assert spectral_gap(graph) == pytest.approx(gap, abs=6e-5)
    squares = np.linalg.eigvalsh(matrix_of(graph)) ** 2
    found = 1 / (1 - 0.951) / np.mean(squares / (1 - 0.951 * squares))
    assert found == pytest.approx(effective, abs=6e-3)


@pytest.mark.parametrize("degree", [2, 3, 6])
@pytest.mark.parametrize("num_nodes", [2, 3, 4, 8, 9, 12, 16, 30])
def test_de_bruijn_averages_exactly_iff_it_divides_a_power(num_nodes, degree):
    graph = DeBruijn(num_nodes=num_nodes, degree=degree)
    matrix, power, exact_at = matrix_of(graph), np.eye(num_nodes), None
    for rounds in range(1, 9):
        power = matrix @ power
        if exact_at is None and np.abs(power - 1 / num_nodes).max() < 1e-14:
            exact_at = rounds
    expected = next((rounds for rounds in range(1, 9) if degree**rounds % num_nodes == 0), None)
    assert exact_at == expected
    np.testing.assert_array_less(np.abs(power - 1 / num_nodes), 2 * degree**-7.0)
    assert max(np.bincount(graph.edges(0).source)) <= degree


@pytest.mark.parametrize("directed", [True, False])
@pytest.mark.parametrize("num_nodes", [2, 3, 7, 24])
def test_equi_static(num_nodes, directed):
    graph = EquiStatic(num_nodes=num_nodes, num_offsets=3, directed=directed, seed=4)
    shift = np.roll(np.eye(num_nodes), 1, axis=0)
    expected = np.eye(num_nodes) / num_nodes
    assert graph.offsets.min() >= 1
    assert graph.offsets.max() < num_nodes
    for offset in graph.offsets:
        expected += np.linalg.matrix_power(shift, offset) * (num_nodes - 1) / num_nodes / 3
    if not directed:
        expected = (expected + expected.T) / 2
    np.testing.assert_allclose(matrix_of(graph), expected, rtol=0, atol=1e-15)


def test_equi_static_offsets_are_uniform_and_connect():
    num_seeds, num_nodes = 600, 12
    counts = np.zeros(num_nodes)
    for seed in range(num_seeds):
        offsets = EquiStatic(num_nodes=num_nodes, num_offsets=1, seed=seed).offsets
        counts[offsets] += 1
    coprime = [1, 5, 7, 11]
    assert counts[coprime].sum() == num_seeds
    assert np.abs(counts[coprime] / num_seeds - 1 / 4).max() < 5 * np.sqrt(3 / 16 / num_seeds)
    assert len(EquiStatic(num_nodes=100).offsets) == 7


def test_a_large_equi_static_graph_mixes_as_fast_as_a_small_one():
    gaps = [spectral_gap(EquiStatic(num_nodes=n, num_offsets=20, seed=0)) for n in (50, 400)]
    assert min(gaps) > 0.3
