"""Schedules given by their matrices, and the ten topologies of "Beyond spectral gap" written down with networkx."""

import networkx as nx
import numpy as np

from simulator.graphs.base import Edges, Graph, PeriodicGraph


class Matrices(PeriodicGraph):
    """A schedule given by the matrices of its period."""

    directed = True

    def __init__(self, *matrices, stochasticity="double"):
        super().__init__(num_nodes=len(matrices[0]))
        self.matrices = [np.asarray(matrix, dtype=float) for matrix in matrices]
        self._stochasticity = stochasticity

    @property
    def stochasticity(self):
        return self._stochasticity

    @property
    def period(self):
        return len(self.matrices)

    def build(self, phase):
        return Edges.from_matrix(self.matrices[phase])


class Drawn(Graph):
    """A random schedule: ``draw(rng)`` gives the matrix of a round."""

    directed = True
    stochasticity = "double"
    period = None

    def __init__(self, num_nodes, draw, seed=0):
        super().__init__(num_nodes=num_nodes, seed=seed)
        self.draw = draw

    def edges(self, step):
        return Edges.from_matrix(self.draw(np.random.Generator(np.random.Philox(key=[self.seed, step]))))


def doubly_stochastic(num_nodes, seed):
    """A mean of permutation matrices, neither symmetric nor circulant."""
    rng = np.random.default_rng(seed)
    shares = rng.dirichlet(np.ones(4))
    return sum(share * np.eye(num_nodes)[rng.permutation(num_nodes)] for share in shares) / 2 + np.eye(num_nodes) / 2


def column_stochastic(num_nodes, seed):
    matrix = np.random.default_rng(seed).uniform(0.1, 1, (num_nodes, num_nodes)) ** 3
    return matrix / matrix.sum(axis=0)


def metropolis(graph: nx.Graph) -> np.ndarray:
    """Metropolis-Hastings weights, nodes in networkx's order."""
    number = {node: index for index, node in enumerate(graph)}
    matrix = np.zeros((len(number), len(number)))
    for a, b in graph.edges:
        matrix[number[a], number[b]] = matrix[number[b], number[a]] = 1 / (1 + max(graph.degree[a], graph.degree[b]))
    return matrix + np.diag(1 - matrix.sum(axis=1))


def ten_topologies(num_nodes=32) -> dict[str, Matrices]:
    """As the paper's experiments have them, its torus twisted."""
    n = num_nodes
    tree = nx.Graph((k, k // 2) for k in range(1, n))
    cliques = nx.disjoint_union(nx.complete_graph(n // 2), nx.complete_graph(n - n // 2))
    cliques.add_edge(0, n // 2)
    exponential = [(np.eye(n) + np.roll(np.eye(n), 2**k, axis=1)) / 2 for k in range((n - 1).bit_length())]
    static = {
        "solo": nx.empty_graph(n),
        "star": nx.star_graph(n - 1),
        "binary tree": tree,
        "ring": nx.cycle_graph(n),
        "social network": nx.davis_southern_women_graph(),
        "two cliques": cliques,
        "torus": nx.circulant_graph(n, [1, n // 4]),
        "hypercube": nx.hypercube_graph(n.bit_length() - 1),
        "complete": nx.complete_graph(n),
    }
    schedules = {name: Matrices(metropolis(graph)) for name, graph in static.items()}
    return {**schedules, "one-peer exponential": Matrices(*exponential)}
