"""Asynchronous algorithms as plain event loops in NumPy: one event after the other, dense matrices, float64."""

import numpy as np

from simulator import randomness
from tests.timing.event_loops import asynchronous


class Objectives:
    """The quadratics of problem=quadratic, by node."""

    def __init__(self, problem, seed=0):
        self.hessian, self.linear = problem.hessian.numpy(), problem.linear.numpy()
        self.noise, self.seed = problem.noise, seed

    def gradient(self, i, x, k):
        drawn = randomness.uniforms(self.seed, "gradient_noise", np.array([i]), k, x.size)[0]
        return self.hessian[i] @ x - self.linear[i] + (drawn - 0.5) * 12**0.5 * self.noise


def pairs_of(graph):
    def edges_of(r):
        edges = graph.edges(r)
        return [(j, i) for j, i in zip(edges.source.tolist(), edges.target.tolist(), strict=True) if i != j]

    return edges_of


def push_sum(timing, graph, objectives, num_events, num_bytes, lr, scales):
    """Rows and weights as the nodes sent them last, times, and staleness of everything that was taken in."""
    num_nodes, dim = objectives.linear.shape
    x, w = np.zeros((num_nodes, dim)), np.ones(num_nodes)
    kept = np.ones(num_nodes)
    mail, now, ages = {}, np.zeros(num_nodes), []
    for i, k, end, taken, own_ages in asynchronous(timing, pairs_of(graph), num_bytes, num_events, "start"):
        x[i], w[i] = kept[i] * x[i], kept[i] * w[i]
        for j, step, _, _ in taken:
            share, weight = mail.pop((j, step, i))
            x[i], w[i] = x[i] + share, w[i] + weight
        x[i] = x[i] - lr * scales[i] * objectives.gradient(i, x[i] / w[i], k)
        matrix = graph.edges(k).to_matrix(num_nodes)
        for j in np.flatnonzero(matrix[:, i]):
            if j != i:
                mail[i, k, j] = (matrix[j, i] * x[i], matrix[j, i] * w[i])
        kept[i] = matrix[i, i]
        now[i] = end
        ages += own_ages
    assert abs(kept @ w + sum(weight for _, weight in mail.values()) - num_nodes) < 1e-9
    return x, w, now, ages
