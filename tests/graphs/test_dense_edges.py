"""Rounds as masks against the same rounds as edge lists: entries, blocks, plans and the ledger, bit for bit."""

import json

import numpy as np
import pytest
import torch

from simulator.arrays import sorted_unique
from simulator.graphs.base import Edges
from simulator.graphs.dense_edges import DENSE_RULES, DenseEdges
from simulator.graphs.random_directed import RandomDirected
from simulator.graphs.random_undirected import RandomUndirected
from simulator.graphs.slowly_changing import SlowlyChanging
from simulator.graphs.weights import metropolis, out_degree
from simulator.network.ledger import Ledger, Links
from simulator.network.plans import Plan
from simulator.placement import Placement


def masks(rule, num_nodes, density, seed):
    """A round with ``rule`` on a random mask, and the same one as a list."""
    joined = np.random.default_rng(seed).random((num_nodes, num_nodes)) < density
    if rule is metropolis:
        joined |= joined.T
    np.fill_diagonal(joined, True)
    target, source = np.nonzero(joined)
    return DENSE_RULES[rule](joined), Edges.build(source, target, rule(source, target, num_nodes))


CASES = [(rule, size, density) for rule in DENSE_RULES for size in (1, 2, 13, 200) for density in (0.0, 0.2, 0.7, 1.0)]


@pytest.mark.parametrize(("rule", "num_nodes", "density"), CASES)
def test_entries_are_those_of_the_weight_rule(rule, num_nodes, density):
    dense, listed = masks(rule, num_nodes, density, seed=1)
    for name in ("source", "target", "weight"):
        found, expected = getattr(dense, name), getattr(listed, name)
        assert found.dtype == expected.dtype
        assert not found.flags.writeable
        np.testing.assert_array_equal(found, expected)
    matrix, everyone = listed.to_matrix(num_nodes), slice(0, num_nodes)
    for dtype in (np.float32, np.float64):
        np.testing.assert_array_equal(dense.block(everyone, everyone, dtype), matrix.astype(dtype))
        others = np.arange(num_nodes - num_nodes // 3, num_nodes)
        some = slice(0, num_nodes // 3)
        np.testing.assert_array_equal(dense.block(some, others, dtype), matrix[some, others].astype(dtype))


@pytest.mark.parametrize("rule", DENSE_RULES)
@pytest.mark.parametrize("density", [0.02, 0.3])
@pytest.mark.parametrize("world_size", [1, 2, 3, 7])
def test_plans_are_those_of_the_list(rule, density, world_size):
    dense, listed = masks(rule, 40, density, seed=2)
    for rank in range(world_size):
        placement = Placement(40, world_size, rank)
        found, expected = Plan.build(dense, placement), Plan.build(listed, placement)
        for name in ("sends", "receives"):
            parts = [
                [(p.peer, p.nodes.tolist(), p.rows.tolist()) for p in getattr(plan, name)] for plan in (found, expected)
            ]
            assert parts[0] == parts[1]
        for name in ("in_source", "in_target", "in_weight", "in_row"):
            np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
        np.testing.assert_array_equal(found.links.codes, expected.links.codes)
        num_received = sum(len(part.nodes) for part in found.receives)
        for dtype in (torch.float32, torch.float64):
            rows = torch.randn(40, 5, dtype=dtype)
            own, received = rows[: len(placement.nodes)], rows[:num_received]
            products = []
            for plan in (found, expected):
                products.append(plan.local.multiply(own))
                plan.remote.add_product_(products[-1], received)
            assert torch.equal(*products)
        for block in ("local", "remote"):
            one, other = getattr(found, block), getattr(expected, block)
            assert (one.shape, one.size) == (other.shape, other.size)
            for name in ("row", "column", "weight"):
                np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_the_ledger_counts_masks_as_lists():
    """Masks and lists in turn, with more payloads than are kept open, and reading in between."""
    ledgers = Ledger(30), Ledger(30)
    rng = np.random.default_rng(0)
    for step in range(40):
        dense, listed = masks(out_degree, 30, rng.choice([0.0, 0.3, 1.0]), seed=step)
        payload = int(rng.integers(1, 8))
        mixed = [Links.of(dense if step % 3 else listed, 30), Links.build(listed.source, listed.target, 30)]
        for ledger, links in zip(ledgers, mixed, strict=True):
            ledger.record("inner", links, payload)
            if step in (11, 25):
                ledger.per_edge()
    states = [json.loads(json.dumps(ledger.state_dict())) for ledger in ledgers]
    assert states[0] == states[1]
    assert sum(states[0]["messages"]) == ledgers[0].messages > 0


@pytest.mark.parametrize("weights", ["out_degree", "metropolis", None])
def test_random_schedules_with_a_large_share_of_pairs_are_masks(weights):
    """One word of 64 bits decides about a pair; the same edges as with a uniform and a rate."""
    settings = {"num_nodes": 70, "rate_low": 0.1, "rate_high": 0.9, "seed": 4}
    graph = RandomDirected(**settings) if weights is None else RandomUndirected(**settings, weights=weights)
    rule = metropolis if weights == "metropolis" else out_degree
    for step in range(5):
        edges = graph.edges(step)
        assert isinstance(edges, DenseEdges)
        expected = rule(edges.source, edges.target, 70)
        np.testing.assert_array_equal(edges.weight, expected)


def test_slowly_changing_weights_are_metropolis_however_a_round_is_reached():
    """Few nodes change, many do, several rounds at once, and backwards; each round against one computed alone."""
    for num_changes in (1, 6, 300):
        graph = SlowlyChanging(num_nodes=50, num_changes=num_changes, seed=1)
        for step in (0, 1, 2, 3, 7, 120, 119, 121, 5, 6):
            edges = graph.edges(step)
            np.testing.assert_array_equal(edges.weight, metropolis(edges.source, edges.target, 50))
            alone = SlowlyChanging(num_nodes=50, num_changes=num_changes, seed=1).edges(step)
            np.testing.assert_array_equal(edges.joined, alone.joined)
            np.testing.assert_array_equal(edges.weight, alone.weight)
    before = graph.edges(3)
    kept = before.joined.copy()
    graph.edges(4)
    np.testing.assert_array_equal(before.joined, kept)


def test_distinct_values():
    values = np.random.default_rng(0).integers(0, 50, 200)
    for part in (values, values[:1], values[:0], np.full(3, 7)):
        np.testing.assert_array_equal(sorted_unique(part), np.unique(part))
