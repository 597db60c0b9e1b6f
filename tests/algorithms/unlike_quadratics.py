"""Quadratics of unlike nodes in dense float64 NumPy, and runs of an algorithm on them without a configuration."""

import numpy as np
import torch

from simulator.network.network import Network
from simulator.placement import Placement
from simulator.problems.base import Setting
from simulator.problems.quadratic import Quadratic
from simulator.schedules import MultiStep

NUM_NODES, DIM, NUM_STEPS = 7, 4, 60
CPU = torch.device("cpu")
MILESTONES = MultiStep(milestones=[20, 40], decay=0.5)
RATES = [0.05 * 0.5 ** ((t >= 20) + (t >= 40)) for t in range(NUM_STEPS)]
"""Those of the rate 0.05 with ``MILESTONES``."""


def quadratic(noise=0.0, condition=3.0):
    problem = Quadratic(
        dim=DIM, num_hyperparameters=0, condition=condition, heterogeneity=1.0, noise=noise, outer_regularization=0.0
    )
    problem.setup(Setting(nodes=range(NUM_NODES), num_nodes=NUM_NODES, seed=2, dtype=torch.float64, device=CPU))
    return problem


def run(algorithm, problem, graph, num_steps, after=lambda state, done: None):
    return run_on(Network(graph, Placement(graph.num_nodes), CPU), algorithm, problem, num_steps, after)


def run_on(network, algorithm, problem, num_steps, after=lambda state, done: None):
    state = algorithm.init(problem, network)
    after(state, 0)
    for step in range(num_steps):
        state = algorithm.step(state, step, problem, network)
        after(state, step + 1)
    return state


def matrices(graph, num_steps=NUM_STEPS):
    return [graph.edges(t).to_matrix(graph.num_nodes) for t in range(num_steps)]


def gradient_of(problem):
    hessian, linear = problem.hessian.numpy(), problem.linear.numpy()
    return lambda x: np.einsum("nij,nj->ni", hessian, x) - linear


def minimiser_of(problem):
    return torch.linalg.solve(problem.hessian.mean(dim=0), problem.linear.mean(dim=0))
