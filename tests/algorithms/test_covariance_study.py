"""The covariance between nodes in training: of a linear process whose decay is known, and of runs that continue."""

import json

import numpy as np
import pytest
import torch

from simulator import config
from simulator.graphs.one_peer_exponential import OnePeerExponential
from simulator.graphs.two_cliques import TwoCliques
from simulator.job import Job, run_job
from simulator.processes import World
from simulator.simulation import Simulation
from simulator.topology.covariance import recent_walk_covariance, walk_covariance
from tests.algorithms.simulation import TINY_DATA

NUM_NODES, LR, NOISE, REPETITIONS, DIM, HORIZON = 8, 0.2, 0.7, 300, 40, 31
# The gradient is x plus noise, so x <- W ((1 - lr) x - lr noise): the walk itself, with gamma = (1 - lr)^2. In the
# other order x <- (W - lr I) x - lr noise, of which the walk W ((1 - lr) x) + noise is an approximation.
LINEAR = (
    "algorithm=covariance_study",
    "problem=quadratic",
    "problem.condition=1",
    "problem.heterogeneity=0",
    f"problem.noise={NOISE}",
    f"problem.dim={DIM}",
    f"num_nodes={NUM_NODES}",
    f"algorithm.lr={LR}",
    f"algorithm.repetitions={REPETITIONS}",
    f"algorithm.horizon={HORIZON}",
    "algorithm.copies=300",
)
DATA = (
    "algorithm=covariance_study",
    "algorithm.momentum=0.9",
    "algorithm.repetitions=5",
    "algorithm.horizon=4",
    "algorithm.copies=5",
    "algorithm.num_coordinates=6",
    "graph=one_peer_exponential",
    "problem=classification",
    "problem.batch_size=3",
    "partition=iid",
    "model=logistic_regression",
    f"num_nodes={NUM_NODES}",
    "compute=vmap",
    *TINY_DATA,
)
COMMON = ("dtype=float64", "device=cpu", "num_threads=1")

pytestmark = pytest.mark.usefixtures("one_thread")


def study(composed, *overrides, num_steps=5):
    simulation = Simulation.build(composed(*overrides, *COMMON))
    state = simulation.run(simulation.init(), 0, num_steps)
    report = simulation.algorithm.report(state, num_steps - 1, simulation.problem, simulation.network)
    return simulation, state, report


@pytest.mark.slow
@pytest.mark.parametrize(
    ("graph", "order", "phase_matters"),
    [
        ("ring", "adapt_then_combine", False),
        ("star", "adapt_then_combine", False),
        ("star", "combine_and_adapt", False),
        ("matching_ring", "adapt_then_combine", True),
        ("random_matching", "adapt_then_combine", True),
    ],
)
def test_a_linear_process_has_the_covariance_and_the_decay_of_its_walk(composed, graph, order, phase_matters):
    simulation, _, report = study(composed, *LINEAR, f"graph={graph}", f"algorithm.order={order}")
    gamma, schedule = (1 - LR) ** 2, simulation.components.graph
    # From round 5 on, 31 rounds; gamma^31 of what was before is nothing.
    exact = np.zeros((NUM_NODES, NUM_NODES))
    for t in range(5, 5 + HORIZON):
        W = schedule.edges(t).to_matrix(NUM_NODES)
        if order == "adapt_then_combine":
            exact = W @ (gamma * exact + np.eye(NUM_NODES)) @ W.T
        else:
            exact = (W - LR * np.eye(NUM_NODES)) @ exact @ (W - LR * np.eye(NUM_NODES)).T + np.eye(NUM_NODES)
    variances = exact.diagonal()
    scaled = exact * (LR * NOISE) ** 2
    errors = np.sqrt((np.outer(variances, variances) + exact**2) / (REPETITIONS * DIM)) * (LR * NOISE) ** 2
    assert (np.abs(report.arrays["covariance"] - scaled) < 5 * errors).all()
    walk = report.arrays["covariance_of_walk"]
    if order == "adapt_then_combine":
        np.testing.assert_allclose(walk, exact / variances.mean(), rtol=0, atol=0.02)
        assert report.numbers["covariance/gamma"] == pytest.approx(gamma, abs=0.02)
        assert report.numbers["covariance/distance"] < 0.03
    else:
        fitted, W = report.numbers["covariance/gamma"], schedule.edges(0).to_matrix(NUM_NODES)
        series = sum(fitted**k * np.linalg.matrix_power(W @ W.T, k) for k in range(200))
        np.testing.assert_allclose(walk, series / series.diagonal().mean(), rtol=0, atol=1e-9)
        assert fitted == pytest.approx(gamma, abs=0.05)
        assert report.numbers["covariance/distance"] < 0.1
    assert report.numbers["covariance/mean_variance"] == pytest.approx(scaled.diagonal().mean(), rel=0.03)
    if phase_matters:
        _, _, later = study(composed, *LINEAR, f"graph={graph}", f"algorithm.order={order}", num_steps=6)
        difference = later.arrays["covariance_of_walk"] - report.arrays["covariance_of_walk"]
        assert np.abs(difference).max() > 0.1
        assert later.numbers["covariance/distance"] < 0.03


@pytest.mark.parametrize("gamma", [0.0, 0.6, 0.99, 0.99999])
def test_rounds_that_end_in_agreement_have_the_stationary_covariance(gamma):
    for graph, count in ((OnePeerExponential(num_nodes=8), 5), (TwoCliques(num_nodes=6), 400)):
        for last in (400, 401):
            recent = recent_walk_covariance(graph, range(last - count + 1, last + 1))(gamma)
            np.testing.assert_allclose(recent, walk_covariance(graph, last)(gamma), rtol=1e-9)


def test_number_of_neighbors_is_that_of_the_fitted_decay(composed):
    _, _, report = study(composed, *LINEAR, "graph=ring", "algorithm.order=combine_and_adapt")
    gamma = report.numbers["covariance/gamma"]
    values = (1 + 2 * np.cos(2 * np.pi * np.arange(NUM_NODES) / NUM_NODES)) / 3
    neighbors = 1 / ((1 - gamma) * np.mean(values**2 / (1 - gamma * values**2)))
    assert report.numbers["covariance/effective_num_neighbors"] == pytest.approx(neighbors, rel=1e-9)


def test_repetitions_are_runs_that_continue(composed):
    """Repetition 0 takes the minibatches that the run would: with its momentum, rate, and rounds from step 5 on."""
    schedule = "algorithm.lr_schedule._target_=simulator.schedules.InverseRoot"
    simulation, state, report = study(composed, *DATA, schedule)
    records, coordinates = report.arrays["records"], report.arrays["coordinates"]
    assert records.shape == (5, NUM_NODES, 6)
    longer = simulation.run({name: rows.clone() for name, rows in state.items()}, 5, 9)
    np.testing.assert_allclose(records[0], longer["params"][:, torch.from_numpy(coordinates)], rtol=1e-6)
    assert len(np.unique(records.reshape(5, -1), axis=0)) == 5
    assert len(set(coordinates.tolist())) == 6
    again = simulation.algorithm.report(state, 4, simulation.problem, simulation.network)
    np.testing.assert_array_equal(again.arrays["records"], records)


def test_how_many_are_computed_at_once_does_not_matter(composed):
    together, apart = (study(composed, *DATA, f"algorithm.copies={copies}")[2] for copies in (5, 2))
    np.testing.assert_allclose(apart.arrays["records"], together.arrays["records"], rtol=1e-6)
    assert apart.numbers["covariance/gamma"] == pytest.approx(together.numbers["covariance/gamma"], rel=1e-4)


def test_few_parameters_are_all_recorded(composed):
    simulation, _, report = study(composed, *DATA, "algorithm.num_coordinates=100000")
    np.testing.assert_array_equal(report.arrays["coordinates"], np.arange(simulation.problem.num_params))


@pytest.mark.parametrize("graph", ["self_loop", "fully_connected"])
def test_where_all_decays_look_the_same_none_is_given(composed, graph):
    _, _, report = study(composed, *LINEAR, f"graph={graph}", "algorithm.repetitions=10", "algorithm.horizon=3")
    assert report.numbers["covariance/gamma"] is None
    assert "same covariances at every gamma" in report.numbers["covariance/undefined"]
    expected = np.eye(NUM_NODES) if graph == "self_loop" else np.ones((NUM_NODES, NUM_NODES))
    np.testing.assert_allclose(report.arrays["covariance_of_walk"], expected, atol=1e-12)


def test_every_repetition_counts_its_bytes(composed):
    simulation, _, _ = study(composed, *DATA, "algorithm.copies=2")
    phases, payload = simulation.network.ledger.phases, simulation.problem.num_params * 8
    assert phases["inner"].bytes == NUM_NODES * payload * 5
    assert phases["study"].bytes == NUM_NODES * payload * 4 * 5


@pytest.mark.slow
def test_a_run_writes_numbers_matrices_and_a_figure(composed, tmp_path):
    settings = composed(*DATA, *COMMON, "num_steps=5", "eval_every=5", "checkpoint.every=0")
    run_job(Job(settings, str(tmp_path)), World(), None)
    summary = json.loads((tmp_path / "summary.json").read_text())
    with np.load(tmp_path / "report.npz") as arrays:
        assert arrays["covariance"].shape == arrays["covariance_of_walk"].shape == (NUM_NODES, NUM_NODES)
        assert summary["covariance/mean_variance"] == pytest.approx(arrays["covariance"].diagonal().mean())
        assert arrays["records"].shape == (5, NUM_NODES, 6)
    assert 0 <= summary["covariance/gamma"] < 1
    assert (tmp_path / "figures" / "covariances_between_nodes.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("algorithm.repetitions=3", r"algorithm\.repetitions=3: expected at least 4"),
        ("algorithm.horizon=0", r"algorithm\.horizon=0: expected a positive number"),
        ("algorithm.copies=0", r"algorithm\.copies=0: expected a positive number"),
        ("algorithm.clique_averaging=true", "is known for D-SGD without clique averaging only"),
        ("graph=random_directed", "needs doubly stochastic weights"),
    ],
)
def test_bad_settings_are_refused(composed, override, message):
    with pytest.raises(ValueError, match=message):
        Simulation.build(composed(*[each for each in DATA if "repetitions" not in each], override))


def test_models_of_different_sizes_are_refused(composed):
    settings = composed("algorithm=covariance_study", "graph=self_loop", "problem=model_sizes", "num_nodes=4")
    with pytest.raises(
        ValueError, match="needs models of one architecture at all nodes, and those of ModelSizes differ"
    ):
        config.check(settings, config.build(settings), 1)
