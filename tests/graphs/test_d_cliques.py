"""D-Cliques: cliques that share the labels out, the edges between them, and a run that hands the labels over."""

import json
import time
from itertools import combinations

import networkx as nx
import numpy as np
import pytest

from simulator import config
from simulator.graphs.d_cliques import DCliques, links
from simulator.job import Job, run_job
from simulator.local_processes import run_local
from simulator.processes import World


def label_counts(num_nodes, num_classes, seed=0, concentration=0.1):
    """Unlike nodes: 100 samples each, classes from a Dirichlet distribution."""
    rng = np.random.default_rng(seed)
    return np.array([rng.multinomial(100, rng.dirichlet([concentration] * num_classes)) for _ in range(num_nodes)])


def make(counts, **changes):
    settings = {"max_clique_size": 10, "connection": "ring", "num_swaps": 1000, **changes}
    graph = DCliques(num_nodes=len(counts), **settings)
    graph.use_label_counts(np.asarray(counts, dtype=np.int64))
    return graph


def total_skew(cliques, counts):
    """A plain transcription."""
    shares = counts / counts.sum(axis=1, keepdims=True)
    overall = shares.mean(axis=0)
    return sum(np.abs(np.mean([shares[i] for i in clique], axis=0) - overall).sum() for clique in cliques)


@pytest.mark.parametrize("seed", range(3))
def test_labels_are_shared_out_better_than_at_random(seed):
    counts = label_counts(40, 10, seed)
    dealt = make(counts, num_swaps=0, seed=seed)
    swapped = make(counts, seed=seed)
    rng = np.random.default_rng(seed)
    random = [total_skew(np.split(rng.permutation(40), 4), counts) for _ in range(300)]
    assert min(random) < total_skew(dealt.cliques, counts) < max(random)
    assert total_skew(swapped.cliques, counts) < 0.6 * min(random)


def test_one_class_per_node_gives_one_node_per_class():
    counts = np.kron(np.eye(5, dtype=np.int64), np.full((4, 1), 30))  # 20 nodes, 4 of each of 5 classes
    graph = make(counts, max_clique_size=5, num_swaps=2000)
    assert [sorted((clique // 4).tolist()) for clique in graph.cliques] == [[0, 1, 2, 3, 4]] * 4
    assert total_skew(graph.cliques, counts) == pytest.approx(0, abs=1e-12)


def test_swaps_grow_with_the_cliques():
    """Mean skew of a clique at 100 and 1,000 nodes: random cliques have about 0.5; 1,000 swaps leave 0.13 to 0.16."""
    one_class_each = np.eye(10, dtype=np.int64)[np.arange(1000) % 10] * 30
    for counts, most in ((label_counts(1000, 10), 0.06), (one_class_each, 0.02)):
        started = time.process_time()
        skews = [total_skew(make(part, num_swaps=None).cliques, part) for part in (counts[:100], counts)]
        assert time.process_time() - started < 20
        assert skews[0] / 10 < 2 * most
        assert skews[1] / 100 < most
        assert total_skew(make(counts, num_swaps=1000).cliques, counts) / 100 > 2 * most
    few = label_counts(40, 10)
    for clique, other in zip(make(few, num_swaps=None).cliques, make(few, num_swaps=1000).cliques, strict=True):
        np.testing.assert_array_equal(clique, other)


@pytest.mark.parametrize(("num_nodes", "size"), [(1, 2), (7, 10), (16, 10), (23, 5), (30, 10)])
def test_cliques_are_complete_cover_all_nodes_and_are_of_even_sizes(num_nodes, size):
    graph = make(label_counts(num_nodes, 4), max_clique_size=size, num_swaps=50)
    sizes = [len(clique) for clique in graph.cliques]
    assert sorted(np.concatenate(graph.cliques)) == list(range(num_nodes))
    assert len(sizes) == -(-num_nodes // size)
    assert max(sizes) - min(sizes) <= 1
    drawn = nx.from_numpy_array(graph.edges(0).to_matrix(num_nodes))
    assert all(drawn.has_edge(a, b) for clique in graph.cliques for a, b in combinations(clique.tolist(), 2))


def between(num_cliques, size, connection, num_members=4):
    """The graph whose nodes are cliques, and how many edges to other cliques every node has."""
    cliques = list(np.arange(num_cliques * num_members).reshape(num_cliques, num_members))
    edges = links(cliques, connection, size, num_cliques * num_members)
    graph = nx.MultiGraph()
    graph.add_nodes_from(range(num_cliques))
    graph.add_edges_from((edges // num_members).T.tolist())
    return graph, np.bincount(edges.ravel(), minlength=num_cliques * num_members).reshape(num_cliques, num_members)


def test_ring_between_cliques():
    for count in (3, 4, 9):
        graph, used = between(count, 10, "ring")
        assert nx.is_isomorphic(nx.Graph(graph), nx.cycle_graph(count))
        assert used.max() == 1
    assert between(2, 10, "ring")[0].number_of_edges() == 1
    assert between(1, 10, "ring")[0].number_of_edges() == 0


def test_complete_between_cliques():
    graph, used = between(7, 3, "complete")
    assert graph.number_of_edges() == 7 * 6 / 2
    assert nx.is_isomorphic(nx.Graph(graph), nx.complete_graph(7))
    assert (np.sort(used, axis=1) == [1, 1, 2, 2]).all()  # 6 edges of a clique on its 4 nodes


def test_fractal_between_cliques():
    """27 cliques by three: 9 triangles, 3 triangles of these, and one of those; one edge for each side."""
    graph, used = between(27, 3, "fractal")
    assert graph.number_of_edges() == 27 + 9 + 3
    assert nx.is_connected(nx.Graph(graph))
    assert used.max() == 1
    for size in (3, 9):
        for start in range(0, 27, size):
            inside = nx.Graph(graph.subgraph(range(start, start + size)))
            assert nx.is_connected(inside)
            assert inside.number_of_edges() == {3: 3, 9: 12}[size]


def test_small_world_between_cliques():
    """16 cliques: 2^s and 2^s + 1 ahead and behind, s = 0 to 3; every clique draws 16 edges."""
    graph, used = between(16, 10, "small_world")
    distances = {(b - a) % 16 for a, b in nx.Graph(graph).edges()}
    ahead = {1, 2, 3, 4, 5, 8, 9}
    assert distances == ahead | {16 - distance for distance in ahead}
    assert graph.number_of_edges() == 16 * 16
    assert used.max() - used.min() <= 1
    assert nx.diameter(nx.Graph(graph)) == 2


def test_same_seed_same_cliques():
    counts = label_counts(24, 5)
    cliques = [[clique.tolist() for clique in make(counts, seed=seed).cliques] for seed in (1, 1, 2)]
    assert cliques[0] == cliques[1] != cliques[2]


def test_a_run_hands_the_labels_over_whatever_the_number_of_processes(composed, tmp_path, one_thread):
    settings = composed(
        *("graph=gossip_pga", "graph@graph.base=d_cliques", "graph.base.max_clique_size=3", "graph.base.num_swaps=50"),
        *("algorithm=dsgd", "problem=classification", "model=logistic_regression", "num_nodes=8", "num_steps=2"),
        *("faults=message_loss", "figures=false", "compute=vmap", "dtype=float64"),
    )
    summaries = []
    for world_size in (1, 2):
        folder = tmp_path / str(world_size)
        job = Job(settings, str(folder))
        if world_size == 1:
            run_job(job, World(), None)
        else:
            run_local(world_size, lambda world, store, job=job: run_job(job, world, store))
        summaries.append(json.loads((folder / "summary.json").read_text()))
    for name in ("comm/messages", "comm/bytes_sent_per_node"):
        assert summaries[0][name] == summaries[1][name]
    np.testing.assert_allclose(summaries[0]["train/loss"], summaries[1]["train/loss"], rtol=1e-10)


def test_a_problem_without_labels_is_one_clear_line_before_the_first_step(composed, tmp_path):
    settings = composed("graph=d_cliques", "algorithm=dsgd", "problem=quadratic", "num_nodes=6", "figures=false")
    message = "graph: DCliques depends on the nodes' labels, and problem Quadratic has none; use another graph"
    with pytest.raises(ValueError, match=message) as error:
        run_job(Job(settings, str(tmp_path)), World(), None)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_checks_that_need_edges_come_with_the_labels(composed, tmp_path):
    """A graph that the algorithm refuses is found out then, too."""
    settings = composed(
        *("graph=cyclic", "graph@graph.graphs.first=d_cliques", "graph@graph.graphs.second=random_directed"),
        *("algorithm=dsgd", "model=logistic_regression", "num_nodes=6", "figures=false"),
    )
    components = config.build(settings)
    config.check(settings, components, 1)
    with pytest.raises(ValueError, match=r"dsgd needs doubly stochastic weights, and graph Cyclic\(DCliques"):
        run_job(Job(settings, str(tmp_path)), World(), None)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_clique_size": 1}, "graph.max_clique_size=1: expected an integer of at least 2"),
        ({"connection": "star"}, "graph.connection='star': cliques are joined by ring, small_world, fractal, complete"),
        ({"num_swaps": -1}, "graph.num_swaps=-1"),
    ],
)
def test_bad_arguments_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        make(label_counts(6, 3), **changes)


def test_without_labels_there_are_no_edges():
    with pytest.raises(ValueError, match="DCliques depends on the nodes' labels, which it gets from a problem"):
        DCliques(num_nodes=6, max_clique_size=3, connection="ring").edges(0)
