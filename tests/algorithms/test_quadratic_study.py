"""Simulated random quadratics against their exact second moments, and the study's bookkeeping."""

import json

import numpy as np
import pytest

from simulator.job import Job, run_job
from simulator.processes import World
from simulator.simulation import Simulation

SMALL = (
    "experiment=topology_quadratics",
    "num_nodes=16",
    "problem.dim=18",
    "algorithm.repetitions=300",
    "algorithm.horizon=12",
    "device=cpu",
    "num_threads=1",
)
QUANTITIES = ("squared_norm", "squared_mean", "squared_distance")

pytestmark = pytest.mark.usefixtures("one_thread")


def study(composed, *overrides):
    simulation = Simulation.build(composed(*SMALL, *overrides))
    state = simulation.run(simulation.init(), 0, 1)
    return simulation, simulation.algorithm.report(state, 0, simulation.problem, simulation.network)


@pytest.mark.parametrize(
    ("graph", "order"),
    [
        ("hypercube", "adapt_then_combine"),  # looks the same from every node
        ("star", "combine_and_adapt"),  # irregular
        ("one_peer_exponential", "combine_and_adapt"),  # varies periodically
        ("epidemic", "adapt_then_combine"),  # directed, another one in every round
    ],
)
def test_within_four_standard_errors_of_the_exact_moments(composed, graph, order):
    _, report = study(composed, f"graph={graph}", f"algorithm.order={order}")
    assert report.numbers["quadratic/max_z_score"] < 4
    for name in QUANTITIES:
        (mean, error), exact = report.arrays[name], report.arrays[f"{name}_exact"]
        assert (np.abs(mean - exact) <= 4 * error + 1e-12).all(), name
        # The band is narrow enough to tell: what is left of the start is known to a few per cent.
        assert (error[1:] < 0.05 * exact[1:] + 1e-12).all(), name


def test_unlike_variances_minibatches_and_changing_rates(composed):
    overrides = ["graph=star", "problem.dim=4", "problem.feature_variances=[4,1,1,0.25]", "problem.batch_size=3"]
    schedule = ["algorithm.lr_schedule._target_=simulator.schedules.InverseRoot", "algorithm.lr=0.15"]
    _, report = study(composed, *overrides, *schedule)
    assert report.numbers["quadratic/max_z_score"] < 4
    # Of another rate, order, batch size or graph these would not be the moments.
    for change in (
        ["algorithm.lr=0.12"],
        ["algorithm.order=combine_and_adapt"],
        ["problem.batch_size=2"],
        ["graph=binary_tree"],
    ):
        _, other = study(composed, *overrides, *schedule, *change)
        differences = [
            np.abs(report.arrays[name][0] - other.arrays[f"{name}_exact"])[1:] / report.arrays[name][1, 1:]
            for name in QUANTITIES
        ]
        assert np.max(differences) > 6, change


def test_statistics_are_over_repetitions_that_are_runs(composed):
    """Repetition 0 takes the node's own samples, so it is the run itself; the rest is mean and standard error."""
    simulation, report = study(composed, "algorithm.repetitions=2", "graph=one_peer_exponential")
    state = simulation.init()
    norms = [1.0]
    simulation.run(state, 0, 12, after=lambda s, _: norms.append(float(s["params"].square().sum(dim=1).mean())))
    mean, error = report.arrays["squared_norm"]
    # With two repetitions the standard error is half of their difference.
    lower, upper = mean - error, mean + error
    np.testing.assert_allclose(np.minimum(np.abs(norms - lower), np.abs(norms - upper)), 0, atol=1e-12)
    total = report.arrays["squared_mean"][0] + report.arrays["squared_distance"][0]
    np.testing.assert_allclose(total, mean, rtol=1e-12)


def test_exact_averaging_has_no_distance(composed):
    _, report = study(composed, "graph=fully_connected", "algorithm.repetitions=50")
    assert report.numbers["quadratic/max_z_score"] < 4
    assert report.numbers["quadratic/squared_distance"] < 1e-20


def test_every_repetition_counts_its_bytes(composed):
    simulation, _ = study(composed, "graph=ring", "algorithm.repetitions=5")
    phases = simulation.network.ledger.phases
    assert phases["inner"].bytes == 32 * 18 * 8
    assert phases["study"].bytes == 32 * 18 * 8 * 12 * 5


def test_large_irregular_schedules_are_simulated_all_the_same(composed):
    _, report = study(composed, "graph=star", "num_nodes=2100", "algorithm.repetitions=2", "algorithm.horizon=1")
    assert "more than 4000000 moments" in report.numbers["quadratic/undefined"]
    assert "quadratic/max_z_score" not in report.numbers
    assert 0 < report.numbers["quadratic/squared_norm"] < 2


def test_a_run_writes_numbers_curves_and_a_figure(composed, tmp_path):
    run_job(Job(composed(*SMALL, "algorithm.repetitions=20"), str(tmp_path)), World(), None)
    summary = json.loads((tmp_path / "summary.json").read_text())
    with np.load(tmp_path / "report.npz") as arrays:
        assert arrays["squared_norm"].shape == (2, 13)
        assert summary["quadratic/squared_norm"] == arrays["squared_norm"][0, -1]
        assert summary["quadratic/squared_norm_stderr"] == arrays["squared_norm"][1, -1]
        assert summary["quadratic/squared_norm_exact"] == arrays["squared_norm_exact"][-1]
        assert summary["quadratic/log_squared_norm"] == pytest.approx(np.log(arrays["squared_norm"][0, -1]))
        shrunk = arrays["squared_norm_exact"][-1] / arrays["squared_norm_exact"][0]
    assert (1 - summary["quadratic/rate_per_step_exact"]) ** 12 == pytest.approx(shrunk)
    assert (tmp_path / "figures" / "moments_by_step.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("algorithm.repetitions=1", r"algorithm\.repetitions=1"),
        ("algorithm.horizon=0", r"algorithm\.horizon=0"),
        ("algorithm.momentum=0.9", "without momentum"),
        ("algorithm.local_steps=2", "without momentum, further local steps"),
        ("problem=quadratic", "needs problem=random_quadratic, not Quadratic"),
        ("graph=random_directed", "needs doubly stochastic weights"),
    ],
)
def test_bad_settings_are_refused(composed, override, message):
    with pytest.raises(ValueError, match=message):
        Simulation.build(composed(*[each for each in SMALL if "dim" not in each], override))
