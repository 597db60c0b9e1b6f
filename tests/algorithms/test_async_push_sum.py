"""Asynchronous gradient push: SGP where all nodes are equally fast, and a plain event loop where they are not."""

import json

import numpy as np
import pytest
import torch

from simulator import config
from simulator.checkpoint import without_free_mail
from simulator.job import prepare, run_job
from simulator.processes import World
from simulator.simulation import Simulation
from simulator.testing.algorithms import Flat
from simulator.timing.messages import MessageSchedule
from simulator.timing.rounds import Rounds
from tests.algorithms.asynchronous_oracle import Objectives, push_sum

ROOT = ("num_threads=1", "dtype=float64", "compute=vmap", "figures=false", "timeout_s=60")
EQUAL = ("timing=constant", "timing.latency_s=0", "timing.bandwidth_bytes_per_s=null")
TIMINGS = {
    "lognormal": ("timing=lognormal", "timing.sigma=0.7", "timing.node_sigma=0.4", "timing.latency_s=0.03"),
    "two_speed": (
        "timing=two_speed",
        "timing.latency_s=0.03",
        "timing.latency_sigma=1",
        "timing.bandwidth_bytes_per_s=9e3",
    ),
}
QUADRATIC = ("problem=quadratic", "problem.dim=4", "num_nodes=7")
NOISY = (*QUADRATIC, "problem.noise=0.3")

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize(
    ("graph", "num_nodes"), [("ring", 32), ("exponential", 9), ("random_directed", 9), ("one_peer_exponential", 9)]
)
def test_equal_clocks_give_the_bits_of_the_synchronous_form(composed, graph, num_nodes):
    """W_t is multiplied as a sparse matrix on the ring, and as a dense one on the others."""
    data = ("dataset=digits", "model=logistic_regression", f"graph={graph}", f"num_nodes={num_nodes}")
    plain = Simulation.build(composed(*ROOT, *data, *EQUAL, "algorithm=sgp", "algorithm.order=adapt_then_mix"))
    free = Simulation.build(composed(*ROOT, *data, *EQUAL, "algorithm=async_push_sum"))
    states = [made.run(made.init(), 0, 12) for made in (plain, free)]
    assert torch.equal(plain.estimate(states[0]), free.estimate(states[1]))
    numbers, others = (made.evaluate(state, 12).numbers for made, state in zip((plain, free), states, strict=True))
    assert others.pop("staleness/mean") == others.pop("staleness/max") == 0.0
    assert others.pop("time/sim_s") == pytest.approx(numbers.pop("time/sim_s"), rel=1e-12)
    assert others.pop("time/sim_mean_s") == pytest.approx(numbers.pop("time/sim_mean_s"), rel=1e-12)
    assert others == numbers


@pytest.mark.parametrize("correct", ["true", "false"])
@pytest.mark.parametrize("graph", ["random_directed", "one_peer_exponential", "ring"])
@pytest.mark.parametrize("timing", TIMINGS)
def test_events_are_those_of_a_plain_event_loop(composed, timing, graph, correct):
    made = Simulation.build(
        composed(
            *(*ROOT, *NOISY, *TIMINGS[timing], f"graph={graph}", "algorithm=async_push_sum"),
            *(f"algorithm.correct_rates={correct}", "algorithm.lr=0.002"),
        )
    )
    state = made.run(made.init(), 0, 20)
    network, parts = made.network, made.components
    scales = np.ones(7)
    if correct == "true":
        durations = np.mean([parts.timing.compute_s(np.arange(7), np.full(7, k)) for k in range(100)], axis=0)
        scales = durations * np.mean(1 / durations)
        assert np.ptp(scales) > 0.1
    objectives = Objectives(made.problem)
    x, w, now, ages = push_sum(parts.timing, parts.graph, objectives, 20 * 7, 40, parts.algorithm.lr, scales)
    np.testing.assert_allclose(state["params"].numpy(), x, rtol=0, atol=1e-10)
    np.testing.assert_allclose(state["push_sum_weight"].numpy(), w, rtol=0, atol=1e-10)
    np.testing.assert_allclose(network.events.now_s, now, rtol=0, atol=1e-9)
    assert network.events.staleness_counts.tolist() == np.bincount(ages).tolist()
    numbers = made.evaluate(state, 20).numbers
    assert numbers["staleness/mean"] == pytest.approx(np.mean(ages)) != 0
    assert numbers["staleness/max"] == max(ages)
    assert numbers["time/sim_s"] == pytest.approx(now.max())


def test_shares_in_nodes_and_mailboxes_add_up(composed):
    made = Simulation.build(
        composed(*ROOT, *QUADRATIC, *TIMINGS["two_speed"], "graph=random_directed", "algorithm=async_push_sum")
    )
    algorithm, network, graph, problem = made.algorithm, made.network, made.components.graph, Flat(7)
    state = algorithm.init(problem, network)
    start = torch.from_numpy(np.random.Generator(np.random.Philox(3)).normal(size=(7, 7)))
    state["mail/params"].copy_(start)
    schedule = MessageSchedule(network.timing, Rounds(graph, network.timing.links, 64), takes_in="start")
    kept, open_letters, most = np.ones(7), {}, 0
    for step in range(25):
        state = algorithm.step(state, step, problem, network)
        for wave in schedule.waves(until_events=(step + 1) * 7):
            taken, sent = wave.taken, wave.sent
            for e, j, k in zip(taken.event, taken.source, taken.step, strict=True):
                del open_letters[int(j), int(k), int(wave.nodes[e])]
            for e, i, weight in zip(sent.event, sent.target, sent.weight, strict=True):
                open_letters[int(wave.nodes[e]), int(wave.steps[e]), int(i)] = weight
            kept[wave.nodes] = wave.own_weight
        mail = without_free_mail(state)
        row = {
            key: at for at, key in enumerate(zip(mail["mail/source"].tolist(), mail["mail/step"].tolist(), strict=True))
        }
        for name, own in (("params", state["params"]), ("push_sum_weight", state["push_sum_weight"])):
            if step == 0:
                continue  # some nodes have not had an event, and begin with what is in the mail
            rows = mail[f"mail/{name}"].numpy()
            total = np.tensordot(kept, own.numpy(), 1)
            total = total + sum(weight * rows[row[j, k]] for (j, k, _), weight in open_letters.items())
            expected = start.sum(dim=0).numpy() if name == "params" else 7.0
            if (network.events.num_steps > 0).all():
                np.testing.assert_allclose(total, expected, rtol=0, atol=1e-12)
                most = max(most, len(open_letters))
    assert most > 10
    mean = start.mean(dim=0).expand(7, -1)
    for step in range(25, 150):
        state = algorithm.step(state, step, problem, network)
    np.testing.assert_allclose(algorithm.estimate(state).numpy(), mean.numpy(), rtol=0, atol=1e-3)


def run_in(folder, composed, *overrides):
    folder.mkdir(exist_ok=True)
    run_job(prepare(composed(*overrides), overrides, folder, []), World(), None)
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return json.loads((folder / "summary.json").read_text()), records


def test_evaluations_and_the_end_at_simulated_times(composed, tmp_path):
    """Events up to that time are done and later ones are not; what comes afterwards does not notice."""
    words = (*ROOT, *QUADRATIC, *TIMINGS["lognormal"], "algorithm=async_push_sum", "graph=random_directed")
    words = (*words, "num_steps=30", "eval_every=1000", "checkpoint.every=0")
    plain, _ = run_in(tmp_path / "plain", composed, *words)
    watched, records = run_in(tmp_path / "watched", composed, *words, "eval_every_s=0.25")
    assert watched["train/loss"] == pytest.approx(plain["train/loss"], rel=1e-12)
    times = [record["time/sim_s"] for record in records]
    assert times[1:-1] == [0.25 * (n + 1) for n in range(len(times) - 2)]
    assert len(times) > 6
    ended, records = run_in(tmp_path / "ended", composed, *words, "max_sim_s=0.5")
    assert ended["time/sim_s"] == 0.5
    timing = config.build(composed(*words)).timing
    ends = np.cumsum([timing.compute_s(np.arange(7), np.full(7, k)) for k in range(40)], axis=0)
    assert ended["time/num_steps_per_node"] == (ends <= 0.5).sum(axis=0).tolist()
    assert ended["step"] == (ends <= 0.5).sum() // 7


def test_synchronous_runs_have_them_too(composed, tmp_path):
    words = (*ROOT, *QUADRATIC, "timing=constant", "timing.step_s=0.1", "timing.latency_s=0", "algorithm=sgp")
    words = (*words, "graph=random_directed", "num_steps=50", "eval_every=1000", "timing.bandwidth_bytes_per_s=null")
    summary, records = run_in(tmp_path / "run", composed, *words, "eval_every_s=0.25", "max_sim_s=0.95")
    assert [record["step"] for record in records] == [0, 3, 5, 8, 10]
    assert summary["time/sim_s"] == pytest.approx(1.0)


def test_a_resumed_run_has_the_same_messages_in_flight(composed, tmp_path):
    words = (
        *ROOT,
        *QUADRATIC,
        *TIMINGS["two_speed"],
        "algorithm=async_push_sum",
        "graph=random_directed",
        "eval_every=4",
    )
    whole, records = run_in(tmp_path / "whole", composed, *words, "num_steps=12")
    run_in(tmp_path / "first", composed, *words, "num_steps=7")
    resumed, others = run_in(tmp_path / "second", composed, f"resume={tmp_path / 'first'}", "num_steps=12")
    timed = ("time/wall_s", "throughput/node_steps_per_s")
    assert {k: v for k, v in whole.items() if k not in timed} == {k: v for k, v in resumed.items() if k not in timed}
    kept = [record for record in others if record["step"] != 7]
    assert [record["train/loss"] for record in records] == [record["train/loss"] for record in kept]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("timing=none",), r"timing=none: algorithm=async_push_sum needs to know how long steps take"),
        (("timing=none", "algorithm=sgp", "max_sim_s=3"), r"max_sim_s=3\.0: timing=none has no"),
        (("timing=constant", "max_sim_s=0"), r"max_sim_s=0\.0: expected a positive number of seconds"),
        (("timing=constant", "eval_every_s=-1"), r"eval_every_s=-1\.0: expected a positive number of seconds"),
        (("timing=constant", "timing.step_s=0"), r"timing: local step 0 of node 0 takes 0 s; asynchronous"),
        (("timing=constant", "graph=hub"), r"algorithm=async_push_sum needs column-stochastic"),
        (
            ("timing=constant", "graph=de_bruijn", "num_nodes=8"),
            r"algorithm=async_push_sum needs nodes that keep a share",
        ),
        (
            ("timing=constant", "problem=bilevel_quadratic"),
            r"problem: algorithm=async_push_sum computes gradients of some",
        ),
        (("timing=constant", "algorithm.lr=0"), r"algorithm\.lr=0: expected a positive number"),
    ],
)
def test_bad_input_is_one_line_before_the_first_step(composed, overrides, message):
    settings = composed(*ROOT, *QUADRATIC, "graph=random_directed", "algorithm=async_push_sum", *overrides)
    with pytest.raises(ValueError, match=f"^{message}") as caught:
        Simulation.build(settings).init()
    assert "\n" not in str(caught.value)


def test_messages_that_outrun_a_link_are_announced(composed, caplog):
    words = (*ROOT, *QUADRATIC, "graph=random_directed", "algorithm=async_push_sum", "timing=constant")
    Simulation.build(composed(*words, "timing.bandwidth_bytes_per_s=100")).init()
    assert "longer than its steps of 0.05 s: they will come later and later" in caplog.text
