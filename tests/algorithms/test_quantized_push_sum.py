"""Quantized push-sum against NumPy that keeps every copy; what it is without compression; where it ends."""

import numpy as np
import pytest
import torch

from simulator.algorithms.compressed.quantized_push_sum import QuantizedPushSum
from simulator.algorithms.gossip.sgp import SGP
from simulator.graphs.base import Edges, PeriodicGraph
from simulator.graphs.support import directed_support
from simulator.graphs.weights import out_degree
from simulator.schedules import Constant, InverseRoot
from tests.algorithms.explicit_copies import (
    CODERS,
    DIM,
    NUM_NODES,
    Copies,
    assert_bytes,
    gradient_of,
    idle,
    load,
    matrices,
    minimiser,
    quadratic,
    random_rows,
    run,
)

NUM_STEPS = 10


class Lopsided(PeriodicGraph):
    """A directed ring with two chords, whose nodes end with unlike push-sum weights."""

    directed, stochasticity = True, "column"

    def build(self, phase):
        nodes = np.arange(NUM_NODES)
        support = directed_support(np.append(nodes, [0, 0]), np.append((nodes + 1) % NUM_NODES, [3, 5]), NUM_NODES)
        return Edges.build(*support, out_degree(*support, NUM_NODES))


GRAPHS = {
    "lopsided": Lopsided(num_nodes=NUM_NODES),
    "directed_ring": load("graph", "directed_ring"),
    "random_directed": load("graph", "random_directed", rate_low=0.2, rate_high=0.5),
    "one_peer_exponential": load("graph", "one_peer_exponential"),
}

pytestmark = pytest.mark.usefixtures("one_thread")


def push(compressor="top_k", **changes):
    settings = {"lr": 0.1, "lr_schedule": Constant(), "seed": 0, "consensus_lr": None}
    return QuantizedPushSum(**{**settings, "compressor": load("compressor", compressor), **changes})


@pytest.mark.parametrize("graph", GRAPHS)
@pytest.mark.parametrize("coder", ["top_k", "sign"])
def test_quantized_push_sum(graph, coder):
    problem, schedule = quadratic(), GRAPHS[graph]
    algorithm = push(coder, lr_schedule=InverseRoot(), consensus_lr=0.25)
    state, network = run(algorithm, problem, schedule, NUM_STEPS, start=random_rows())
    gradient, copies = gradient_of(problem), Copies(CODERS[coder], np.zeros((NUM_NODES, DIM)))
    x, w = random_rows().numpy(), np.ones(NUM_NODES)
    for t, P in enumerate(matrices(schedule, NUM_STEPS)):
        x = x - 0.1 / (t + 1) ** 0.5 * gradient(x / w[:, None])
        pull = copies.send(P, x) if schedule.period == 1 else copies.send(P, x / w[:, None], w)
        x, w = x + 0.25 * pull, w + 0.25 * (P @ w - w)
    np.testing.assert_allclose(state["params"].numpy(), x, rtol=0, atol=1e-10)
    np.testing.assert_allclose(state["push_sum_weight"].numpy(), w, rtol=0, atol=1e-12)
    assert_bytes(network, NUM_STEPS, algorithm.compressor.payload_bytes(DIM, torch.float64) + 8)


@pytest.mark.parametrize("graph", GRAPHS)
def test_without_compression_it_is_sgp(graph):
    problem, schedule = quadratic(noise=0.1), GRAPHS[graph]
    settings = {"lr": 0.1, "lr_schedule": Constant()}
    plain, _ = run(SGP(**settings, order="adapt_then_mix"), problem, schedule, 30)
    coded, _ = run(push("identity", consensus_lr=1.0, **settings), problem, schedule, 30)
    for key, rows in plain.items():
        torch.testing.assert_close(coded[key], rows, rtol=0, atol=1e-12)


@pytest.mark.parametrize("graph", GRAPHS)
def test_nodes_that_agree_come_back_to_what_they_agreed_on(graph):
    """On static graphs with unlike weights compression takes them away for a while; elsewhere they never leave."""
    problem, schedule, row = idle(), GRAPHS[graph], random_rows(1)
    problem.init_params = lambda: row.repeat(NUM_NODES, 1)
    algorithm, seen = push(), []
    run(algorithm, problem, schedule, 600, after=lambda s, _: seen.append((algorithm.estimate(s) - row).abs().max()))
    assert (max(seen) > 1e-3) == (graph == "lopsided")
    assert seen[-1] < 1e-3 * max(seen) + 1e-12


@pytest.mark.parametrize("graph", GRAPHS)
@pytest.mark.parametrize("compressor", ["top_k", "qsgd"])
def test_a_decaying_rate_reaches_the_minimiser(graph, compressor):
    problem = quadratic(condition=2.0)
    algorithm = push(compressor, lr_schedule=InverseRoot())
    state, _ = run(algorithm, problem, GRAPHS[graph], 1000)
    errors = (algorithm.estimate(state) - minimiser(problem)).norm(dim=1) / problem.linear.std(dim=0).norm()
    assert errors.max() < 0.15


def test_quantized_push_sum_refuses():
    with pytest.raises(ValueError, match=r"algorithm\.lr=0: expected a positive"):
        push(lr=0)
    with pytest.raises(ValueError, match=r"algorithm\.consensus_lr=1\.1: expected a number in \(0, 1\], or null"):
        push(consensus_lr=1.1)
