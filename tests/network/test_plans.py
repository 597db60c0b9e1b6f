"""Plans of one round: put together over all processes they are W_t, and every send has its receive."""

import tracemalloc

import numpy as np
import pytest
import torch

from simulator.graphs.base import Edges
from simulator.graphs.erdos_renyi import ErdosRenyi
from simulator.graphs.exponential import Exponential
from simulator.graphs.random_directed import RandomDirected
from simulator.graphs.ring import Ring
from simulator.graphs.self_loop import SelfLoop
from simulator.graphs.star import Star
from simulator.network import weight_matrix
from simulator.network.plans import Plan
from simulator.network.weight_matrix import WeightMatrix
from simulator.placement import Placement


def random_edges(num_nodes, density, seed, loops=True):
    """A random W_t with distinct weights, with or without self-loops, so that every entry can be told apart."""
    rng = np.random.default_rng(seed)
    matrix = np.where(rng.random((num_nodes, num_nodes)) < density, rng.random((num_nodes, num_nodes)) + 0.1, 0)
    np.fill_diagonal(matrix, 0.5 + rng.random(num_nodes) if loops else 0)
    return Edges.from_matrix(matrix)


GRAPHS = {
    "ring": lambda: Ring(num_nodes=13).edges(0),
    "star": lambda: Star(num_nodes=13).edges(0),
    "exponential": lambda: Exponential(num_nodes=13).edges(0),
    "self_loop": lambda: SelfLoop(num_nodes=13).edges(0),
    "random_directed": lambda: RandomDirected(
        num_nodes=13, rate_low=0.2, rate_high=0.6, base_probability=1.0, seed=1
    ).edges(4),
    "erdos_renyi": lambda: ErdosRenyi(num_nodes=13, probability=0.4, weights="metropolis", seed=2).edges(0),
    "random": lambda: random_edges(13, 0.3, 3),
    "without_self_loops": lambda: random_edges(13, 0.3, 4, loops=False),
    "empty": lambda: Edges.build([], [], []),
}
CASES = [(name, world_size) for name in GRAPHS for world_size in (1, 2, 3, 5, 13)]


def plans_of(edges, num_nodes, world_size):
    return [Plan.build(edges, Placement(num_nodes, world_size, rank)) for rank in range(world_size)]


def received_nodes(plan):
    return np.concatenate([part.nodes for part in plan.receives] or [np.zeros(0, dtype=np.int64)])


def block(matrix: WeightMatrix):
    dense = np.zeros(matrix.shape)
    for row, column, weight in zip(matrix.row, matrix.column, matrix.weight, strict=True):
        assert dense[row, column] == 0
        dense[row, column] = weight
    return dense


@pytest.mark.parametrize(("name", "world_size"), CASES)
def test_blocks_of_all_processes_are_the_whole_matrix(name, world_size):
    edges = GRAPHS[name]()
    whole = np.zeros((13, 13))
    for rank, plan in enumerate(plans_of(edges, 13, world_size)):
        nodes = Placement(13, world_size, rank).nodes
        whole[np.ix_(nodes, nodes)] += block(plan.local)
        whole[np.ix_(nodes, received_nodes(plan))] += block(plan.remote)
    np.testing.assert_array_equal(whole, edges.to_matrix(13))


@pytest.mark.parametrize(("name", "world_size"), CASES)
def test_every_send_has_its_receive_and_each_needed_row_crosses_once(name, world_size):
    edges = GRAPHS[name]()
    plans = plans_of(edges, 13, world_size)
    owner = {n: rank for rank in range(world_size) for n in Placement(13, world_size, rank).nodes}
    needed: dict[tuple[int, int], set[int]] = {}
    for source, target in zip(edges.source.tolist(), edges.target.tolist(), strict=True):
        if owner[source] != owner[target]:
            needed.setdefault((owner[source], owner[target]), set()).add(source)
    sends = {(rank, part.peer): part.nodes.tolist() for rank, plan in enumerate(plans) for part in plan.sends}
    receives = {(part.peer, rank): part.nodes.tolist() for rank, plan in enumerate(plans) for part in plan.receives}
    expected = {pair: sorted(nodes) for pair, nodes in needed.items()}
    assert sends == expected
    assert receives == expected
    for plan in plans:
        for parts in (plan.sends, plan.receives):
            peers = [part.peer for part in parts]
            assert peers == sorted(set(peers))


@pytest.mark.parametrize(("name", "world_size"), CASES)
def test_incoming_entries_point_at_the_row_of_their_source(name, world_size):
    edges = GRAPHS[name]()
    entries = []
    for rank, plan in enumerate(plans_of(edges, 13, world_size)):
        nodes = Placement(13, world_size, rank).nodes
        rows = np.concatenate([np.asarray(nodes), received_nodes(plan)])
        np.testing.assert_array_equal(rows[plan.in_row], plan.in_source)
        assert set(plan.in_target.tolist()) <= set(nodes)
        entries += zip(plan.in_source.tolist(), plan.in_target.tolist(), plan.in_weight.tolist(), strict=True)
    expected = zip(edges.source.tolist(), edges.target.tolist(), edges.weight.tolist(), strict=True)
    assert sorted(entries) == sorted(expected)


@pytest.mark.parametrize("world_size", [1, 3, 13])
def test_all_processes_know_all_links(world_size):
    edges = random_edges(13, 0.4, 5)
    real = sorted(s * 13 + t for s, t in zip(edges.source.tolist(), edges.target.tolist(), strict=True) if s != t)
    for plan in plans_of(edges, 13, world_size):
        assert sorted(plan.links.codes.tolist()) == real


def multiply(plan, own, received):
    out = plan.local.multiply(own)
    plan.remote.add_product_(out, received)
    return out


@pytest.mark.parametrize(("kind", "pairs_per_row"), [("sparse", 0), ("dense", 1000)])
@pytest.mark.parametrize("world_size", [1, 3])
def test_sparse_and_dense_blocks_multiply_as_numpy_does(monkeypatch, kind, pairs_per_row, world_size):
    monkeypatch.setattr(weight_matrix, "_PAIRS_PER_ROW", pairs_per_row)
    edges = random_edges(20, 0.3, 6)
    rows = np.random.default_rng(0).standard_normal((20, 5))
    result = []
    for rank, plan in enumerate(plans_of(edges, 20, world_size)):
        nodes = Placement(20, world_size, rank).nodes
        own, received = torch.from_numpy(rows[list(nodes)]), torch.from_numpy(rows[received_nodes(plan)])
        result.append(multiply(plan, own, received).numpy())
        assert plan.local.is_dense(own.shape[1] * own.element_size()) == (kind == "dense")
        # Another dtype gets weights of its own.
        torch.testing.assert_close(
            multiply(plan, own.float(), received.float()).double(), torch.from_numpy(result[-1]), rtol=1e-5, atol=1e-5
        )
    np.testing.assert_allclose(np.concatenate(result), edges.to_matrix(20) @ rows, rtol=1e-13, atol=1e-13)


def test_a_full_block_is_dense_and_an_empty_one_sparse():
    def is_dense(num_nodes, density, row_bytes=4000):
        return Plan.build(random_edges(num_nodes, density, 7), Placement(num_nodes)).local.is_dense(row_bytes)

    assert is_dense(20, 0.5)
    assert is_dense(200, 0.5)
    assert not is_dense(200, 0.2)
    assert is_dense(200, 0.2, row_bytes=400_000)  # sums of long rows miss the cache
    assert not is_dense(200, 0.02)
    assert not is_dense(200, 0.02, row_bytes=400_000)


def test_blocks_without_entries_or_columns_give_zeros():
    nothing = np.zeros(0, dtype=np.int64)
    empty = WeightMatrix(nothing, nothing, np.zeros(0), (3, 4))
    torch.testing.assert_close(empty.multiply(torch.ones(4, 2)), torch.zeros(3, 2), rtol=0, atol=0)
    for density in (0.02, 0.3):
        plan = Plan.build(random_edges(100, density, 7), Placement(100))
        assert plan.local.multiply(torch.ones(100, 0)).shape == (100, 0)


def peak_of_ring_plans(num_nodes):
    edges = Ring(num_nodes=num_nodes).edges(0)
    tracemalloc.start()
    try:
        plans = [Plan.build(edges, placement) for placement in (Placement(num_nodes), Placement(num_nodes, 4, 1))]
        return plans, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_of_a_plan_is_linear_in_the_edges():
    _, small = peak_of_ring_plans(5_000)
    plans, large = peak_of_ring_plans(10_000)
    assert large < 20e6  # a dense matrix would have 8e8 bytes
    assert large < 2.5 * small
    assert not plans[0].local.is_dense(row_bytes=400_000)
    assert plans[0].local.weight.size == 30_000
    ones = torch.ones(10_000, 2)
    torch.testing.assert_close(plans[0].local.multiply(ones), ones, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("world_size", [2, 3, 10])
def test_rows_without_messages_from_elsewhere_are_left_alone(world_size):
    """In a ring only the first and the last node of a block hear from other processes."""
    edges = Ring(num_nodes=100).edges(0)
    rows = np.random.default_rng(1).standard_normal((100, 3))
    result = []
    for rank, plan in enumerate(plans_of(edges, 100, world_size)):
        own = torch.from_numpy(rows[list(Placement(100, world_size, rank).nodes)])
        result.append(multiply(plan, own, torch.from_numpy(rows[received_nodes(plan)])).numpy())
    np.testing.assert_allclose(np.concatenate(result), edges.to_matrix(100) @ rows, rtol=1e-13, atol=1e-13)
