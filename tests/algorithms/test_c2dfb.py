"""C2DFB against a program that keeps every copy of every reference, and against the closed form of what it solves."""

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch

from simulator.algorithms.bilevel.c2dfb import C2DFB
from simulator.job import Job, run_job
from simulator.processes import World
from tests.algorithms.shared_quadratic import (
    CHECKSUMS,
    NUM_NODES,
    Instance,
    farthest,
    mixing,
    outer,
    run,
    simulation,
    start,
)
from tests.conftest import compose_settings

PENALTY, K, CONSENSUS, LR, OUTER_CONSENSUS, OUTER_LR = 100.0, 15, 0.2, 0.03, 0.8, 0.1
# float16 has no numbers below 6e-8, of which an error of 1e-6 would stay.
COMPRESSORS = ("identity", "top_k", "random_k", "qsgd", "sign", "cast compressor.dtype=bfloat16")

pytestmark = pytest.mark.usefixtures("one_thread")


def test_the_instance_is_the_documented_one():
    instance = Instance()
    for key, expected in CHECKSUMS.items():
        assert abs(getattr(instance, key).sum() - expected) < 1e-7, key
    assert abs(instance.A[0, 0, 0] - 2.8528457892) < 1e-9


def top_k(v):
    kept = sorted(range(len(v)), key=lambda j: (-abs(v[j]), j))[: round(0.2 * len(v))]
    out = np.zeros_like(v)
    out[kept] = v[kept].astype(np.float32)
    return out


def sign(v):
    return np.float32(np.abs(v).mean()) * np.where(v < 0, -1.0, 1.0)


CODERS = {"identity": np.copy, "top_k": top_k, "sign": sign}


class Link:
    """What the two ends of a directed link believe about the sender's vector."""

    def __init__(self, size):
        self.here, self.there = np.zeros(size), np.zeros(size)

    def carry(self, v, code):
        message = code(v - self.here)
        self.here += message
        self.there += message


def gossip(links, W, vectors, code):
    """Messages along the edges of a round; then sum_j w_ij (what i knows of j - what j knows of i), node by node."""
    n = len(vectors)
    pairs = [(j, i) for j in range(n) for i in range(n) if i != j and W[i, j] != 0]
    for j, i in pairs:
        links.setdefault((j, i), Link(vectors.shape[1])).carry(vectors[j], code)
    pulls = np.zeros_like(vectors)
    for j, i in pairs:
        pulls[i] += W[i, j] * (links[j, i].there - links[i, j].here)
    return pulls


def c2dfb(instance, W, code, num_steps):
    """x of all nodes after each step."""
    x, y = start()
    d, s, G = {}, {}, {}
    d["y"], d["z"] = y, y.copy()
    r = {
        "y": lambda x, v: instance.inner_y(x, v) + instance.outer_y(v) / PENALTY,
        "z": lambda x, v: instance.inner_y(x, v),
    }
    links = {(solver, kind): {} for solver in "yz" for kind in "ds"}
    pulls = {key: np.zeros_like(y) for key in links}
    t, history = 0, []

    def solve():
        nonlocal t
        for solver in "yz":
            G_new = r[solver](x, d[solver])
            s[solver] = s[solver] + G_new - G[solver] if solver in s else G_new
            G[solver] = G_new
        for _ in range(K):
            for solver in "yz":
                d[solver] = d[solver] + CONSENSUS * pulls[solver, "d"] - LR * s[solver]
                G_new = r[solver](x, d[solver])
                s[solver] = s[solver] + CONSENSUS * pulls[solver, "s"] + G_new - G[solver]
                G[solver] = G_new
                pulls[solver, "d"] = gossip(links[solver, "d"], W(t), d[solver], code)
                pulls[solver, "s"] = gossip(links[solver, "s"], W(t), s[solver], code)
            t += 1
        return instance.surrogate(x, d["y"], d["z"], PENALTY)

    u = tracker = solve()
    for _ in range(num_steps):
        step = np.eye(NUM_NODES) + OUTER_CONSENSUS * (W(t) - np.eye(NUM_NODES))
        t += 1
        x = step @ x - OUTER_LR * tracker
        u_new = solve()
        tracker, u = step @ tracker + u_new - u, u_new
        history.append(x)
        for link in (link for group in links.values() for link in group.values()):
            np.testing.assert_array_equal(link.here, link.there)
    return history


@pytest.mark.parametrize(
    ("graph", "compressor"),
    [
        ("ring", "identity"),
        ("ring", "top_k"),
        ("ring", "sign"),
        ("erdos_renyi", "top_k"),
        ("one_peer_hypercube", "top_k"),
        ("random_undirected graph.weights=metropolis", "sign"),
    ],
)
def test_first_steps(graph, compressor):
    graph, *further = graph.split()
    settings = {"graph": graph, "compressor": compressor, "inner_consensus_lr": CONSENSUS, "check_invariants": True}
    made = simulation("c2dfb", *further, **settings)
    expected = c2dfb(Instance(), mixing(made), CODERS[compressor], 5)
    assert np.abs(expected[-1] - expected[0]).max() > 0.1

    def look(state, done):
        np.testing.assert_allclose(outer(state, made), expected[done - 1], rtol=0, atol=1e-9)

    made.run(made.init(), 0, 5, look)


def reaches(graph, compressor, num_steps=260, **changes):
    """Within 1e-6 of the closed form; ``graph`` and ``compressor`` may be followed by their settings."""
    target = Instance().x_penalty(PENALTY)
    (graph, *further), (compressor, *more) = graph.split(), compressor.split()
    state, made = run("c2dfb", num_steps, *further, *more, graph=graph, compressor=compressor, **changes)
    assert np.linalg.norm(target) > 1
    assert farthest(state, made, target) < 1e-6


def test_reaches_the_penalty_solution():
    reaches("ring", "top_k")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("graph", "compressor"),
    [
        *(("two_hop_ring", compressor) for compressor in COMPRESSORS),
        *((graph, "top_k") for graph in ("ring", "erdos_renyi graph.seed=3")),
    ],
)
def test_reaches_the_penalty_solution_with_every_compressor(graph, compressor):
    reaches(graph, compressor)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("graph", "compressor"),
    [
        ("one_peer_hypercube", "top_k"),
        ("random_matching", "cast compressor.dtype=bfloat16"),
        ("random_undirected graph.weights=metropolis", "sign"),
    ],
)
def test_reaches_the_penalty_solution_on_graphs_that_change(graph, compressor):
    """References of links that are seldom there move seldom, so x and y have to move slowly."""
    reaches(graph, compressor, 240, inner_lr=0.02)


class Cold(C2DFB):
    """Starts its trackers anew whenever x has moved, which is wrong where nodes differ."""

    def _solve(self, state, call, rounds, problem, network):
        state["vectors"][:, 2:] = 0
        state = {**state, "gradients": torch.zeros_like(state["gradients"])}
        return super()._solve(state, call, rounds, problem, network)


def test_trackers_that_start_anew_stall():
    instance, made = Instance(), simulation("c2dfb", compressor="top_k", inner_lr=0.06)
    cold = Cold(**{entry.name: getattr(made.algorithm, entry.name) for entry in fields(made.algorithm)})
    state = cold.init(made.problem, made.network)
    for step in range(100):
        state = cold.step(state, step, made.problem, made.network)
    warm, _ = run("c2dfb", 100, compressor="top_k", inner_lr=0.06)
    norms = [np.linalg.norm(instance.penalty_gradient(outer(s, made).mean(0), PENALTY)) for s in (state, warm)]
    assert norms[0] > 1
    assert norms[1] < 0.01


def test_the_error_of_the_penalty_goes_with_its_inverse():
    target, penalties = Instance().x_star(), (10, 30, 100)
    errors = []
    for penalty in penalties:
        state, made = run("c2dfb", 150, graph="fully_connected", penalty=penalty, outer_lr=0.15)
        errors.append(farthest(state, made, target))
    slope = np.polyfit(np.log(penalties), np.log(errors), 1)[0]
    assert abs(slope + 1) < 0.05


def test_too_few_inner_steps_for_the_penalty_end_in_an_error(tmp_path):
    settings = ["algorithm.penalty=1000", "algorithm.inner_steps=5", "algorithm.inner_lr=0.06", "figures=false"]
    settings += ["num_steps=4000", "eval_every=100", "checkpoint.every=0", "num_threads=1", "device=cpu"]
    job = Job(compose_settings("experiment=bilevel_quadratic", *settings), str(tmp_path / "run"))
    with pytest.raises(FloatingPointError, match=r"NaN or infinity in .* after step"):
        run_job(job, World(), None)
    assert not (Path(job.folder) / "summary.json").exists()


def test_bytes():
    """Four compressed vectors per inner step, those of the setup too, and two of x as they are, over 16 links."""
    further = ("dtype=float32", "compressor.index_coding=int32")
    _, made = run("c2dfb", 7, *further, compressor="top_k")
    ledger = made.network.ledger
    one = 8 * 4
    assert ledger.phases["setup"].bytes == 16 * 4 * K * one
    assert ledger.phases["outer"].bytes == 16 * 7 * 2 * 4 * 6
    assert ledger.phases["inner"].bytes == 16 * 7 * 4 * K * one
    assert ledger.bytes == 251_136
    assert ledger.messages == 16 * (K + 7 * (K + 1))


@pytest.mark.parametrize(
    ("key", "value"),
    [("inner_consensus_lr", 0.0), ("outer_consensus_lr", 1.5), ("penalty", -1.0), ("inner_steps", 0)],
)
def test_refuses(key, value):
    with pytest.raises(ValueError, match=rf"algorithm\.{key}=.*expected"):
        simulation("c2dfb", **{key: value})
