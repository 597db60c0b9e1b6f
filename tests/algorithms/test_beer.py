"""BEER against NumPy that keeps every copy; its tracker; the optimum that it reaches and CHOCO-SGD does not."""

import numpy as np
import pytest
import torch

from simulator.algorithms.compressed.beer import BEER
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
    minimiser,
    quadratic,
    run,
)
from tests.algorithms.test_choco import GRAPHS, choco

NUM_STEPS = 10
COMPRESSORS = ("top_k", "random_k", "qsgd", "sign")

pytestmark = pytest.mark.usefixtures("one_thread")


def beer(compressor="top_k", **changes):
    settings = {"lr": 0.1, "lr_schedule": Constant(), "seed": 0, "consensus_lr": None}
    return BEER(**{**settings, "compressor": load("compressor", compressor), **changes})


@pytest.mark.parametrize("graph", GRAPHS)
@pytest.mark.parametrize("coder", ["top_k", "sign"])
def test_beer(graph, coder):
    problem, schedule = quadratic(), load("graph", graph, **GRAPHS[graph])
    algorithm = beer(coder, lr_schedule=InverseRoot(), consensus_lr=0.25)
    state, network = run(algorithm, problem, schedule, NUM_STEPS)
    gradient, nothing = gradient_of(problem), np.zeros((NUM_NODES, DIM))
    of_x, of_v = Copies(CODERS[coder], nothing), Copies(CODERS[coder], nothing)
    x, pull_x, pull_v = nothing, nothing, nothing
    g = v = gradient(x)
    for t, W in enumerate(matrices(schedule, NUM_STEPS)):
        x = x + 0.25 * pull_x - 0.1 / (t + 1) ** 0.5 * v
        g_before, g = g, gradient(x)
        v = v + 0.25 * pull_v + g - g_before
        pull_x, pull_v = of_x.send(W, x), of_v.send(W, v)
    np.testing.assert_allclose(state["params"].numpy(), x, rtol=0, atol=1e-10)
    np.testing.assert_allclose(state["tracker"].numpy(), v, rtol=0, atol=1e-10)
    assert_bytes(network, NUM_STEPS, 2 * algorithm.compressor.payload_bytes(DIM, torch.float64))


@pytest.mark.parametrize("graph", GRAPHS)
@pytest.mark.parametrize("compressor", COMPRESSORS)
def test_trackers_average_to_the_gradients_whatever_noise_and_compressor(compressor, graph):
    problem, spread = quadratic(noise=0.5), []

    def look(state, done):
        latest = problem.grad(state["params"], problem.init_hparams(), done)
        torch.testing.assert_close(state["tracker"].mean(0), latest.mean(0), rtol=0, atol=1e-12)
        spread.append(float((state["tracker"] - latest).abs().max()))

    run(beer(compressor), problem, load("graph", graph, **GRAPHS[graph]), 30, after=look)
    assert spread[-1] > 1e-2


@pytest.mark.parametrize("compressor", COMPRESSORS)
def test_a_constant_rate_reaches_the_minimiser_of_unlike_quadratics(compressor):
    """CHOCO-SGD with the same rate, step and compressor stays away from it."""
    problem = quadratic()
    optimum = minimiser(problem)
    errors = {}
    for algorithm in (beer(compressor, lr=0.01), choco(compressor, lr=0.01)):
        state, _ = run(algorithm, problem, load("graph", "erdos_renyi"), 1200)
        errors[type(algorithm).__name__] = float((state["params"] - optimum).norm(dim=1).max())
    assert errors["BEER"] < 1e-6
    assert errors["ChocoSGD"] > 0.05


@pytest.mark.parametrize("graph", ["random_undirected", "random_matching"])
def test_on_schedules_that_change(graph):
    problem = quadratic()
    state, _ = run(beer(lr=0.02), problem, load("graph", graph, **GRAPHS.get(graph, {})), 600)
    torch.testing.assert_close(state["params"], minimiser(problem).expand_as(state["params"]), rtol=0, atol=1e-5)


def test_beer_refuses():
    with pytest.raises(ValueError, match=r"algorithm\.lr=-1: expected a positive"):
        beer(lr=-1)
    with pytest.raises(ValueError, match=r"algorithm\.consensus_lr=2: expected"):
        beer(consensus_lr=2)
    with pytest.raises(ValueError, match="algorithm=beer needs symmetric weights, and graph OnePeerExponential"):
        check_weights(beer(), load("graph", "one_peer_exponential"))
