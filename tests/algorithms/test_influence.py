"""The study of influential samples: against a NumPy program, batched against one by one, and its scores."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from simulator import randomness
from simulator.algorithms.hypergradient.influence import Influence, most_influential, scores, spread_influence
from simulator.simulation import Simulation
from tests.algorithms.logistic import Logistic, pushed, train

ROOT = Path(__file__).parents[2]
NUM_STEPS, LR, DECAY, NUM_REMOVED = 400, 0.5, 0.5, 7
SMALL = (
    "experiment=influence_toy",
    f"num_steps={NUM_STEPS}",
    f"algorithm.lr={LR}",
    "algorithm.lr_schedule.milestones=[200,300,350]",
    "algorithm.depth=60",
    "algorithm.num_pushes=20",
    f"algorithm.num_removed={NUM_REMOVED}",
    f"problem.weight_decay={DECAY}",
    "dataset.num_train=25",
    "dataset.num_valid=20",
    "dataset.num_test=5",
    "compute=vmap",
    "device=cpu",
    "num_threads=1",
)

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def studied(composed):
    """The simulation after training, its state, and the report; nobody changes them."""
    simulation = Simulation.build(composed(*SMALL))
    assert isinstance(simulation.algorithm, Influence)
    state = simulation.run(simulation.init(), 0, NUM_STEPS)
    return simulation, simulation.algorithm.report(state, NUM_STEPS - 1, simulation.problem, simulation.network)


@pytest.mark.slow
def test_predictions_and_retrainings_equal_a_numpy_program(studied):
    simulation, report = studied
    graph, dataset = simulation.components.graph, simulation.components.dataset
    training, validation = Logistic.of(dataset, "train"), Logistic.of(dataset, "valid")
    matrices = [graph.edges(t).to_matrix(3) for t in range(NUM_STEPS + 60 * 20)]
    lrs = [LR * 0.1 ** sum(m <= t for m in (200, 300, 350)) for t in range(NUM_STEPS)]
    start = simulation.problem.init_params().numpy()

    def trained(masks):
        return train(training, start, matrices[:NUM_STEPS], lrs, DECAY, masks)

    z = trained(np.ones((3, 25)))
    gradients = training.sample_gradients(z)
    v = pushed(
        validation.gradient(z, 0.0), training.hessians(z, DECAY),
        lambda s: np.einsum("nbd,nd->nb", gradients, s) / 25, matrices[NUM_STEPS:], 20, 1.0,
    )[-1]  # fmt: skip
    np.testing.assert_allclose(report.arrays["influence"], v, rtol=0, atol=1e-10)

    top = report.numbers["influence/top_ids"]
    assert sorted(abs(v).ravel())[-NUM_REMOVED:] == pytest.approx([abs(v[tuple(place)]) for place in reversed(top)])
    np.testing.assert_allclose(report.numbers["influence/predicted"], [-v[tuple(place)] for place in top], atol=1e-10)
    before = validation.losses(z).mean()
    assert report.numbers["influence/outer_loss"] == pytest.approx(before, rel=1e-10)
    actual = []
    for node, sample in top:
        masks = np.ones((3, 25))
        masks[node, sample] = 0
        actual.append(validation.losses(trained(masks)).mean() - before)
    assert max(map(abs, actual)) > 1e-4
    np.testing.assert_allclose(report.numbers["influence/actual"], actual, rtol=0, atol=1e-10)


class Minimum:
    """The minimum of mean_i f_i on the logistic data by Newton's method, and the derivative of F there, in NumPy."""

    def __init__(self, dataset, masks):
        self.training, self.validation = Logistic.of(dataset, "train"), Logistic.of(dataset, "valid")
        self.masks, self.x = masks, np.zeros(self.training.inputs.shape[2])
        for _ in range(30):
            gradient = self.training.gradient(self.everywhere(), DECAY, masks).mean(axis=0)
            self.x = self.x - np.linalg.solve(self.hessian(), gradient)
        assert np.linalg.norm(self.training.gradient(self.everywhere(), DECAY, masks).mean(axis=0)) < 1e-14

    def everywhere(self):
        return np.broadcast_to(self.x, (3, len(self.x)))

    def hessian(self):
        inputs, p = self.training.inputs, self.training.chances(self.everywhere())
        curved = np.einsum("nb,nbd,nbe->de", self.masks * p * (1 - p), inputs, inputs) / self.masks.size
        return curved + DECAY * np.eye(len(self.x))

    def outer_loss(self):
        return self.validation.losses(self.everywhere()).mean()

    def mask_derivatives(self):
        """dF/dh, [3, B]: -g_ij^T H^-1 (mean gradient of F_i) / (n B)."""
        outer = self.validation.gradient(self.everywhere(), 0.0).mean(axis=0)
        gradients = self.training.sample_gradients(self.everywhere())
        return -gradients @ np.linalg.solve(self.hessian(), outer) / self.masks.size


@pytest.mark.slow
def test_converged_runs_equal_newtons_method_for_any_share(composed):
    """With exact averages and many steps all numbers are those of minima, which are computed here without a series."""
    simulation = Simulation.build(
        composed(*SMALL, "graph=fully_connected", "algorithm.lr_schedule.milestones=[]", "algorithm.num_pushes=1")
    )
    state = simulation.run(simulation.init(), 0, NUM_STEPS)
    everything = Minimum(simulation.components.dataset, np.ones((3, 25)))
    v, before = everything.mask_derivatives(), everything.outer_loss()
    errors = {}
    for share in (0.1, 0.2, 1.0):
        algorithm = dataclasses.replace(
            simulation.algorithm, depth=None, removed_share=share, removed_choice="spread", num_removed=6
        )
        report = algorithm.report(state, NUM_STEPS - 1, simulation.problem, simulation.network)
        numbers = report.numbers
        np.testing.assert_allclose(report.arrays["influence"], v, rtol=0, atol=1e-12)
        top = numbers["influence/top_ids"]
        assert [v[tuple(place)] for place in top] == sorted(v[tuple(place)] for place in top)
        assert {v.min(), v.max()} <= {v[tuple(place)] for place in top}
        np.testing.assert_allclose(numbers["influence/predicted"], [-share * v[tuple(p)] for p in top], atol=1e-12)
        actual = []
        for place in top:
            masks = np.ones((3, 25))
            masks[tuple(place)] = 1 - share
            actual.append(Minimum(simulation.components.dataset, masks).outer_loss() - before)
        np.testing.assert_allclose(numbers["influence/actual"], actual, rtol=0, atol=1e-12)
        assert numbers["influence/removed_share"] == share
        assert numbers["influence/depth"] == 200  # 400 steps at rate 0.5
        assert numbers["influence/gradient_norm"] < 1e-12
        assert numbers["influence/noise_floor"] < 1e-12
        curvature = np.linalg.eigvalsh(everything.hessian())[-1]
        assert numbers["influence/largest_curvature"] == pytest.approx(curvature, rel=1e-3)
        errors[share] = np.abs(np.subtract(numbers["influence/predicted"], actual)).max() / share
    # What a derivative leaves out is proportional to the share.
    assert errors[0.2] / errors[0.1] == pytest.approx(2, rel=0.05)
    assert errors[1.0] > 4 * errors[0.2]


@pytest.mark.slow
def test_noise_floor_and_gradient_are_those_of_a_numpy_program(composed):
    num_steps, size = 15, 0.3
    simulation = Simulation.build(composed(*SMALL, f"num_steps={num_steps}", f"algorithm.perturbation={size}"))
    state = simulation.run(simulation.init(), 0, num_steps)
    arguments = (state, num_steps - 1, simulation.problem, simulation.network)
    numbers = simulation.algorithm.report(*arguments).numbers
    graph, dataset = simulation.components.graph, simulation.components.dataset
    training, validation = Logistic.of(dataset, "train"), Logistic.of(dataset, "valid")
    matrices = [graph.edges(t).to_matrix(3) for t in range(num_steps)]
    start = simulation.problem.init_params().numpy()
    noise = randomness.generator(0, "perturbation").standard_normal(start.shape[1])
    z, apart = (train(training, x, matrices, [LR] * num_steps, DECAY) for x in (start, start + size * noise))
    floor = abs(validation.losses(apart).mean() - validation.losses(z).mean())
    assert floor > 1e-5
    assert numbers["influence/noise_floor"] == pytest.approx(floor, rel=1e-8)
    gradient = training.gradient(z, DECAY).mean(axis=0)
    assert numbers["influence/gradient_norm"] == pytest.approx(np.linalg.norm(gradient), rel=1e-10)
    without = dataclasses.replace(simulation.algorithm, perturbation=0.0).report(*arguments)
    assert "influence/noise_floor" not in without.numbers
    np.testing.assert_allclose(without.numbers["influence/actual"], numbers["influence/actual"], rtol=0, atol=1e-13)


@pytest.fixture(scope="module")
def untrained(composed):
    return Simulation.build(composed(*SMALL))


def test_default_depth_covers_the_horizon_of_training(untrained):
    algorithm = dataclasses.replace(untrained.algorithm, depth=None, step_size=0.25)
    # 200 steps at 0.5, 100 at 0.05, 50 at 0.005 and 50 at 0.0005.
    assert algorithm.depth_for(NUM_STEPS) == round((100 + 5 + 0.25 + 0.025) / 0.25) == 421
    assert algorithm.depth_for(100) == 200
    assert dataclasses.replace(algorithm, step_size=400.0).depth_for(100) == 1
    assert dataclasses.replace(algorithm, depth=60).depth_for(100) == 60


def test_a_step_size_for_which_the_series_diverges_is_an_error(untrained):
    algorithm = dataclasses.replace(untrained.algorithm, step_size=100.0)
    with pytest.raises(ValueError, match=r"^algorithm.step_size=100: the series diverges, .* below \d[\d.]*$"):
        algorithm.report(untrained.init(), 1, untrained.problem, untrained.network)
    algorithm.check_step_size(0.0199)
    with pytest.raises(ValueError, match=r"the largest curvature at the end of training is 8; expected .* below 0.25$"):
        dataclasses.replace(algorithm, step_size=0.25).check_step_size(8.0)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"removed_share": 0.0}, r"algorithm.removed_share=0.0: expected a share in \(0, 1\]"),
        ({"removed_share": 1.5}, r"algorithm.removed_share=1.5"),
        ({"removed_choice": "top"}, "algorithm.removed_choice='top': expected largest or spread"),
        ({"perturbation": -1.0}, "algorithm.perturbation=-1.0"),
        ({"depth": 0}, "algorithm.depth=0: expected a positive number"),
    ],
)
def test_wrong_settings_are_named(untrained, wrong, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(untrained.algorithm, **wrong)


@pytest.mark.slow
def test_predictions_lie_on_the_line_where_they_must(studied):
    """Strongly convex and small steps: what is left is the curvature of the influence of a whole sample."""
    _, report = studied
    assert report.numbers["influence/r2"] > 0.99
    assert report.numbers["influence/pearson"] > 0.99
    assert report.numbers["influence/kendall"] > 0.8
    assert {"influence/f1", "influence/jaccard"} <= report.numbers.keys()
    assert report.numbers["influence/consensus_distance"] < 1e-2


@pytest.mark.slow
def test_retraining_at_once_equals_one_by_one(studied):
    simulation, report = studied
    places = [tuple(place) for place in report.numbers["influence/top_ids"][:3]]
    algorithm, problem, network = simulation.algorithm, simulation.problem, simulation.network
    together = algorithm.retrained_losses(places, 50, problem, network)
    for place, loss in zip(places, together, strict=True):
        (alone,) = algorithm.retrained_losses([place], 50, problem, network)
        torch.testing.assert_close(alone, loss, rtol=0, atol=1e-13)
    assert len(set(together.tolist())) == 3


@pytest.mark.slow
def test_groups_of_trainings_change_nothing(studied):
    simulation, _ = studied
    few = dataclasses.replace(simulation.algorithm, depth=2, num_pushes=1, num_removed=5)
    arguments = (simulation.init(), 19, simulation.problem, simulation.network)
    together = few.report(*arguments)
    grouped = dataclasses.replace(few, trainings_at_once=2).report(*arguments)
    assert together.numbers["influence/top_ids"] == grouped.numbers["influence/top_ids"]
    np.testing.assert_allclose(grouped.arrays["actual"], together.arrays["actual"], rtol=0, atol=1e-13)


@pytest.mark.slow
def test_minibatches_are_those_of_training(composed):
    """A retraining without leaving anything out is the training."""
    simulation = Simulation.build(composed(*SMALL, "problem.batch_size=4", "num_steps=30"))
    state = simulation.run(simulation.init(), 0, 30)
    problem, network = simulation.problem, simulation.network
    expected = problem.evaluate(simulation.estimate(state), problem.init_hparams())["outer/loss"].mean()
    # Masks at the end of the row belong to nobody's sample.
    problem.num_hparams += 1
    (loss,) = simulation.algorithm.retrained_losses([(1, 25)], 30, problem, network)
    torch.testing.assert_close(loss, expected, rtol=0, atol=1e-13)


def test_largest_of_all_nodes_without_the_masks_of_nobody():
    influence = np.array([[0.0, -3.0, 1.0], [2.0, 0.0, -2.5]])
    assert most_influential(influence, 3) == [(0, 1), (1, 2), (1, 0)]
    assert most_influential(influence, 50) == [(0, 1), (1, 2), (1, 0), (0, 2)]


def test_spread_takes_the_closest_to_values_at_equal_distances():
    influence = np.array([[0.0, -3.0, 1.0, 0.9], [2.0, 5.0, -2.5, 0.1]])
    # Values -3, 1 and 5; then -3, -1/3, 7/3 and 5.
    assert spread_influence(influence, 3) == [(0, 1), (0, 2), (1, 1)]
    assert spread_influence(influence, 4) == [(0, 1), (1, 3), (1, 0), (1, 1)]
    everyone = [(0, 1), (1, 2), (1, 3), (0, 3), (0, 2), (1, 0), (1, 1)]
    assert spread_influence(influence, 7) == spread_influence(influence, 50) == everyone
    # An entry is taken once: the second of two equal values takes the next.
    assert spread_influence(np.array([[1.0, 1.0, 1.0]]), 2) == [(0, 0), (0, 1)]


def test_scores_by_hand():
    actual, predicted = np.array([-1.0, -2.0, 3.0, 1.0]), np.array([-1.0, 1.0, 2.0, -1.0])
    found = scores(actual, predicted)
    assert found["influence/r2"] == pytest.approx(1 - (9 + 1 + 4) / (15 - 0.25 * 4 * 0.25))
    # Below zero: {0, 1} and {0, 3}.
    assert found["influence/jaccard"] == pytest.approx(1 / 3)
    assert found["influence/f1"] == pytest.approx(1 / 2)
    assert found["influence/pearson"] == pytest.approx(np.corrcoef(actual, predicted)[0, 1])
    # 5 pairs without a tie in the predictions, 3 of them in order; tau-b divides by sqrt(6 * 5).
    assert found["influence/kendall"] == pytest.approx((3 - 2) / 30**0.5)
    assert np.isnan(scores(actual, np.ones(4))["influence/pearson"])
    assert scores(actual[:1], predicted[:1]) == {}


ON_PROCESSES = """
import json, sys
from pathlib import Path
import torch
from simulator.local_processes import run_local
from simulator.processes import World
from simulator.job import Job, run_job
torch.set_num_threads(1)
cases = json.loads(Path(sys.argv[1]).read_text())
for name, settings in cases.items():
    for size in (1, 2, 3):
        job = Job(settings, f"{Path(sys.argv[1]).parent}/{name}_{size}")
        if size == 1:
            run_job(job, World(), None)
        else:
            run_local(size, lambda world, store: run_job(job, world, store))
"""


@pytest.mark.slow
def test_any_number_of_processes_gives_the_same_studies(composed, tmp_path):
    """Three nodes on 1, 2 (one with a single node) and 3 processes: copies of a node stay where it is."""
    few = ("algorithm.depth=6", "num_steps=40", "algorithm.lr=0.5", "problem.batch_size=8", "algorithm.minibatch=true")
    data = ("dataset.num_train=20", "dataset.num_valid=15", "dataset.num_test=5")
    common = (*few, *data, "figures=false", "compute=vmap", "device=cpu", "num_threads=1", "timeout_s=60")
    cases = {
        "error": composed("experiment=hypergradient_error", "algorithm.push_counts=[1,3]", *common),
        "influence": composed(
            *("experiment=influence_toy", "algorithm.num_pushes=3", "algorithm.num_removed=5"), *common
        ),
    }
    (tmp_path / "cases.json").write_text(json.dumps(cases))
    command = [sys.executable, "-W", "error", "-c", ON_PROCESSES, str(tmp_path / "cases.json")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    for name in cases:
        summaries = [json.loads((tmp_path / f"{name}_{size}" / "summary.json").read_text()) for size in (1, 2, 3)]
        arrays = [np.load(tmp_path / f"{name}_{size}" / "report.npz") for size in (1, 2, 3)]
        for summary, found in zip(summaries[1:], arrays[1:], strict=True):
            assert found.files == arrays[0].files
            for key in found.files:
                np.testing.assert_allclose(found[key], arrays[0][key], rtol=0, atol=1e-10, err_msg=key)
            assert summary["comm/wire_bytes"] > summaries[0]["comm/wire_bytes"] == 0
            for key in ("comm/bytes", "comm/messages", "comm/bytes_hypergradient", "comm/bytes_sent_per_node"):
                assert summary[key] == summaries[0][key]
            assert summary["time/sim_s"] == pytest.approx(summaries[0]["time/sim_s"], rel=1e-12)
