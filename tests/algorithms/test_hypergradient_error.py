"""The study of the hypergradient's error against a NumPy program of its own, and copies against separate runs."""

import json

import numpy as np
import pytest
import torch

from simulator.algorithms.hypergradient.hypergradient_error import HypergradientError
from simulator.hypergradients.exact import exact_hypergradient
from simulator.hypergradients.push import push_hypergradient
from simulator.job import Job, run_job
from simulator.processes import World
from simulator.simulation import Simulation
from tests.algorithms.logistic import Logistic, pushed, train

NUM_STEPS, DEPTH, STEP_SIZE, LR = 120, 12, 0.8, 1.0
SMALL = (
    "experiment=hypergradient_error",
    f"num_steps={NUM_STEPS}",
    f"algorithm.depth={DEPTH}",
    f"algorithm.step_size={STEP_SIZE}",
    f"algorithm.lr={LR}",
    "algorithm.lr_schedule.milestones=[60]",
    "algorithm.push_counts=[1,2]",
    "algorithm.graph_seeds=[0,3]",
    "algorithm.summary_terms=[1,5,99]",
    "dataset.num_train=20",
    "dataset.num_valid=15",
    "dataset.num_test=5",
    "compute=vmap",
    "device=cpu",
    "num_threads=1",
)

pytestmark = pytest.mark.usefixtures("one_thread")


def study(composed, *overrides, num_steps=NUM_STEPS):
    """The simulation after training, its state, and the report."""
    simulation = Simulation.build(composed(*SMALL, *overrides))
    assert isinstance(simulation.algorithm, HypergradientError)
    state = simulation.run(simulation.init(), 0, num_steps)
    report = simulation.algorithm.report(state, num_steps - 1, simulation.problem, simulation.network)
    return simulation, state, report


def test_equals_a_numpy_program(composed):
    simulation, state, report = study(composed)
    graph, dataset = simulation.components.graph, simulation.components.dataset
    training, validation = Logistic.of(dataset, "train"), Logistic.of(dataset, "valid")

    def matrices(first, count):
        return [graph.edges(t).to_matrix(3) for t in range(first, first + count)]

    lrs = [LR if t < 60 else 0.1 * LR for t in range(NUM_STEPS)]
    z = train(training, simulation.problem.init_params().numpy(), matrices(0, NUM_STEPS), lrs, 0.0)
    np.testing.assert_allclose(simulation.estimate(state).numpy(), z, rtol=0, atol=1e-10)

    outer, hessians = validation.gradient(z, 0.0), training.hessians(z, 0.0)
    w = np.linalg.solve(hessians.mean(axis=0), outer.mean(axis=0))
    exact = -(z @ w)[:, None] / 3
    np.testing.assert_allclose(report.numbers["hypergradient/reference"], exact, rtol=1e-8)
    assert report.numbers["hypergradient/reference_norm"] == pytest.approx(np.linalg.norm(exact), rel=1e-8)

    for rule, suffix in (("debiased", ""), ("average_preserving", ",rule=average_preserving")):
        for pushes in (1, 2):
            curves = report.arrays[f"error_{rule}_S{pushes}"]
            for curve, seed in zip(curves, (0, 3), strict=True):
                P = matrices(NUM_STEPS + seed * DEPTH * 2, DEPTH * pushes)
                v = pushed(
                    outer, hessians, lambda s: (z * s).sum(1, keepdims=True), P, pushes, STEP_SIZE,
                    preserving=rule == "average_preserving",
                )  # fmt: skip
                expected = np.sqrt(((v - exact) ** 2).sum(axis=(1, 2)))
                np.testing.assert_allclose(curve, expected, rtol=0, atol=1e-8)
                written = report.numbers[f"hypergradient/error@S={pushes},seed={seed}{suffix}"]
                assert written == {str(m): curve[m - 1] for m in (1, 5, DEPTH)}
            middle = report.numbers[f"hypergradient/error_median@S={pushes}{suffix}"]
            assert middle[str(DEPTH)] == pytest.approx(curves[:, -1].mean(), rel=1e-12)
    assert not np.allclose(*report.arrays["error_debiased_S1"])
    assert not np.allclose(report.arrays["error_debiased_S1"], report.arrays["error_average_preserving_S1"])


@pytest.mark.parametrize("batch_size", ["null", 6])
def test_copies_equal_separate_runs(composed, batch_size):
    """Seed 0 takes the rounds and minibatches that follow training; a seed alone gives what it gives among others."""
    overrides = [f"problem.batch_size={batch_size}", "algorithm.rules=[debiased]"]
    overrides.append(f"algorithm.minibatch={'false' if batch_size == 'null' else 'true'}")
    simulation, state, report = study(composed, *overrides)
    params, hparams = simulation.estimate(state), simulation.problem.init_hparams()
    exact = exact_hypergradient(simulation.problem, simulation.network, params, hparams, method="dense").hypergradient
    for pushes in (1, 2):
        curve = []
        push_hypergradient(
            simulation.problem, simulation.network, params, hparams, depth=DEPTH, num_pushes=pushes,
            step_size=STEP_SIZE, minibatch=batch_size != "null", first_batch=NUM_STEPS, first_round=NUM_STEPS,
            observe=lambda _, v, curve=curve: curve.append(float((v - exact).norm())),
        )  # fmt: skip
        np.testing.assert_allclose(report.arrays[f"error_debiased_S{pushes}"][0], curve, rtol=0, atol=1e-12)
    _, _, alone = study(composed, *overrides, "algorithm.graph_seeds=[3]")
    for name in ("error_debiased_S1", "error_debiased_S2"):
        np.testing.assert_allclose(report.arrays[name][1], alone.arrays[name][0], rtol=0, atol=1e-12)


def test_minibatches_are_judged_by_the_full_training_sets(composed):
    """Copies draw minibatches of their own; at S = 100 they differ by these alone."""
    overrides = ["problem.batch_size=6", "algorithm.minibatch=true", "algorithm.rules=[debiased]"]
    simulation, state, report = study(composed, *overrides, "algorithm.push_counts=[50]")
    training = Logistic.of(simulation.components.dataset, "train")
    validation = Logistic.of(simulation.components.dataset, "valid")
    z = simulation.estimate(state).numpy()
    w = np.linalg.solve(training.hessians(z, 0.0).mean(axis=0), validation.gradient(z, 0.0).mean(axis=0))
    np.testing.assert_allclose(report.numbers["hypergradient/reference"], -(z @ w)[:, None] / 3, rtol=1e-8)
    first, second = report.arrays["error_debiased_S50"]
    assert abs(first - second).max() > 1e-4


def test_exact_averaging_needs_one_push(composed):
    _, _, report = study(composed, "graph=fully_connected", "algorithm.push_counts=[1,100]", "algorithm.depth=300")
    once, often = (report.arrays[f"error_debiased_S{pushes}"] for pushes in (1, 100))
    np.testing.assert_allclose(once, often, rtol=0, atol=1e-12)
    np.testing.assert_allclose(once, report.arrays["error_average_preserving_S1"], rtol=0, atol=1e-12)
    assert (np.diff(once, axis=1) <= 1e-12).all()
    assert once[0, -1] < 0.2 * once[0, 0]


def test_alone_every_node_has_its_own_truncated_series(composed):
    simulation, state, report = study(composed, "graph=self_loop", "algorithm.rules=[debiased]")
    training = Logistic.of(simulation.components.dataset, "train")
    validation = Logistic.of(simulation.components.dataset, "valid")
    z = simulation.estimate(state).numpy()
    exact = np.array(report.numbers["hypergradient/reference"])
    hessians, outer = training.hessians(z, 0.0), validation.gradient(z, 0.0)
    v = np.zeros((3, 1))
    for i in range(3):
        # alpha sum_m (I - alpha H)^m = H^-1 (I - (I - alpha H)^depth)
        left = np.linalg.matrix_power(np.eye(6) - STEP_SIZE * hessians[i], DEPTH)
        v[i] = -z[i] @ np.linalg.solve(hessians[i], outer[i] - left @ outer[i]) / 3
    for pushes in (1, 2):
        curves = report.arrays[f"error_debiased_S{pushes}"]
        np.testing.assert_allclose(curves[:, -1], np.linalg.norm(v - exact), rtol=1e-9)
    assert simulation.network.ledger.bytes == 0


def test_bytes_of_every_copy_count(composed):
    """D + 1 float64 per edge: one copy in training, one per graph seed and rule after it."""
    simulation, _, _ = study(composed)
    graph, ledger = simulation.components.graph, simulation.network.ledger

    def edges(rounds):
        return sum(int((graph.edges(t).source != graph.edges(t).target).sum()) for t in rounds)

    expected = 0
    for seed in (0, 3):
        start = NUM_STEPS + seed * DEPTH * 2
        expected += 2 * sum(edges(range(start, start + DEPTH * pushes)) for pushes in (1, 2))
    assert ledger.phases["inner"].messages == edges(range(NUM_STEPS))
    assert ledger.phases["hypergradient"].messages == expected
    assert ledger.bytes == 56 * (edges(range(NUM_STEPS)) + expected)
    by_edge = ledger.per_edge()
    assert by_edge["messages"].sum() == ledger.messages
    assert ledger.node_sent.sum() == ledger.node_received.sum() == by_edge["bytes"].sum() == ledger.bytes


def test_a_run_writes_numbers_curves_and_a_figure(composed, tmp_path):
    run_job(Job(composed(*SMALL), str(tmp_path)), World(), None)
    summary = json.loads((tmp_path / "summary.json").read_text())
    with np.load(tmp_path / "report.npz") as arrays:
        assert arrays["error_debiased_S2"].shape == (2, DEPTH)
        written = summary["hypergradient/error@S=2,seed=3"]
        assert written == {str(m): arrays["error_debiased_S2"][1, m - 1] for m in (1, 5, DEPTH)}
        assert summary["hypergradient/reference"] == arrays["reference"].tolist()
    assert summary["comm/bytes"] == summary["comm/bytes_inner"] + summary["comm/bytes_hypergradient"]
    assert (tmp_path / "figures" / "error_by_term.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("algorithm.push_counts=[1,0]", r"algorithm\.push_counts=\[1, 0\]: expected different integers of at least 1"),
        ("algorithm.graph_seeds=[1,1]", r"algorithm\.graph_seeds=\[1, 1\]: expected different integers of at least 0"),
        ("algorithm.rules=[fast]", r"algorithm\.rules=\['fast'\]: expected some of debiased, average_preserving"),
        ("algorithm.depth=0", r"algorithm\.depth=0: expected a positive number"),
    ],
)
def test_bad_settings_are_refused(composed, override, message):
    with pytest.raises(ValueError, match=message):
        Simulation.build(composed(*SMALL, override))


def test_a_problem_that_cannot_be_copied_says_so(composed):
    problem = Simulation.build(composed("problem=quadratic", "num_nodes=3")).problem
    torch.testing.assert_close(problem.replicate([0, 0]).init_params(), torch.zeros(6, 8))
    with pytest.raises(ValueError, match="Quadratic cannot be computed for several runs at once"):
        super(type(problem), problem).replicate([0])


@pytest.mark.parametrize("rule", ["debiased", "average_preserving"])
def test_a_step_size_that_makes_the_series_grow_is_an_error(composed, rule):
    with pytest.raises(ValueError, match=r"^algorithm.step_size=60: the terms of the hypergradient's series grow"):
        study(composed, "algorithm.step_size=60.0", f"algorithm.rules=[{rule}]")
