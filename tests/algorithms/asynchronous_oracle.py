"""Asynchronous algorithms as plain event loops in NumPy: one event after the other, dense matrices, float64."""

import heapq

import numpy as np

from simulator import randomness
from tests.timing.event_loops import asynchronous, fragments, meetings


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


def stale_gossip(timing, graph, objectives, num_events, num_bytes, lr, order):
    """Rows as the nodes sent them last."""
    num_nodes, dim = objectives.linear.shape
    matrix = graph.edges(0).to_matrix(num_nodes)
    x, sent = np.zeros((num_nodes, dim)), {}
    newest = np.zeros((num_nodes, num_nodes, dim))
    takes_in = "start" if order == "adapt_then_combine" else "end"
    for i, k, _, taken, _ in asynchronous(timing, pairs_of(graph), num_bytes, num_events, takes_in):
        for j, step, _, _ in sorted(taken, key=lambda letter: letter[1]):
            newest[i, j] = sent[j, step]
        newest[i, i] = x[i]
        mixed = matrix[i] @ newest[i]
        if order == "adapt_then_combine":
            x[i] = mixed - lr * objectives.gradient(i, mixed, k)
        else:
            x[i] = mixed - lr * objectives.gradient(i, x[i], k)
        sent[i, k] = x[i].copy()
    return x


def divshare(timing, messages_of, columns, objectives, num_events, lr, *, discards):
    """Rows as the nodes sent them last, and how many messages of 8 bytes a number were sent in events before the last.

    Args:
        messages_of: (fragment, target) pairs of an event.
        columns: of every fragment.
    """
    x, sent = np.zeros(objectives.linear.shape), {}
    events = fragments(timing, messages_of, lambda f: 8 * len(columns[f]), num_events, discards=discards)
    num_dropped, most = 0, 0
    for i, k, _, taken, dropped in events:
        newest = {}
        for j, step, f in taken:
            newest[f, j] = max(step, newest.get((f, j), 0))
        most = max(most, len(taken) - len(newest))
        mixed = x[i].copy()
        for c in range(x.shape[1]):
            came = [sent[j, step][c] for (f, j), step in newest.items() if c in columns[f]]
            mixed[c] = (x[i, c] + sum(came)) / (1 + len(came))
        x[i] = mixed - lr * objectives.gradient(i, mixed, k)
        sent[i, k] = x[i].copy()
        num_dropped += dropped
    return x, num_dropped, most


def adpsgd(timing, partner_of, exchange_s, objectives, num_events, lr):
    """Rows, and staleness of every meeting."""
    x, ages = np.zeros(objectives.linear.shape), []
    snapshot = x.copy()
    for i, k, _, j, age in meetings(timing, partner_of, exchange_s, num_events):
        gradient = objectives.gradient(i, snapshot[i], k)
        mean = (x[i] + x[j]) / 2
        x[i], x[j] = mean, mean
        x[i] = x[i] - lr * gradient
        snapshot[i] = x[i].copy()
        ages.append(age)
    return x, ages


def async_fedavg(timing, trip_s, objectives, num_events, *, lr, local_steps, mixing, decay, buffer_size):
    """The hub's model and the staleness of every answer; FedAsync where buffer_size is 0."""
    x, dim = np.zeros(objectives.linear.shape[1]), objectives.linear.shape[1]
    num_nodes = timing.num_nodes
    heap, held, version, ages = [], {}, 0, []
    buffer, in_buffer = np.zeros(dim), 0

    def begin(now, i, k):
        held[i] = (x.copy(), version)
        heapq.heappush(heap, (now + (timing.compute_s([i], [k], [now])[0] + trip_s(i)), i, k))

    for i in range(1, num_nodes):
        begin(0.0, i, 0)
    waiting = []
    for _ in range(num_events):
        now, i, k = heapq.heappop(heap)
        y, seen = held[i]
        u = y.copy()
        for local in range(local_steps):
            u = u - lr * objectives.gradient(i, u, k * local_steps + local)
        ages.append(version - seen)
        weight = mixing * (1 + ages[-1]) ** -decay
        if buffer_size == 0:
            x = (1 - weight) * x + weight * u
            version += 1
        else:
            buffer, in_buffer = buffer + weight * (u - y), in_buffer + 1
            if in_buffer == buffer_size:
                x, buffer, in_buffer = x + buffer / buffer_size, np.zeros(dim), 0
                version += 1
        waiting.append((i, k + 1))
        if not heap or heap[0][0] > now:  # all answers of this time are there
            for client, step in waiting:
                begin(now, client, step)
            waiting = []
    return x, ages
