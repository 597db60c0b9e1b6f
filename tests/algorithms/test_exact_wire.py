"""compressor.wire_dtype=float64 in float64 runs: trajectories of exact programs, and as many rounds to a tolerance.

The exact programs never round to float32. Where the wire is float32, they are off by a float32's rounding.
"""

import numpy as np
import pytest
import torch

from simulator.algorithms.compressed.quantized_push_sum import QuantizedPushSum
from simulator.schedules import Constant
from simulator.simulation import Simulation
from tests.algorithms.explicit_copies import DIM, NUM_NODES, Copies, gradient_of, load, matrices, quadratic, run
from tests.algorithms.test_choco import choco
from tests.algorithms.test_compressed_gossip import gossip

NUM_STEPS = 400
GAMMA, LR = 0.2, 0.02

pytestmark = pytest.mark.usefixtures("one_thread")


def top_fifth(vector):
    kept = np.argsort(-np.abs(vector))[: max(1, round(0.2 * len(vector)))]
    out = np.zeros_like(vector)
    out[kept] = vector[kept]
    return out


def signs(vector):
    return np.where(vector < 0, -1.0, 1.0) * np.abs(vector).mean()


CODERS = {"top_k": top_fifth, "sign": signs}


def exact_choco(coder, problem, graph):
    """All iterates, [steps, M, D]."""
    gradient, copies = gradient_of(problem), Copies(CODERS[coder], np.zeros((NUM_NODES, DIM)))
    x, seen = np.zeros((NUM_NODES, DIM)), []
    for W in matrices(graph, NUM_STEPS):
        half = x - LR * gradient(x)
        x = half + GAMMA * copies.send(W, half)
        seen.append(x)
    return np.stack(seen)


def exact_push_sum(coder, problem, graph):
    gradient, copies = gradient_of(problem), Copies(CODERS[coder], np.zeros((NUM_NODES, DIM)))
    x, w, seen = np.zeros((NUM_NODES, DIM)), np.ones(NUM_NODES), []
    for P in matrices(graph, NUM_STEPS):
        x = x - LR * gradient(x / w[:, None])
        x, w = x + GAMMA * copies.send(P, x), w + GAMMA * (P @ w - w)
        seen.append(x)
    return np.stack(seen)


def found_by(algorithm, problem, graph):
    seen = []
    run(algorithm, problem, graph, NUM_STEPS, after=lambda state, _: seen.append(state["params"].numpy().copy()))
    return np.stack(seen)


def rounds_to(tolerance, trajectory):
    """Steps until the largest distance from the last iterate is within ``tolerance``."""
    distance = np.abs(trajectory - trajectory[-1]).max(axis=(1, 2))
    return int(np.flatnonzero(distance > tolerance)[-1]) + 1


@pytest.mark.parametrize("coder", CODERS)
@pytest.mark.parametrize("name", ["choco", "quantized_push_sum"])
def test_trajectories_are_those_of_an_exact_program(name, coder):
    problem = quadratic()
    if name == "choco":
        graph = load("graph", "ring")
        make = lambda compressor: choco(compressor, lr=LR, consensus_lr=GAMMA)  # noqa: E731
        expected = exact_choco(coder, problem, graph)
    else:
        graph = load("graph", "directed_ring")
        settings = {"lr": LR, "lr_schedule": Constant(), "seed": 0, "consensus_lr": GAMMA}
        make = lambda compressor: QuantizedPushSum(compressor=compressor, **settings)  # noqa: E731
        expected = exact_push_sum(coder, problem, graph)
    exact = found_by(make(load("compressor", coder, wire_dtype="float64")), problem, graph)
    np.testing.assert_allclose(exact, expected, rtol=0, atol=1e-12)
    rounds = [rounds_to(tolerance, expected) for tolerance in (1e-2, 1e-4, 1e-6)]
    assert [rounds_to(tolerance, exact) for tolerance in (1e-2, 1e-4, 1e-6)] == rounds
    assert rounds[0] < rounds[1] < rounds[2]
    narrow = found_by(make(load("compressor", coder)), problem, graph)
    assert np.abs(narrow - expected).max() > 1e-9


def test_a_wide_wire_is_counted_in_bytes():
    problem, graph, sent = quadratic(), load("graph", "ring"), {}
    for word in ("float32", "float64", None):
        algorithm = choco(load("compressor", "top_k", wire_dtype=word), lr=LR)
        _, network = run(algorithm, problem, graph, 3)
        sent[word] = network.ledger.bytes
    kept = max(1, round(0.2 * DIM))
    assert sent["float64"] == sent[None] == sent["float32"] + 3 * 2 * NUM_NODES * 4 * kept


UNBIASED = ("compressor=qsgd", "compressor.unbiased=true", "compressor.levels=1")


@pytest.mark.parametrize(
    "overrides",
    [
        ("algorithm=choco",),
        ("algorithm=beer",),
        ("algorithm=quantized_push_sum",),
        ("algorithm=compressed_gossip", "algorithm.error_feedback=true"),
        ("experiment=bilevel_quadratic", "algorithm=c2dfb"),
        ("experiment=bilevel_quadratic", "algorithm=c2dfb_naive", "algorithm.error_feedback=true"),
    ],
    ids=lambda overrides: "-".join(overrides[:2]),
)
def test_methods_that_need_a_contraction_refuse_a_compressor_that_is_none(composed, overrides):
    """In one line, when the state is made, that is before the first step."""
    further = () if overrides[0].startswith("experiment") else ("problem=quadratic", "problem.dim=20")
    settings = composed(*overrides, *UNBIASED, "graph=ring", "num_nodes=4", "device=cpu", *further)
    with pytest.raises(ValueError, match=r"^compressor: QSGD as set is no contraction on 20 columns .* needs one; "):
        Simulation.build(settings).init()
    Simulation.build({**settings, "compressor": {**settings["compressor"], "levels": 64}}).init()


def test_plain_gossip_takes_unbiased_compressors_of_any_error():
    """And the mean over nodes stays what it was, as without compression."""
    problem, graph = quadratic(), load("graph", "ring")
    compressor = load("compressor", "qsgd", levels=1, unbiased=True)
    assert compressor.contraction(DIM) < 0
    algorithm = gossip(compressor, error_feedback=False, consensus_lr=0.05, lr=1e-9)
    start = np.random.default_rng(0).standard_normal((NUM_NODES, DIM))
    state, _ = run(algorithm, problem, graph, 20, start=torch.from_numpy(start))
    np.testing.assert_allclose(state["params"].numpy().mean(axis=0), start.mean(axis=0), rtol=0, atol=1e-6)
