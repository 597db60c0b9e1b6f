"""Leakage and membership inference against definitions written out in NumPy, and what a run reports of them."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from simulator.algorithms.exchange.leakage import divergence
from simulator.algorithms.exchange.membership import attack_accuracy, matched
from tests.algorithms.numbered_images import (
    NUM_NODES,
    Numbered,
    make_algorithm,
    make_network,
    make_problem,
    run,
    shards,
)
from tests.algorithms.test_data_exchange import NEIGHBOURS

ROOT = Path(__file__).parents[2]
EPS = 1e-5

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def few():
    return Numbered((27, 39, 26, 38, 25, 37, 29, 36, 28, 35))


def share_of_pixels(images):
    total = images.astype(np.float64).sum(axis=0).ravel()
    return total / total.sum() if total.sum() > 0 else total


def kl(sent, held):
    a, b = share_of_pixels(sent) + EPS, share_of_pixels(held) + EPS
    return sum(x * np.log(x / y) for x, y in zip(a, b, strict=True))


def report_of(dataset, partition, num_rounds, **changes):
    problem, network = make_problem(dataset, partition), make_network()
    algorithm = make_algorithm(**changes)
    state = run(algorithm, problem, network, num_rounds)
    return algorithm, problem, state, algorithm.report(state, num_rounds - 1, problem, network)


@pytest.mark.parametrize(("digits", "ratio", "every"), [(2, 0.2, None), (3, 1.0, None), (3, 0.3, 1)])
def test_leakage_is_the_definition(few, digits, ratio, every):
    partition, dealt = shards(digits, few)
    algorithm, _, _, report = report_of(few, partition, 2, share_ratio=ratio, exchange_every=every)
    num_exchanges = 1 if every is None else 2
    sent = [dealt[i][algorithm.exchange.chosen_until(i, num_exchanges, len(dealt[i]))] for i in range(NUM_NODES)]
    held = [np.array(sorted(set(dealt[i]).union(*(sent[j] for j in NEIGHBOURS[i])))) for i in range(NUM_NODES)]
    factors = [ratio if every is None else ratio + (len(sent[i]) - int(ratio * len(dealt[i]))) / len(dealt[i])
               for i in range(NUM_NODES)]  # fmt: skip
    leakage, distance = [], []
    by_class = np.full((NUM_NODES, 10), np.nan)
    for i, neighbours in NEIGHBOURS.items():
        leakage.append(factors[i] * sum(kl(few.images[sent[i]], few.images[held[j]]) for j in neighbours))
        sets = (sent[i], *(held[j] for j in neighbours))
        counts = [[np.mean(few.labels[rows] == c) for c in range(10)] for rows in sets]
        distance.append(np.mean([np.abs(np.subtract(counts[0], other)).sum() / 2 for other in counts[1:]]))
        for c in set(few.labels[sent[i]]):
            of_class = [rows[few.labels[rows] == c] for rows in sets]
            parts = [kl(few.images[of_class[0]], few.images[rows]) for rows in of_class[1:]]
            by_class[i, c] = factors[i] * sum(parts)
    numbers = report.numbers
    np.testing.assert_allclose(numbers["privacy/leakage"], leakage, rtol=1e-9)
    assert numbers["privacy/leakage_total"] == pytest.approx(sum(leakage), rel=1e-9)
    np.testing.assert_allclose(numbers["privacy/leakage_by_class"], by_class, rtol=1e-9, atol=1e-15)
    np.testing.assert_allclose(numbers["privacy/label_distance"], distance, rtol=1e-12)
    assert min(leakage) > 0
    assert numbers["exchange/num_sent"] == [len(rows) for rows in sent]
    assert numbers["exchange/train_sizes"] == [len(rows) for rows in held]
    sums = [
        [few.images[rows].astype(int).sum(axis=0) for rows in (dealt[i], sent[i], held[i])] for i in range(NUM_NODES)
    ]
    np.testing.assert_array_equal(report.arrays["image_sums"], sums)


def test_nothing_sent_leaks_nothing(few, tmp_path):
    _, _, state, report = report_of(few, shards(2, few)[0], 1, share_ratio=0.0)
    numbers = report.numbers
    assert numbers["privacy/leakage_total"] == 0.0
    assert not np.signbit(numbers["privacy/leakage"]).any()
    assert np.isnan(numbers["privacy/leakage_by_class"]).all()
    assert np.isnan(numbers["privacy/label_distance"]).all()
    assert numbers["exchange/num_sent"] == [0] * NUM_NODES
    assert torch.isfinite(state["params"]).all()
    assert report.figures["mean_images"](tmp_path / "images.png").stat().st_size > 1000


def test_divergence_of_what_is_alike_and_of_single_pixels():
    assert divergence(np.array([0.25, 0.75]), np.array([0.25, 0.75]), EPS) == 0
    expected = (1 + EPS) * np.log((1 + EPS) / EPS) + EPS * np.log(EPS / (1 + EPS))
    np.testing.assert_allclose(divergence(np.array([1.0, 0.0]), np.array([0.0, 1.0]), EPS), expected, rtol=1e-12)


def test_an_attacker_sees_as_many_of_every_class():
    rng = np.random.default_rng(0)
    members, others = rng.integers(0, 4, 300), rng.integers(1, 6, 90)
    first, second = matched(members, others, np.random.default_rng(1))
    for label in range(6):
        expected = min((members == label).sum(), (others == label).sum())
        assert (members[first] == label).sum() == (others[second] == label).sum() == expected
    assert len(set(first)) == len(first) == len(set(second)) == len(second) > 50
    assert [len(part) for part in matched(np.array([0, 0]), np.array([1]), rng)] == [0, 0]


def test_accuracy_of_the_attack_is_the_definition():
    rng = np.random.default_rng(0)
    members, others = rng.exponential(1.0, 200), rng.exponential(1.6, 200)
    others[:50] = members[:50]

    def accuracy(threshold):
        guesses = [loss <= threshold for loss in members] + [loss > threshold for loss in others]
        return np.mean(guesses)

    at_mean, at_best = attack_accuracy(members, others)
    assert at_mean == pytest.approx(accuracy(members.mean()))
    assert at_best == pytest.approx(max(accuracy(threshold) for threshold in [*members, *others]))
    assert 0.5 < at_mean < at_best
    assert attack_accuracy(np.array([0.1, 0.1]), np.array([2.0, 3.0])) == (1.0, 1.0)
    assert attack_accuracy(np.array([2.0, 3.0]), np.array([0.1, 0.2]))[1] == 0.5
    assert np.isnan(attack_accuracy(np.zeros(0), np.zeros(0))).all()


def test_models_that_learn_noise_by_heart_give_their_members_away(few):
    """Labels of these images are random: what a model knows about them it knows by heart."""
    partition, _ = shards(2, few)
    settings = {"local_epochs": 25, "lr": 0.1, "share_ratio": 0.1, "momentum": 0.9}
    _, problem, state, report = report_of(few, partition, 1, **settings)
    losses = problem.sample_losses(state["params"][1], problem.init_hparams()[1], *problem.data.test.of(1))
    assert losses.shape == (40,)
    metrics = problem.evaluate(state["params"], problem.init_hparams())
    assert losses.mean() == pytest.approx(float(metrics["test/loss"][1]), rel=1e-12)
    numbers = report.numbers
    assert numbers["privacy/membership_accuracy"] == pytest.approx(
        np.mean(numbers["privacy/membership_accuracy_per_node"])
    )
    _, _, _, before = report_of(few, partition, 1, **{**settings, "lr": 1e-9})
    assert numbers["privacy/membership_accuracy"] > before.numbers["privacy/membership_accuracy"] + 0.05
    for at_best, at_mean in zip(
        numbers["privacy/membership_best_accuracy_per_node"],
        numbers["privacy/membership_accuracy_per_node"],
        strict=True,
    ):
        assert 0.5 <= at_mean <= at_best <= 1 or at_mean <= 0.5


ON_PROCESSES = """
import json, sys
from simulator.local_processes import run_local
from simulator.processes import World
from simulator.job import Job, run_job
for world_size, job in json.load(open(sys.argv[1])):
    if world_size == 1:
        run_job(Job(**job), World(), None)
    else:
        run_local(world_size, lambda world, store: run_job(Job(**job), world, store))
"""


@pytest.mark.slow
def test_stopped_and_resumed_on_other_processes_is_one_run(composed, tmp_path):
    """One process for all rounds, and three for half of them, then two; with a second exchange among the latter."""
    overrides = ["experiment=data_exchange", "num_threads=1", "figures=false", "compute=vmap", "dtype=float64"]
    overrides += ["device=cpu", "eval_every=2", "checkpoint.every=2", "algorithm.exchange_every=3"]
    overrides += ["algorithm.local_epochs=1", "timeout_s=60"]
    half, whole = composed(*overrides, "num_steps=2"), composed(*overrides, "num_steps=4")
    folders = [str(tmp_path / name) for name in ("whole", "half", "rest")]
    jobs = [
        (1, {"config": whole, "folder": folders[0]}),
        (3, {"config": half, "folder": folders[1]}),
        (2, {"config": whole, "folder": folders[2], "resume_from": folders[1]}),
    ]
    (tmp_path / "jobs.json").write_text(json.dumps(jobs))
    command = [sys.executable, "-W", "error", "-c", ON_PROCESSES, str(tmp_path / "jobs.json")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    one, _, several = (json.loads((Path(folder) / "summary.json").read_text()) for folder in folders)
    assert several["comm/wire_bytes"] > 0
    for key in ("comm/bytes", "comm/bytes_exchange", "comm/messages", "comm/bytes_sent_per_node"):
        assert several[key] == one[key], key
    assert one["comm/bytes_exchange"] == 2 * 65 * sum(
        len(NEIGHBOURS[node]) * count for node, count in enumerate([57, 57, 57, 57, 57])
    )
    for key in ("privacy/leakage", "privacy/leakage_total", "exchange/train_sizes", "exchange/num_sent"):
        assert several[key] == one[key], key
    for key in ("test/accuracy", "test/loss", "train/loss", "privacy/membership_accuracy"):
        assert several[key] == pytest.approx(one[key], abs=1e-9), key
    records = []
    for folder in (folders[0], folders[2]):
        lines = map(json.loads, (Path(folder) / "metrics.jsonl").read_text().splitlines())
        records.append({record["step"]: record["train/loss"] for record in lines})
    # The evaluation of step 2 after the resumption sees the samples that had been received.
    assert records[0] == pytest.approx(records[1], abs=1e-9)
