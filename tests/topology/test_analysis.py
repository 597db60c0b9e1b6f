"""The analysis as a whole: on every graph of conf/, on several processes, and what it leaves out."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from simulator import config
from simulator.graphs.networkx import NetworkX
from simulator.graphs.random_directed import RandomDirected
from simulator.graphs.ring import Ring
from simulator.graphs.self_loop import SelfLoop
from simulator.graphs.star import Star
from simulator.job import Job, run_job
from simulator.local_processes import run_local
from simulator.processes import World
from simulator.topology.analysis import analyse, decay_grid
from simulator.topology.settings import AnalysisSettings
from tests.topology.schedules import Drawn, doubly_stochastic

CONF = Path(__file__).parents[2] / "conf" / "graph"
GRAPHS = sorted(path.stem for path in CONF.glob("*.yaml"))
EXPERIMENT = ("experiment=topology_analysis", "device=cpu", "num_threads=1")
SETTINGS = AnalysisSettings(
    gammas=[0, 0.5, 0.951], zeta=50.0, rate_lrs=[0.01, 0.1], num_lrs=10, target=0.01, feature_variances=[],
    batch_size=1, gossip_rounds=[1, 5], num_parameters=1000, bytes_per_parameter=4, smoothness=1.0,
    theorem_zeta=2000.0, num_samples=8, max_rounds=800,
)  # fmt: skip

pytestmark = pytest.mark.usefixtures("one_thread")


def is_strict(value):
    return json.loads(json.dumps(value, allow_nan=False)) is not None


@pytest.mark.slow
@pytest.mark.parametrize("name", GRAPHS)
def test_every_graph_can_be_analysed(name, composed, tmp_path):
    overrides = [*EXPERIMENT, f"graph={name}", "num_nodes=8", "algorithm.max_rounds=800", "algorithm.num_lrs=5"]
    if name == "file":
        (tmp_path / "path.txt").write_text("".join(f"{i} {i + 1}\n" for i in range(7)))
        overrides.append(f"graph.path={tmp_path / 'path.txt'}")
    settings = composed(*overrides, "algorithm.gammas=[0,0.951]")
    try:
        components = config.build(settings)
        config.check(settings, components, 1)
    except ValueError:
        # Sizes that a graph refuses are its own tests' business; one of these is allowed by every graph.
        size = 5 if name == "exchange_tree" else 32
        settings = composed(*overrides, "algorithm.gammas=[0,0.951]", f"num_nodes={size}")
        components = config.build(settings)
        config.check(settings, components, 1)
    graph, num_nodes = components.graph, settings["num_nodes"]
    config.finish_graph(components)
    found = analyse(graph, components.algorithm).numbers
    assert is_strict(found)
    assert {name for name, value in found.items() if value is None} - {"graph/period"} == set(found["graph/undefined"])
    assert all(found["graph/undefined"].values())
    if graph.stochasticity == "double":
        for gamma in ("0", "0.951"):
            mean = found[f"graph/effective_num_neighbors@gamma={gamma}"]
            worst = found[f"graph/effective_num_neighbors_worst@gamma={gamma}"]
            assert 1 - 1e-9 <= worst <= mean * (1 + 1e-9) <= num_nodes * (1 + 1e-8)
        assert 0.0 < found["quadratic/best_rate"] <= num_nodes / (num_nodes + 49) * (1 + 1e-6)
    for gap in ("spectral_gap", "singular_gap", "mean_square_gap"):
        assert graph.stochasticity != "double" or -1e-9 <= found[f"graph/{gap}"] <= 1 + 1e-9
    messages = np.mean([(graph.edges(t).source != graph.edges(t).target).sum() for t in range(graph.period or 100)])
    payload = 4 * (1_000_000 + (graph.stochasticity == "column"))
    assert found["graph/bytes_per_round"] == pytest.approx(messages * payload)


@pytest.mark.slow
def test_numbers_do_not_depend_on_the_number_of_processes(composed, tmp_path):
    names = {}
    for graph in ("ring", "random_directed"):
        overrides = [*EXPERIMENT, f"graph={graph}", "num_nodes=6", "figures=false", "algorithm.max_rounds=200"]
        for processes in (1, 2):
            folder = tmp_path / f"{graph}{processes}"
            job = Job(composed(*overrides), str(folder))
            if processes == 1:
                run_job(job, World(), None)
            else:
                run_local(2, lambda world, store, job=job: run_job(job, world, store))
            names[graph, processes] = json.loads((folder / "summary.json").read_text())
        one, two = ({k: v for k, v in names[graph, p].items() if "/" in k and k.split("/")[0] in
                     ("graph", "quadratic", "theory")} for p in (1, 2))  # fmt: skip
        assert one == two
        assert len(one) > 40


@pytest.mark.slow
def test_a_run_writes_numbers_curves_and_figures(composed, tmp_path):
    settings = composed(*EXPERIMENT, "graph=ring", "num_nodes=8", "algorithm.num_lrs=40")
    run_job(Job(settings, str(tmp_path)), World(), None)
    summary = json.loads((tmp_path / "summary.json").read_text())
    gammas = ("0", "0.5", "0.9", "0.951", "0.98", "0.99", "0.995", "0.999", "0.9999")
    for gamma in gammas:
        assert summary[f"graph/effective_num_neighbors@gamma={gamma}"] > 1
        assert summary[f"graph/effective_num_neighbors_worst@gamma={gamma}"] > 1
    assert summary["graph/diameter"] == 4
    assert summary["graph/spectral_gap"] == pytest.approx(1 - (1 + np.sqrt(2)) / 3)
    assert summary["theory/max_lr"] is None
    assert "not positive" in summary["graph/undefined"]["theory/max_lr"]
    with np.load(tmp_path / "report.npz") as arrays:
        assert arrays["num_neighbors_by_node"].shape == (len(gammas), 8)
        assert len(arrays["gammas"]) == len(arrays["num_neighbors"]) == 100
        best = arrays["rates"].max()
        assert best <= summary["quadratic/best_rate"] < 1.05 * best
    figures = ("effective_neighbors_against_decay", "rate_against_learning_rate", "time_to_target")
    for name in (*figures, "learning_rate_bounds"):
        assert (tmp_path / "figures" / f"{name}.png").stat().st_size > 10_000


def test_random_schedules_depend_on_the_seed_and_carry_standard_errors():
    first, again, other = (
        analyse(RandomDirected(num_nodes=6, rate_low=0.4, rate_high=0.8, seed=seed), SETTINGS).numbers
        for seed in (1, 1, 2)
    )
    assert first == again
    for name in ("graph/spectral_gap", "graph/effective_num_neighbors@gamma=0.951", "graph/messages_per_round"):
        assert first[name] != other[name]
    assert 0 < first["graph/effective_num_neighbors_stderr@gamma=0.951"] < 1
    assert "push-sum" in first["graph/walk"]
    assert first["quadratic/best_lr"] is None
    assert "not doubly stochastic" in first["graph/undefined"]["quadratic/best_lr"]


def test_the_scalar_equation_of_exchangeable_rounds():
    """Independent rounds that are one of all relabellings: the mean of (*) over the rounds, dense."""
    base = doubly_stochastic(4, 3)
    orders = [np.random.default_rng(seed).permutation(4) for seed in range(400)]
    rounds = [base[order][:, order] for order in orders]
    graph = Drawn(4, lambda rng: rounds[rng.integers(400)])
    found = analyse(graph, replace(SETTINGS, num_samples=200, max_rounds=20_000)).numbers
    own = np.diag(np.eye(4).ravel())
    for lr in (0.01, 0.1):
        mean = np.mean([np.kron(matrix, matrix) for matrix in rounds], axis=0)
        whole = mean @ ((1 - lr) ** 2 * np.eye(16) + 49 * lr**2 * own)
        expected = 1 - np.abs(np.linalg.eigvals(whole)).max()
        assert found[f"quadratic/rate@lr={lr:g}"] == pytest.approx(expected, abs=0.05 * lr)


def test_what_is_not_defined_says_why():
    alone = analyse(SelfLoop(num_nodes=4), SETTINGS).numbers
    assert alone["graph/diameter"] is alone["graph/random_walk_distance"] is alone["graph/delay"] is None
    assert alone["graph/undefined"]["graph/diameter"] == "some nodes never hear of some others"
    assert alone["quadratic/best_rate"] == pytest.approx(1 / 50, rel=1e-6)
    single = analyse(Ring(num_nodes=1), SETTINGS).numbers
    assert single["graph/effective_num_neighbors@gamma=0.951"] == pytest.approx(1)
    assert single["graph/diameter"] == 0
    assert single["graph/rounds_to_consensus"] == 0


def test_unlike_features_are_a_setting():
    found = analyse(Star(num_nodes=5), replace(SETTINGS, feature_variances=[1.0] * 48)).numbers
    for lr in ("0.01", "0.1"):
        assert found[f"quadratic/anisotropic_rate@lr={lr}"] == pytest.approx(found[f"quadratic/rate@lr={lr}"], abs=1e-8)


@pytest.mark.slow
def test_large_schedules_keep_what_is_affordable():
    ring = analyse(Ring(num_nodes=4096), SETTINGS).numbers
    assert ring["graph/diameter"] == 2048
    assert ring["graph/spectral_gap"] == pytest.approx(2 * (1 - np.cos(2 * np.pi / 4096)) / 3, rel=1e-6)
    assert ring["quadratic/best_rate"] == pytest.approx(0.12567, abs=1e-4)
    expander = NetworkX(num_nodes=3000, generator="random_regular_graph", arguments={"d": 6})
    found = analyse(expander, SETTINGS).numbers
    # Of a 6-regular graph without short cycles: sum of squares of a row of W, 1/7.
    assert found["graph/effective_num_neighbors@gamma=0"] == pytest.approx(7, rel=0.02)
    assert found["graph/effective_num_neighbors_worst@gamma=0"] is None
    assert found["quadratic/best_rate"] is None
    assert found["graph/undefined"]["quadratic/best_rate"] == "irregular schedule of more than 600 nodes"
    assert 0 < found["graph/effective_num_neighbors_stderr@gamma=0.951"] < 20


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("algorithm.gammas=[0.5,1.0]", r"algorithm\.gammas=\[0\.5, 1\.0\]: decays lie in \[0, 1\)"),
        ("algorithm.zeta=1", r"algorithm\.zeta=1: expected a number above 1"),
        ("algorithm.target=1.0", r"algorithm\.target=1\.0: expected a number between 0 and 1"),
        ("algorithm.rate_lrs=[0]", r"algorithm\.rate_lrs=\[0\]: expected learning rates in \(0, 1\]"),
        ("algorithm.gossip_rounds=[0]", r"algorithm\.gossip_rounds=\[0\]: expected integers of at least 1"),
        ("algorithm.num_lrs=2", r"algorithm\.num_lrs=2: expected an integer of at least 3"),
        ("algorithm.feature_variances=[0]", r"algorithm\.feature_variances=\[0\]: expected positive"),
        ("algorithm.smoothness=0", r"algorithm\.smoothness=0: expected a positive number"),
    ],
)
def test_bad_settings_are_refused(override, message, composed):
    with pytest.raises(ValueError, match=message):
        config.build(composed(*EXPERIMENT, override))


def test_decays_are_evenly_spaced():
    np.testing.assert_allclose(np.diff(-np.log10(1 - decay_grid(5))), 1.0)
    assert decay_grid(5)[0] == 0
