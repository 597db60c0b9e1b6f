"""Compressed gossip without references: against NumPy, and the disagreement that it cannot get rid of."""

import numpy as np
import pytest
import torch

from simulator.algorithms.compressed.compressed_gossip import CompressedGossip
from simulator.algorithms.gossip.dsgd import DSGD
from simulator.algorithms.weights import check_weights
from simulator.schedules import Constant
from tests.algorithms.explicit_copies import (
    CODERS,
    DIM,
    NUM_NODES,
    assert_bytes,
    gradient_of,
    idle,
    load,
    matrices,
    quadratic,
    random_rows,
    run,
)
from tests.algorithms.test_choco import GRAPHS, choco

NUM_STEPS = 10

pytestmark = pytest.mark.usefixtures("one_thread")


def gossip(compressor="top_k", **changes):
    settings = {"lr": 0.1, "lr_schedule": Constant(), "momentum": 0.0, "order": "adapt_then_combine", "seed": 0}
    if isinstance(compressor, str):
        compressor = load("compressor", compressor)
    settings |= {"consensus_lr": None, "error_feedback": True, "compressor": compressor}
    return CompressedGossip(**{**settings, **changes})


@pytest.mark.parametrize("graph", [*GRAPHS, "one_peer_exponential"])
@pytest.mark.parametrize("coder", ["top_k", "sign"])
@pytest.mark.parametrize("error_feedback", [False, True])
def test_compressed_gossip(graph, coder, error_feedback):
    problem, schedule = quadratic(), load("graph", graph, **GRAPHS.get(graph, {}))
    algorithm = gossip(coder, momentum=0.5, consensus_lr=0.25, error_feedback=error_feedback)
    state, network = run(algorithm, problem, schedule, NUM_STEPS, start=random_rows())
    gradient, x, m = gradient_of(problem), random_rows().numpy(), np.zeros((NUM_NODES, DIM))
    e = np.zeros_like(x)
    for W in matrices(schedule, NUM_STEPS):
        m = 0.5 * m + gradient(x)
        half = x - 0.1 * m
        sent = np.stack([CODERS[coder](row) for row in half + e])
        if error_feedback:
            e = half + e - sent
        x = half + 0.25 * (W @ sent - sent)
    np.testing.assert_allclose(state["params"].numpy(), x, rtol=0, atol=1e-10)
    assert ("compression_error" in state) == error_feedback
    assert_bytes(network, NUM_STEPS, algorithm.compressor.payload_bytes(DIM, torch.float64))


def test_without_compression_it_is_dsgd():
    problem, schedule = quadratic(noise=0.1), load("graph", "one_peer_exponential")
    settings = {"lr": 0.1, "lr_schedule": Constant(), "momentum": 0.5, "order": "combine_and_adapt"}
    plain, _ = run(DSGD(**settings), problem, schedule, 30)
    coded, _ = run(gossip("identity", consensus_lr=1.0, **settings), problem, schedule, 30)
    torch.testing.assert_close(coded["params"], plain["params"], rtol=0, atol=1e-12)


@pytest.mark.parametrize("compressor", ["top_k", "random_k", "qsgd", "sign"])
@pytest.mark.parametrize("error_feedback", [False, True])
def test_disagreement_stays_where_references_get_rid_of_it(compressor, error_feedback):
    """Nothing pulls. The mean stays; the nodes come no closer in the second half, while CHOCO's have agreed."""
    start, graph, halves = random_rows(), load("graph", "erdos_renyi"), {}
    for algorithm in (gossip(compressor, error_feedback=error_feedback), choco(compressor)):
        seen = []

        def look(state, done, seen=seen):
            torch.testing.assert_close(state["params"].mean(0), start.mean(0), rtol=0, atol=1e-11)
            seen.append(float((state["params"] - start.mean(0)).norm() / (start - start.mean(0)).norm()))

        run(algorithm, idle(), graph, 600, start=start, after=look)
        halves[type(algorithm).__name__] = min(seen[:300]), min(seen[300:])
    first, second = halves["CompressedGossip"]
    assert second > 0.7 * first
    assert second > 0.01
    assert halves["ChocoSGD"][1] < 1e-4


def test_compressed_gossip_refuses():
    with pytest.raises(ValueError, match=r"algorithm\.consensus_lr=0: expected"):
        gossip(consensus_lr=0)
    with pytest.raises(ValueError, match=r"compressed_gossip needs doubly stochastic .* use algorithm=quantized_push"):
        check_weights(gossip(), load("graph", "random_directed"))
