"""Checks of a graph schedule before the first step: can information reach every node, do the weights sum to 1."""

import numpy as np

from simulator.arrays import IntArray
from simulator.graphs.base import Graph
from simulator.graphs.support import count_components
from simulator.graphs.weights import SUM_TOLERANCE, stochasticity_of

_NUM_NAMED = 5


def check_mixes(graph: Graph, *, num_rounds: int = 100) -> None:
    """Checks that the edges of a period together connect every node to every other, in both directions.

    Edges of random schedules are collected over at most ``num_rounds`` rounds; collecting stops when they connect.
    Nothing is asked of graphs with ``mixes = False``. A graph that names what connects it is checked by that.

    Raises:
        ValueError: naming the number of strongly connected components and the nodes of the smallest.
    """
    if not graph.mixes:
        return
    if graph.connected_by is not None:
        check_mixes(graph.connected_by, num_rounds=num_rounds)
        return
    rounds = graph.period or num_rounds
    keys: IntArray = np.empty(0, dtype=np.int64)
    labels = np.arange(graph.num_nodes)
    count = graph.num_nodes
    for step in range(rounds):
        edges = graph.edges(step)
        used = edges.weight != 0
        keys = np.union1d(keys, edges.target[used] * graph.num_nodes + edges.source[used])
        target, source = np.divmod(keys, graph.num_nodes)
        count, labels = count_components((source, target), graph.num_nodes)
        if count == 1:
            return
    sizes = np.bincount(labels, minlength=count)
    cut_off = np.flatnonzero(labels == np.argmin(sizes))
    named = ", ".join(map(str, cut_off[:_NUM_NAMED])) + (", ..." if len(cut_off) > _NUM_NAMED else "")
    raise ValueError(
        f"graph {graph.description} cannot mix: over {rounds} round{'s' if rounds > 1 else ''} its edges leave "
        f"{count} strongly connected components of {graph.num_nodes} nodes (cut off, for example: node {named}); "
        "give it more edges, another seed, or use graph=self_loop for training without communication"
    )


def check_stochastic(graph: Graph, *, num_rounds: int = 3) -> None:
    """Checks that W_t is finite and sums to 1 as declared, in every round of a period or in ``num_rounds`` rounds.

    Raises:
        ValueError: naming the round and what is declared.
    """
    for step in range(graph.period or num_rounds):
        edges = graph.edges(step)
        found = stochasticity_of(edges.source, edges.target, edges.weight, graph.num_nodes)
        if found not in ("double", graph.stochasticity):
            raise ValueError(
                f"graph {graph.description} declares stochasticity {graph.stochasticity!r}, but in round {step} "
                f"{'neither rows nor columns' if found is None else f'only the {found}s'} of its mixing matrix sum "
                f"to 1 within {SUM_TOLERANCE}"
            )
