"""Softmax regression on small data sets of unequal sizes, with gradients written in NumPy apart from the simulator."""

import numpy as np
import torch

from simulator.graphs.base import Graph
from simulator.network.network import Network
from simulator.placement import Placement
from simulator.testing.dealt_data import NUM_CLASSES, NUM_FEATURES, Dealt, Fixed
from tests.problems.conftest import build

# Training, validation and test samples; with batches of 4 an epoch has 2, 3, 1 and 5 of them.
SIZES = ((7, 5, 4), (12, 2, 2), (3, 4, 1), (20, 6, 3))
NUM_NODES = len(SIZES)
TRAIN_SIZES = np.array([sizes[0] for sizes in SIZES])
DECAY = 0.3


def make_problem(kind="classification", **changes):
    return build(kind, sizes=SIZES, hidden=(), **{"weight_decay": DECAY, **changes})


def run(algorithm, problem, graph: Graph, num_steps):
    network = Network(graph, Placement(graph.num_nodes), torch.device("cpu"))
    state = algorithm.init(problem, network)
    for step in range(num_steps):
        state = algorithm.step(state, step, problem, network)
    return state, network


class Regression:
    """Node data, minibatches and gradients of a problem made by :func:`make_problem`."""

    def __init__(self, problem):
        self.problem = problem
        dealt = Dealt(SIZES)
        samples = Fixed(dealt.num_samples).samples
        self.inputs, self.labels = samples.inputs.numpy(), samples.labels.numpy()
        self.rows = [node.train for node in dealt.nodes]
        self.start = problem.init_params().numpy()[0].copy()

    def epoch(self, node, index):
        """The minibatches of a node's epoch as positions among its samples; one step at a time."""
        length = -(-len(self.rows[node]) // 4)
        for step in range(index * length, (index + 1) * length):
            yield self.problem.batch(step)[node]

    def probabilities(self, node, row, positions):
        x = self.inputs[self.rows[node][positions]]
        split = NUM_CLASSES * NUM_FEATURES
        logits = x @ row[:split].reshape(NUM_CLASSES, NUM_FEATURES).T + row[split:]
        exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
        return exponentials / exponentials.sum(axis=1, keepdims=True)

    def likelihood(self, node, row, positions):
        """Probability of each sample's label."""
        labels = self.labels[self.rows[node][positions]]
        return self.probabilities(node, row, positions)[np.arange(len(labels)), labels]

    def gradient(self, node, row, positions, weights=None):
        """Of the mean loss, each sample weighted, and DECAY / 2 ||row||^2."""
        x, labels = self.inputs[self.rows[node][positions]], self.labels[self.rows[node][positions]]
        delta = self.probabilities(node, row, positions) - np.eye(NUM_CLASSES)[labels]
        delta /= len(positions)
        if weights is not None:
            delta = delta * np.asarray(weights)[:, None]
        return np.concatenate([(delta.T @ x).ravel(), delta.sum(axis=0)]) + DECAY * row
