"""Naive compression against dense NumPy, and what it costs: an error that stays."""

import numpy as np
import pytest

from tests.algorithms.shared_quadratic import NUM_NODES, Instance, farthest, mixing, outer, run, simulation, start

PENALTY, K, CONSENSUS, LR = 100.0, 15, 0.05, 0.01

pytestmark = pytest.mark.usefixtures("one_thread")


def top_k(rows):
    kept = np.argsort(-np.abs(rows), axis=1)[:, :4]
    out = np.zeros_like(rows)
    np.put_along_axis(out, kept, np.take_along_axis(rows, kept, axis=1).astype(np.float32), axis=1)
    return out


def naive(instance, W, num_steps, feedback):
    x, y = start()
    v = {key: y.copy() for key in ("y", "z", "sy", "sz")}
    e = {key: y.copy() for key in v}
    G = {"y": y.copy(), "z": y.copy()}
    identity, t = np.eye(NUM_NODES), 0

    def gradient(solver):
        inner = instance.inner_y(x, v[solver])
        return inner + instance.outer_y(v["y"]) / PENALTY if solver == "y" else inner

    def solve():
        nonlocal t
        for solver in "yz":
            new = gradient(solver)
            v[f"s{solver}"], G[solver] = v[f"s{solver}"] + new - G[solver], new
        for _ in range(K):
            pull, s = {}, {key: v[f"s{key}"] for key in "yz"}
            for key in v:
                message = top_k(v[key] + e[key])
                if feedback:
                    e[key] = v[key] + e[key] - message
                pull[key] = (W(t) - identity) @ message
            for solver in "yz":
                v[solver] = v[solver] + CONSENSUS * pull[solver] - LR * s[solver]
                new = gradient(solver)
                v[f"s{solver}"] = s[solver] + CONSENSUS * pull[f"s{solver}"] + new - G[solver]
                G[solver] = new
            t += 1
        return instance.surrogate(x, v["y"], v["z"], PENALTY)

    u = tracker = solve()
    for _ in range(num_steps):
        step = 0.2 * identity + 0.8 * W(t)
        t += 1
        x = step @ x - 0.1 * tracker
        new = solve()
        tracker, u = step @ tracker + new - u, new
    return x, v["y"]


@pytest.mark.parametrize("feedback", [True, False])
def test_first_steps(feedback):
    settings = {"inner_consensus_lr": CONSENSUS, "inner_lr": LR, "error_feedback": feedback}
    state, made = run("c2dfb_naive", 5, compressor="top_k", check_invariants=True, **settings)
    x, y = naive(Instance(), mixing(made), 5, feedback)
    np.testing.assert_allclose(outer(state, made), x, rtol=0, atol=1e-9)
    np.testing.assert_allclose(made.estimate(state).numpy(), y, rtol=0, atol=1e-9)


@pytest.mark.slow
def test_an_error_stays_and_is_smaller_for_smaller_steps():
    """Residuals end at 1e-10 after as many steps; four levels let quantization end soon."""
    target, levels = Instance().x_penalty(PENALTY), []
    for consensus_lr, lr in ((0.03, 0.01), (0.01, 0.003)):
        made = simulation("c2dfb_naive", compressor="qsgd", inner_consensus_lr=consensus_lr, inner_lr=lr)
        state, late = made.init(), []
        for step in range(500):
            state = made.algorithm.step(state, step, made.problem, made.network)
            if step >= 350:
                late.append(farthest(state, made, target))
        levels.append(np.mean(late))
    assert levels[1] > 0.02
    assert levels[1] < 0.8 * levels[0]


def test_sends_what_c2dfb_sends():
    ledgers = [run(name, 3, compressor="top_k")[1].network.ledger for name in ("c2dfb", "c2dfb_naive")]
    assert ledgers[0].phases == ledgers[1].phases
    assert ledgers[0].bytes > 0
