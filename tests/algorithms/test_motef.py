"""MoTEF against NumPy that keeps every copy; its tracker; what it is without averaging; what averaging is for."""

import numpy as np
import pytest
import torch

from simulator.algorithms.compressed.motef import MoTEF
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
from tests.algorithms.test_beer import beer
from tests.algorithms.test_choco import GRAPHS

NUM_STEPS = 10

pytestmark = pytest.mark.usefixtures("one_thread")


def motef(compressor="top_k", **changes):
    settings = {"lr": 0.1, "lr_schedule": Constant(), "seed": 0, "consensus_lr": None, "averaging": 0.3}
    return MoTEF(**{**settings, "compressor": load("compressor", compressor), **changes})


@pytest.mark.parametrize("graph", GRAPHS)
@pytest.mark.parametrize("coder", ["top_k", "sign"])
def test_motef(graph, coder):
    problem, schedule = quadratic(), load("graph", graph, **GRAPHS[graph])
    algorithm = motef(coder, lr_schedule=InverseRoot(), consensus_lr=0.25)
    state, network = run(algorithm, problem, schedule, NUM_STEPS)
    gradient, nothing = gradient_of(problem), np.zeros((NUM_NODES, DIM))
    of_x, of_v = Copies(CODERS[coder], nothing), Copies(CODERS[coder], nothing)
    x, pull_x, pull_v = nothing, nothing, nothing
    m = v = gradient(x)
    for t, W in enumerate(matrices(schedule, NUM_STEPS)):
        x = x + 0.25 * pull_x - 0.1 / (t + 1) ** 0.5 * v
        m_before, m = m, 0.7 * m + 0.3 * gradient(x)
        v = v + 0.25 * pull_v + m - m_before
        pull_x, pull_v = of_x.send(W, x), of_v.send(W, v)
    for key, expected in (("params", x), ("tracker", v), ("momentum", m)):
        np.testing.assert_allclose(state[key].numpy(), expected, rtol=0, atol=1e-10)
    assert_bytes(network, NUM_STEPS, 2 * algorithm.compressor.payload_bytes(DIM, torch.float64))


@pytest.mark.parametrize("compressor", ["top_k", "random_k"])
def test_trackers_average_to_the_momenta_whatever_noise_and_compressor(compressor):
    problem, spread = quadratic(noise=0.5), []

    def look(state, done):
        torch.testing.assert_close(state["tracker"].mean(0), state["momentum"].mean(0), rtol=0, atol=1e-12)
        spread.append(float((state["tracker"] - state["momentum"]).abs().max()))

    run(motef(compressor), problem, load("graph", "erdos_renyi"), 30, after=look)
    assert spread[-1] > 1e-2


def test_with_no_averaging_it_is_beer():
    schedule = load("graph", "erdos_renyi")
    found, _ = run(motef(averaging=1.0), quadratic(noise=0.5), schedule, 30)
    expected, _ = run(beer(), quadratic(noise=0.5), schedule, 30)
    for name in ("params", "tracker"):
        torch.testing.assert_close(found[name], expected[name], rtol=0, atol=1e-12)


def test_a_constant_rate_reaches_the_minimiser_of_unlike_quadratics():
    problem = quadratic()
    state, _ = run(motef(lr=0.01), problem, load("graph", "erdos_renyi"), 1500)
    torch.testing.assert_close(state["params"], minimiser(problem).expand_as(state["params"]), rtol=0, atol=1e-5)


def test_averaging_takes_noise_out_of_the_trackers():
    """What it is for: with noisy gradients the models agree better and stay closer than BEER's at the same rate."""
    problem, errors = quadratic(noise=3.0), []
    for algorithm in (motef(lr=0.02, averaging=0.1), beer(lr=0.02)):
        found = []
        run(
            *(algorithm, problem, load("graph", "erdos_renyi"), 600),
            after=lambda state, done, found=found: found.append(
                float((state["params"] - minimiser(problem)).square().sum(dim=1).mean())
            ),
        )
        errors.append(np.mean(found[300:]))
    assert errors[0] < 0.8 * errors[1]


def test_motef_refuses():
    for averaging in (0.0, 1.1):
        with pytest.raises(ValueError, match=r"algorithm\.averaging=.*expected a number in \(0, 1\]"):
            motef(averaging=averaging)
    with pytest.raises(ValueError, match=r"algorithm\.lr=-1: expected a positive"):
        motef(lr=-1)
    with pytest.raises(ValueError, match="algorithm=motef needs symmetric weights, and graph OnePeerExponential"):
        check_weights(motef(), load("graph", "one_peer_exponential"))
