"""CHOCO-SGD against NumPy that keeps every copy; its consensus step; what it is without compression."""

import numpy as np
import pytest
import torch

from simulator.algorithms.compressed.choco import ChocoSGD
from simulator.algorithms.compressed.consensus_lr import consensus_lr
from simulator.algorithms.gossip.dsgd import DSGD
from simulator.algorithms.weights import check_weights
from simulator.schedules import Constant, InverseRoot
from tests.algorithms.explicit_copies import (
    CODERS,
    DIM,
    NUM_NODES,
    Copies,
    assert_bytes,
    gradient_of,
    load,
    matrices,
    quadratic,
    random_rows,
    run,
)

NUM_STEPS = 10
GRAPHS = {"star": {}, "random_undirected": {"weights": "metropolis", "rate_low": 0.2, "rate_high": 0.5}}

pytestmark = pytest.mark.usefixtures("one_thread")


def choco(compressor="top_k", **changes):
    settings = {"lr": 0.1, "lr_schedule": Constant(), "momentum": 0.0, "order": "adapt_then_combine", "seed": 0}
    if isinstance(compressor, str):
        compressor = load("compressor", compressor)
    return ChocoSGD(**{**settings, "compressor": compressor, "consensus_lr": None, **changes})


@pytest.mark.parametrize("graph", GRAPHS)
@pytest.mark.parametrize("coder", ["top_k", "sign"])
@pytest.mark.parametrize("order", ["adapt_then_combine", "combine_and_adapt"])
def test_choco(graph, coder, order):
    """With momentum and a decaying rate, from a start where nodes differ; references start at zero, where all began."""
    problem, schedule = quadratic(), load("graph", graph, **GRAPHS[graph])
    algorithm = choco(coder, momentum=0.8, order=order, lr_schedule=InverseRoot(), consensus_lr=0.25)
    state, network = run(algorithm, problem, schedule, NUM_STEPS, start=random_rows())
    gradient, copies = gradient_of(problem), Copies(CODERS[coder], np.zeros((NUM_NODES, DIM)))
    x, m = random_rows().numpy(), np.zeros((NUM_NODES, DIM))
    for t, W in enumerate(matrices(schedule, NUM_STEPS)):
        m = 0.8 * m + gradient(x)
        step = -0.1 / (t + 1) ** 0.5 * m
        before, after = (step, 0.0) if order == "adapt_then_combine" else (0.0, step)
        half = x + before
        x = half + 0.25 * copies.send(W, half) + after
    np.testing.assert_allclose(state["params"].numpy(), x, rtol=0, atol=1e-10)
    assert_bytes(network, NUM_STEPS, algorithm.compressor.payload_bytes(DIM, torch.float64))


@pytest.mark.parametrize("graph", GRAPHS)
def test_without_compression_it_is_dsgd(graph):
    problem, schedule = quadratic(noise=0.1), load("graph", graph, **GRAPHS[graph])
    settings = {"lr": 0.1, "lr_schedule": Constant(), "momentum": 0.5, "order": "adapt_then_combine"}
    settings |= {"local_steps": 2, "ema": 0.5}
    plain, _ = run(DSGD(**settings), problem, schedule, 30)
    coded, _ = run(choco("identity", consensus_lr=1.0, **settings), problem, schedule, 30)
    for key, rows in plain.items():
        torch.testing.assert_close(coded[key], rows, rtol=0, atol=1e-12)


def test_the_consensus_step():
    """Of the compressor, as set, and of theory: by hand for a ring of 8 with Metropolis weights 1/3."""
    ring, compressor = load("graph", "ring", num_nodes=8), load("compressor", "top_k", fraction=0.25)
    assert consensus_lr(None, compressor, ring, 100) == compressor.consensus_lr
    assert consensus_lr(0.7, compressor, ring, 100) == 0.7
    eigenvalues = 1 / 3 + 2 / 3 * np.cos(2 * np.pi * np.arange(8) / 8)
    rho, beta, delta = 1 - eigenvalues[1], (1 - eigenvalues).max(), 0.25
    expected = rho**2 * delta / (16 * rho + rho**2 + 4 * beta**2 + 2 * rho * beta**2 - 8 * rho * delta)
    assert abs(consensus_lr("theory", compressor, ring, 100) - expected) < 1e-12
    assert expected < 0.01


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lr": 0.0}, r"algorithm\.lr=0\.0: expected a positive"),
        ({"consensus_lr": 0.0}, r"algorithm\.consensus_lr=0\.0: expected a number in \(0, 1\], theory, or null"),
        ({"consensus_lr": 1.5}, r"algorithm\.consensus_lr=1\.5: expected"),
        ({"consensus_lr": "safe"}, r"algorithm\.consensus_lr=safe: expected"),
    ],
)
def test_choco_refuses(changes, message):
    with pytest.raises(ValueError, match=message):
        choco(**changes)


def test_choco_refuses_graphs():
    with pytest.raises(ValueError, match=r"algorithm=choco needs doubly stochastic weights, .*quantized_push_sum"):
        check_weights(choco(), load("graph", "random_directed"))
    with pytest.raises(ValueError, match="algorithm=choco needs symmetric weights, and graph Exponential is directed"):
        check_weights(choco(), load("graph", "exponential"))
    changing = load("graph", "random_undirected", **GRAPHS["random_undirected"])
    with pytest.raises(ValueError, match="consensus_lr=theory needs a static graph, and graph RandomUndirected"):
        choco(consensus_lr="theory").check_graph(changing)
    choco(consensus_lr="theory").check_graph(load("graph", "ring"))
