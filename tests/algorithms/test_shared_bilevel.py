"""What bilevel algorithms with shared variables have in common: graphs, invariants, metrics, minibatches, processes."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from simulator import metrics
from simulator.algorithms.weights import check_weights
from simulator.graphs.base import Edges, Graph
from simulator.graphs.directed_ring import DirectedRing
from simulator.graphs.random_directed import RandomDirected
from simulator.simulation import Simulation
from simulator.testing import placements
from tests.algorithms.shared_quadratic import NUM_NODES, Instance, farthest, outer, run, simulation
from tests.algorithms.simulation import ALGORITHMS, algorithm_class, small
from tests.conftest import compose_settings

ROOT = Path(__file__).parents[2]
SHARED = [name for name in ALGORITHMS if algorithm_class(name).shares_hparams]
COMPRESSED = [name for name in SHARED if algorithm_class(name).uses_compressor]
UNDIRECTED = [name for name in SHARED if name != "push_penalty"]
# Where the defaults end: the stationary point, that of the penalty, or that of personal lower levels.
ENDS = {"dsgda_gt": "x_penalty", "lopa": "x_personal", "push_penalty": "x_penalty"}
ENDS |= dict.fromkeys(("madsbo_gt", "sldbo", "sparkle"), "x_star")

pytestmark = pytest.mark.usefixtures("one_thread")


def compressor_for(name, compressor="top_k"):
    return compressor if name in COMPRESSED else "none"


def test_all_are_there():
    expected = {"c2dfb", "c2dfb_naive", "dsgda_gt", "dsoba", "f2sa", "lopa", "madsbo", "madsbo_gt", "mdbo"}
    assert set(SHARED) == {*expected, "push_penalty", "sldbo", "sparkle"}


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(ENDS))
@pytest.mark.parametrize("graph", ["two_hop_ring", "erdos_renyi"])
def test_defaults_converge(name, graph):
    target = Instance().x_penalty(100.0) if ENDS[name] == "x_penalty" else getattr(Instance(), ENDS[name])()
    state, made = run(name, 400, graph=graph, compressor=compressor_for(name))
    assert farthest(state, made, target) < 1e-4


class Skew(Graph):
    """Doubly stochastic and joined both ways, with unlike weights there and back."""

    directed = False
    stochasticity = "double"

    def edges(self, step):
        return Edges.from_matrix(np.array([[0.5, 0.3, 0.2], [0.2, 0.5, 0.3], [0.3, 0.2, 0.5]]))


@pytest.mark.parametrize("name", UNDIRECTED)
def test_graphs_must_be_undirected_with_symmetric_weights(name):
    algorithm = simulation(name, compressor=compressor_for(name)).algorithm
    with pytest.raises(ValueError, match=f"algorithm={algorithm.name} needs doubly stochastic weights"):
        check_weights(algorithm, RandomDirected(num_nodes=5, rate_low=0.3, rate_high=0.6))
    for graph in (DirectedRing(num_nodes=5), Skew(num_nodes=3)):
        with pytest.raises(
            ValueError, match=f"={algorithm.name} needs symmetric weights, and graph {graph.description}"
        ):
            check_weights(algorithm, graph)


def test_a_schedule_must_not_keep_step_with_the_inner_steps():
    """Eight nodes have three rounds; with five inner steps x would meet the third of them alone."""
    with pytest.raises(
        ValueError, match="repeats after 3 rounds and algorithm=c2dfb has 6 rounds per step, so that x "
    ):
        simulation("c2dfb", graph="one_peer_hypercube", inner_steps=5)
    simulation("c2dfb", graph="one_peer_hypercube", inner_steps=4)
    with pytest.raises(ValueError, match="algorithm=push_penalty has 3 rounds per step, so that x "):
        simulation("push_penalty", graph="one_peer_exponential", inner_steps=2)


class Recorded(Graph):
    """An undirected schedule that records the rounds that are asked for; it has no period, so nothing is cached."""

    directed = False
    stochasticity = "double"
    period = None

    def __init__(self, graph):
        super().__init__(num_nodes=graph.num_nodes)
        self.graph, self.asked = graph, []

    def edges(self, step):
        self.asked.append(step)
        return self.graph.edges(step)


@pytest.mark.parametrize("name", SHARED)
def test_steps_take_the_rounds_that_are_checked(name):
    """The phases of the penalty methods tell x from y; elsewhere variables take turns in the order of the rounds."""
    made = simulation(name, compressor=compressor_for(name))
    made.network.graph = graph = Recorded(made.network.graph)
    state, rounds = made.init(), made.algorithm.rounds
    for step in range(3):
        graph.asked.clear()
        state = made.run(state, step, step + 1)
        setup = list(range(rounds.setup)) if step == 0 else []
        found = list(dict.fromkeys(graph.asked))  # messages that differ by edge ask more than once
        assert found == setup + [index for variable in rounds.counts for index in rounds.of(variable, step)]
    phases = {phase: traffic.messages for phase, traffic in made.network.ledger.phases.items()}
    if rounds.setup:
        expected = {"setup": rounds.setup, "outer": 3 * rounds.counts["x"], "inner": 3 * rounds.counts["y"]}
        assert phases == {phase: 2 * NUM_NODES * count for phase, count in expected.items()}


@pytest.mark.parametrize(("name", "entry"), [("c2dfb", "hparam_tracker"), ("mdbo", "param_tracker")])
def test_a_broken_invariant_is_named(name, entry):
    made = simulation(name, compressor=compressor_for(name), check_invariants=True)
    state = made.run(made.init(), 0, 2)
    state[entry][3] += 1e-3
    variable = "x" if entry.startswith("hparam") else "y"
    with pytest.raises(RuntimeError, match=f"invariant: after step 2 the trackers of {variable} have the mean of"):
        made.run(state, 2, 3)


@pytest.mark.parametrize("name", SHARED)
def test_metrics_of_the_mean_iterate(name):
    state, made = run(name, 4, compressor=compressor_for(name))
    numbers = metrics.evaluate(made.algorithm, state, 4, made.problem, made.network).numbers
    x = outer(state, made)
    expected = np.linalg.norm(x.mean(0) - Instance().x_star())
    np.testing.assert_allclose(numbers["mean_iterate/outer/distance"], expected, rtol=1e-9)
    y = made.estimate(state).numpy()
    y = y if made.algorithm.personalizes else y.mean(0, keepdims=True)
    expected = np.linalg.norm(y - Instance().y_star(x.mean(0)), axis=1).mean()
    np.testing.assert_allclose(numbers["mean_iterate/inner/distance"], expected, rtol=1e-9)
    expected = np.sqrt(np.square(x - x.mean(0)).sum(1).mean())
    np.testing.assert_allclose(numbers["hparams/consensus_distance"], expected, rtol=1e-9)
    assert numbers["hparams/consensus_distance"] > 1e-3
    worst = np.linalg.norm(x - Instance().x_star(), axis=1).max()
    np.testing.assert_allclose(numbers["outer/distance_worst"], worst, rtol=1e-9)


@pytest.mark.parametrize("name", SHARED)
def test_hyperparameters_stay_within_their_range(name):
    state, made = run(name, 40, compressor=compressor_for(name), hparam_range=[-0.02, 0.03])
    x = outer(state, made)
    assert x.min() >= -0.02 - 1e-12
    assert x.max() <= 0.03 + 1e-12
    assert np.isclose(x, 0.03, rtol=0, atol=1e-9).any()


def test_a_range_has_two_ends_in_order():
    for bounds in ([1, 0], [1]):
        with pytest.raises(ValueError, match=r"algorithm\.hparam_range=.*expected \[low, high\], or null"):
            simulation("dsoba", hparam_range=bounds)


def settings_with_minibatches(name):
    return small(name, "graph=ring", "algorithm.check_invariants=true")


def with_minibatches(name, full_batch=False):
    settings = settings_with_minibatches(name)
    return Simulation.build({**settings, "algorithm": {**settings["algorithm"], "full_batch": full_batch}})


def asked_for(made, num_steps, monkeypatch):
    """The minibatches that each of a problem's functions was asked for, in order."""
    asked = {}
    for key in ("add_grad_", "inner_grads", "outer_grads", "second_order"):
        function = getattr(made.problem, key)
        position = {"add_grad_": 3, "inner_grads": 2, "outer_grads": 2, "second_order": 3}[key]

        def record(*arguments, function=function, key=key, position=position):
            asked.setdefault(key, []).append(arguments[position])
            return function(*arguments)

        monkeypatch.setattr(made.problem, key, record)
    made.run(made.init(), 0, num_steps)
    return asked


@pytest.mark.slow
@pytest.mark.parametrize("name", SHARED)
def test_trackers_keep_their_means_on_minibatches(name):
    made = with_minibatches(name)
    state = made.run(made.init(), 0, 5)
    full = with_minibatches(name, full_batch=True)
    other = full.run(full.init(), 0, 5)
    assert not torch.equal(made.estimate(state), full.estimate(other))


@pytest.mark.parametrize("name", SHARED)
def test_every_gradient_has_a_minibatch_of_its_own(name, monkeypatch):
    made = with_minibatches(name)
    asked = asked_for(made, 3, monkeypatch)
    found = sorted({step for steps in asked.values() for step in steps})
    assert found == list(range(len(found)))
    assert len(found) >= 3
    if name in ("c2dfb", "c2dfb_naive", "f2sa", "push_penalty"):
        per_call = made.algorithm.inner_steps + 2
        assert len(found) == 4 * per_call
        # Both solvers on one minibatch, and in the surrogate both gradients along x.
        last = list(range(per_call - 1, 4 * per_call, per_call))
        assert asked["inner_grads"] == [step for step in last for _ in "yz"]
    full = with_minibatches(name, full_batch=True)
    assert {step for steps in asked_for(full, 2, monkeypatch).values() for step in steps} == {None}


@pytest.mark.slow
def test_any_number_of_processes_gives_the_same(tmp_path):
    """Five steps on 1, 2 and 4 processes, compressed where possible, and on a schedule that changes."""
    cases = {}
    for name in SHARED:
        for graph in ("ring", "one_peer_hypercube"):
            if name.startswith("madsbo") and graph == "one_peer_hypercube":
                continue
            overrides = ["experiment=bilevel_quadratic", f"algorithm={name}", f"graph={graph}", "num_threads=1"]
            overrides += [f"compressor={compressor_for(name)}", "device=cpu"]
            cases[f"{name}_{graph}"] = compose_settings(*overrides)
    cases["c2dfb_qsgd"] = compose_settings("experiment=bilevel_quadratic", "compressor=qsgd", "device=cpu")
    placements.start(cases, tmp_path, num_steps=5, world_sizes=(1, 2, 4))
    for name in cases:
        reports = {size: json.loads((tmp_path / f"{name}_{size}.json").read_text()) for size in (1, 2, 4)}
        states = {size: torch.load(tmp_path / f"{name}_{size}.pt", weights_only=True) for size in (1, 2, 4)}
        assert sum(reports[1]["counts"]["sent"]) > 0
        for size in (2, 4):
            assert reports[size]["wire_bytes"] > 0
            assert reports[size]["counts"] == reports[1]["counts"], name
            for key, rows in states[1].items():
                assert len(rows) == NUM_NODES
                torch.testing.assert_close(
                    states[size][key], rows, rtol=0, atol=1e-10, msg=lambda text, at=(name, key): f"{at}: {text}"
                )
