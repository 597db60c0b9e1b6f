"""Placement: contiguous blocks that cover all nodes once and differ by at most one."""

import numpy as np
import pytest

from simulator.placement import Placement


@pytest.mark.parametrize(("num_nodes", "world_size"), [(1, 1), (7, 3), (10, 10), (10, 4), (100, 7), (5, 2)])
def test_blocks_cover_all_nodes_evenly(num_nodes, world_size):
    placements = [Placement(num_nodes, world_size, rank) for rank in range(world_size)]
    assert [node for placement in placements for node in placement.nodes] == list(range(num_nodes))
    sizes = [len(placement.nodes) for placement in placements]
    assert max(sizes) - min(sizes) <= 1
    assert min(sizes) >= 1
    owner = {node: rank for rank, placement in enumerate(placements) for node in placement.nodes}
    for placement in placements:
        assert [placement.nodes_of(rank) for rank in range(world_size)] == [other.nodes for other in placements]
        assert placement.rank_of(np.arange(num_nodes)).tolist() == [owner[node] for node in range(num_nodes)]
        assert placement.starts.tolist() == [other.nodes.start for other in placements] + [num_nodes]


def test_uneven_blocks_are_known():
    assert [list(Placement(7, 3, rank).nodes) for rank in range(3)] == [[0, 1], [2, 3], [4, 5, 6]]


def test_many_nodes_and_processes_do_not_overflow():
    placement = Placement(10**7, 4096, 4095)
    assert placement.nodes.stop == 10**7
    assert int(placement.rank_of(10**7 - 1)) == 4095


def test_impossible_placements_are_refused():
    with pytest.raises(ValueError, match=r"4 processes for num_nodes=3.*start at most 3"):
        Placement(3, 4)
    with pytest.raises(ValueError, match="num_nodes=0: at least one"):
        Placement(0)
