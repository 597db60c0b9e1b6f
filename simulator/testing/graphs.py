"""What every graph schedule must keep to.

Shapes: M nodes, E entries of one W_t.
"""

from collections.abc import Callable
from copy import deepcopy

import networkx as nx
import numpy as np

from simulator.graphs.base import Graph
from simulator.graphs.connectivity import check_mixes, check_stochastic
from simulator.graphs.symmetry import is_symmetric
from simulator.testing.globals import global_generators_unmoved

NUM_ROUNDS = 40  # of schedules that never repeat


def check_graph(graph: Graph, *, non_negative: bool = True, self_loops: bool = True) -> None:
    """Checks a graph schedule.

    Args:
        graph: as its constructor makes it; with its label counts where it needs them. Copies of it are used.
        non_negative: whether all weights must be at least 0.
        self_loops: whether every node must keep a share of its own value in every round.

    Raises:
        AssertionError: naming the property that does not hold.
        ValueError: where the schedule does not connect its nodes, or its sums are not as declared.
    """
    check_signs(deepcopy(graph), non_negative=non_negative, self_loops=self_loops)
    for check in GRAPH_CHECKS:
        check(deepcopy(graph))


def check_signs(graph: Graph, *, non_negative: bool = True, self_loops: bool = True) -> None:
    """The weights are non-negative, and every node has a self-loop."""
    for step in rounds_of(graph):
        matrix = graph.edges(step).to_matrix(graph.num_nodes)
        assert not non_negative or (matrix >= 0).all(), f"round {step}: a weight is negative"
        assert not self_loops or (np.diag(matrix) > 0).all(), f"round {step}: a node has no self-loop"


def check_sums(graph: Graph) -> None:
    """Rows or columns of every W_t sum to 1 as ``stochasticity`` declares, and ``directed`` tells the truth."""
    for step in rounds_of(graph):
        matrix = graph.edges(step).to_matrix(graph.num_nodes)
        for axis, kind, name in ((1, "row", "rows"), (0, "column", "columns")):
            if graph.stochasticity in ("double", kind):
                error = np.abs(matrix.sum(axis=axis) - 1).max()
                assert error <= 1e-12, f"round {step}: the sums of {name} are off by {error:.2g}"
        if not graph.directed:
            assert ((matrix != 0) == (matrix != 0).T).all(), (
                f"round {step}: an edge has no counterpart, and directed is False"
            )
            symmetric = graph.stochasticity != "double" or is_symmetric(graph.edges(step))
            assert symmetric, f"round {step}: doubly stochastic weights are not symmetric, and directed is False"
    check_stochastic(graph)


def check_entries(graph: Graph) -> None:
    """The entries are sorted by (target, source), distinct, in range, int64 and float64, and read-only."""
    for step in rounds_of(graph):
        edges = graph.edges(step)
        arrays = (edges.source, edges.target, edges.weight)
        assert [array.dtype for array in arrays] == [np.int64, np.int64, np.float64], f"round {step}: wrong dtypes"
        assert len({array.shape for array in arrays}) == 1, f"round {step}: arrays of different lengths"
        codes = edges.target * graph.num_nodes + edges.source
        assert (np.diff(codes) > 0).all(), f"round {step}: entries are not sorted by (target, source), or repeat"
        for ends in (edges.source, edges.target):
            assert ends.min() >= 0, f"round {step}: a node below 0"
            assert ends.max() < graph.num_nodes, f"round {step}: a node that does not exist"
        assert not any(array.flags.writeable for array in arrays), f"round {step}: arrays can be written to"


def check_purity(graph: Graph) -> None:
    """``edges`` depends on the step alone, not on the order of calls, and repeats after ``period`` rounds."""
    forward, backward = deepcopy(graph), deepcopy(graph)
    steps = [0, 1, 2, 7, 1000]
    with global_generators_unmoved():
        first = {step: forward.edges(step) for step in steps}
        for step in reversed(steps):
            again = backward.edges(step)
            for name in ("source", "target", "weight"):
                equal = np.array_equal(getattr(again, name), getattr(first[step], name))
                assert equal, f"round {step}: {name} depends on which rounds were asked for before"
            if forward.period is not None:
                assert forward.edges(step + forward.period) is first[step], f"round {step} is built anew every period"


def check_connection(graph: Graph) -> None:
    """The edges of a period together connect all nodes in both directions, unless ``mixes`` is False."""
    union = nx.DiGraph()
    union.add_nodes_from(range(graph.num_nodes))
    for step in rounds_of(graph):
        edges = graph.edges(step)
        union.add_edges_from(zip(edges.source.tolist(), edges.target.tolist(), strict=True))
    connected = nx.is_strongly_connected(union)
    assert connected == (graph.mixes or graph.num_nodes == 1), f"mixes={graph.mixes}, but connected: {connected}"
    check_mixes(graph)


GRAPH_CHECKS: tuple[Callable[[Graph], None], ...] = (check_entries, check_sums, check_purity, check_connection)
"""All but the signs of the weights, about which schedules differ."""


def rounds_of(graph: Graph) -> range:
    """The rounds that are looked at: a period, or some of a schedule that never repeats."""
    return range(graph.period or NUM_ROUNDS)
