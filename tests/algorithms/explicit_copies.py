"""What compressed gossip is tested against: NumPy that keeps every copy of every reference, at both ends of each link.

Shapes: M nodes, D columns.
"""

import numpy as np
import torch
from omegaconf import OmegaConf

from simulator.config.hydra_versions import instantiate
from simulator.network.network import Network
from simulator.placement import Placement
from simulator.problems.base import Setting
from simulator.problems.quadratic import Quadratic
from tests.algorithms.simulation import CONF

NUM_NODES, DIM = 7, 11
CPU = torch.device("cpu")


def load(group, name, num_nodes=NUM_NODES, **changes):
    """A graph or a compressor as its YAML has it, but for ``changes``."""
    settings = {**OmegaConf.to_container(OmegaConf.load(CONF / group / f"{name}.yaml")), **changes}
    return instantiate(OmegaConf.create({"num_nodes": num_nodes, "seed": 5, group: settings})[group])


def top_k(vector, fraction=0.2):
    """The largest fifth, in float32; ties do not happen here."""
    kept = np.argsort(-np.abs(vector))[: max(1, round(fraction * len(vector)))]
    out = np.zeros_like(vector)
    out[kept] = vector[kept].astype(np.float32)
    return out


def sign(vector):
    return np.where(vector < 0, -1.0, 1.0) * np.float32(np.abs(vector).mean())


def identity(vector):
    return vector.copy()


CODERS = {"top_k": top_k, "sign": sign, "identity": identity}


class Copies:
    """References that start at ``start`` [M, D]: ``own[i, j]`` is what i believes that j believes of i."""

    def __init__(self, code, start):
        self.code, self.num_nodes = code, len(start)
        self.own = {(i, j): start[i].copy() for i in range(len(start)) for j in range(len(start)) if i != j}
        self.there = {key: value.copy() for key, value in self.own.items()}

    def send(self, matrix, vectors, weights=None):
        """One round; returns what comes in less what goes out, [M, D]."""
        weights = np.ones(self.num_nodes) if weights is None else weights
        out = np.zeros_like(vectors)
        for i, j in self.own:
            if matrix[j, i] != 0:
                message = self.code(vectors[i] - self.own[i, j])
                self.own[i, j] += message
                self.there[i, j] += message
                out[j] += matrix[j, i] * weights[i] * self.there[i, j]
                out[i] -= matrix[j, i] * weights[i] * self.own[i, j]
        return out


def quadratic(noise=0.0, condition=3.0, num_nodes=NUM_NODES, dim=DIM):
    problem = Quadratic(
        dim=dim, num_hyperparameters=0, condition=condition, heterogeneity=1.0, noise=noise, outer_regularization=0.0
    )
    problem.setup(Setting(nodes=range(num_nodes), num_nodes=num_nodes, seed=2, dtype=torch.float64, device=CPU))
    return problem


def minimiser(problem):
    return torch.linalg.solve(problem.hessian.mean(dim=0), problem.linear.mean(dim=0))


def gradient_of(problem):
    hessian, linear = problem.hessian.numpy(), problem.linear.numpy()
    return lambda x: np.einsum("nij,nj->ni", hessian, x) - linear


def random_rows(num_nodes=NUM_NODES, dim=DIM, seed=1):
    return torch.randn(num_nodes, dim, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def run(algorithm, problem, graph, num_steps, start=None, after=lambda state, done: None):
    """The last state and the network; ``start`` [M, D] takes the place of the parameters that nodes agree on."""
    network = Network(graph, Placement(graph.num_nodes), CPU)
    state = algorithm.init(problem, network)
    if start is not None:
        state["params"] = start.clone()
    for step in range(num_steps):
        state = algorithm.step(state, step, problem, network)
        after(state, step + 1)
    return state, network


def matrices(graph, num_steps):
    return [graph.edges(t).to_matrix(graph.num_nodes) for t in range(num_steps)]


class Idle(Quadratic):
    """Nothing pulls, and all nodes start at zero."""

    def add_grad_(self, out, params, hparams, step, alpha):
        pass


def idle(num_nodes=NUM_NODES, dim=DIM):
    problem = Idle(
        dim=dim, num_hyperparameters=0, condition=1.0, heterogeneity=0.0, noise=0.0, outer_regularization=0.0
    )
    problem.setup(Setting(nodes=range(num_nodes), num_nodes=num_nodes, seed=2, dtype=torch.float64, device=CPU))
    return problem


def assert_bytes(network, num_rounds, message_bytes):
    """Every edge that the schedule had in a round carried one message of that size in it."""
    expected = {}
    for t in range(num_rounds):
        edges = network.graph.edges(t)
        for i, j in zip(edges.source.tolist(), edges.target.tolist(), strict=True):
            if i != j:
                expected[i, j] = expected.get((i, j), 0) + message_bytes
    found = {name: column.tolist() for name, column in network.ledger.per_edge().items()}
    links = zip(found["source"], found["target"], strict=True)
    assert dict(zip(links, found["bytes"], strict=True)) == expected
    assert network.ledger.bytes == sum(expected.values()) > 0
