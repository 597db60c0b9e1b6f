"""Each rule across components has a failing example, and its message says what, where and which values are allowed."""

import copy
from dataclasses import replace

import numpy as np
import pytest

from simulator import config
from simulator.graphs.base import Edges, PeriodicGraph
from simulator.job import Job, run_job
from simulator.processes import World


@pytest.fixture(scope="module")
def quadratic(composed):
    return composed("problem=quadratic", "num_nodes=6", "graph=ring", "num_threads=1", "figures=false")


def check(settings, world_size=1, **changes):
    components = replace(config.build(settings), **changes)
    config.check(settings, components, world_size)


def changed(settings, path, value):
    settings = copy.deepcopy(settings)
    section = settings
    *parents, key = path.split(".")
    for name in parents:
        section = section[name]
    assert key in section
    section[key] = value
    return settings


def test_a_good_configuration_passes(quadratic):
    check(quadratic)
    check(quadratic, world_size=6)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("num_nodes", 0, r"num_nodes=0: (expected an integer of )?at least (1|one node)"),
        ("num_steps", 0, r"num_steps=0: expected an integer of at least 1"),
        ("eval_every", 0, r"eval_every=0: expected an integer of at least 1"),
        ("seed", -1, r"seed=-1: expected an integer of at least 0"),
        ("checkpoint.every", -1, r"checkpoint\.every=-1: expected steps, or 0"),
        ("budget.bytes", 0.0, r"budget\.bytes=0\.0: expected a positive number, or null"),
        ("budget.oracle_calls", -2.0, r"budget\.oracle_calls=-2\.0: expected a positive number, or null"),
        ("timeout_s", 0.0, r"timeout_s=0\.0: expected a positive number"),
        ("timeout_s", float("nan"), r"timeout_s=nan: expected a positive number"),
        ("link.latency_s", -0.1, r"link\.latency_s=-0\.1: expected"),
        ("link.bandwidth_bytes_per_s", 0.0, r"link\.bandwidth_bytes_per_s=0\.0: expected a positive number"),
        ("dtype", "float16", r"dtype='float16': expected float32 or float64"),
        ("evaluate_samples", 0, r"evaluate_samples=0: expected at least 1, or null"),
        ("evaluate_train", "never", r"evaluate_train='never': expected always or ends"),
        ("num_threads", 0, r"num_threads=0: expected at least 1, or null"),
        ("num_nodes", 7, r"graph\.num_nodes=6: expected num_nodes=7"),
    ],
)
def test_each_rule_of_the_root(quadratic, path, value, message):
    with pytest.raises(ValueError, match=message) as caught:
        check(changed(quadratic, path, value))
    assert "\n" not in str(caught.value)


def test_a_problem_without_samples_cannot_read_fewer(quadratic):
    with pytest.raises(ValueError, match=r"evaluate_samples=50: .* does not evaluate a model on samples one by one"):
        check(changed(quadratic, "evaluate_samples", 50))


def test_latency_may_be_zero(quadratic):
    check(changed(quadratic, "link.latency_s", 0.0))


def test_more_processes_than_nodes(quadratic):
    with pytest.raises(ValueError, match=r"7 processes for num_nodes=6: .* start at most 6 processes"):
        check(quadratic, world_size=7)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["algorithm=dsgd", "graph=random_directed"],
            r"algorithm=dsgd needs doubly stochastic weights, and graph RandomDirected is column-stochastic; "
            r"use algorithm=sgp there",
        ),
        (["graph=erdos_renyi", "graph.probability=0.001"], r"graph of 6 nodes: none of 1000 draws is connected"),
        (["algorithm=hgp", "problem.num_hyperparameters=0"], r"problem: Quadratic has no hyperparameters"),
        (["device=tpu"], r"device='tpu': expected auto, cpu or cuda"),
    ],
)
def test_each_rule_between_components(composed, overrides, message, tmp_path):
    """Through a run, which may get no further."""
    settings = composed("problem=quadratic", "num_nodes=6", "num_threads=1", "figures=false", *overrides)
    with pytest.raises(ValueError, match=message):
        run_job(Job(settings, str(tmp_path)), World(), None)
    assert not list(tmp_path.iterdir())


class Given(PeriodicGraph):
    directed = True

    def __init__(self, matrix, stochasticity):
        super().__init__(num_nodes=len(matrix))
        self.matrix, self.declared = np.asarray(matrix, dtype=float), stochasticity

    @property
    def stochasticity(self):
        return self.declared

    def build(self, phase):
        return Edges.from_matrix(self.matrix)


def test_row_stochastic_weights_are_refused_by_push_sum(quadratic):
    rows = np.full((6, 6), 1 / 6)
    message = "sgp needs column-stochastic or doubly stochastic weights, and graph Given is row-stochastic"
    with pytest.raises(ValueError, match=message):
        check(quadratic, graph=Given(rows, "row"))


def test_a_graph_that_does_not_keep_what_it_declares(quadratic):
    matrix = np.eye(6)
    matrix[0, 1] = 0.5
    with pytest.raises(ValueError, match=r"Given declares stochasticity 'column', but in round 0"):
        check(quadratic, graph=Given(matrix, "column"))


def test_a_graph_that_cannot_mix(quadratic):
    halves = np.kron(np.eye(2), np.full((3, 3), 1 / 3))
    with pytest.raises(ValueError, match=r"graph Given cannot mix: .* 2 strongly connected components of 6 nodes"):
        check(quadratic, graph=Given(halves, "double"))


def test_a_bilevel_algorithm_needs_a_bilevel_problem(composed, quadratic):
    settings = composed("problem=quadratic", "num_nodes=6", "graph=ring", "algorithm=hgp")

    class Plain:
        uses_data = False

    with pytest.raises(ValueError, match=r"problem: algorithm=hgp needs a bilevel problem, and Plain is none"):
        check(settings, problem=Plain())


def test_groups_that_nothing_uses_are_refused_when_they_were_chosen(quadratic):
    components = config.build(quadratic)
    choices = {"dataset": "mnist", "partition": "iid", "model": "mlp"}
    config.check_choices(choices, set(), components)
    for group in choices:
        with pytest.raises(ValueError, match=f"{group}={choices[group]}: problem Quadratic uses no {group}; leave it"):
            config.check_choices(choices, {group, "graph"}, components)


def test_a_linear_problem_uses_data_but_no_model(composed):
    components = config.build(composed("problem=coefficient_tuning"))
    assert components.dataset is not None
    assert components.build_model is None
    config.check_choices({"dataset": "digits"}, {"dataset", "partition"}, components)
    with pytest.raises(ValueError, match="model=mlp: problem CoefficientTuning uses no model; leave it out"):
        config.check_choices({"model": "mlp"}, {"model"}, components)


def test_a_problem_that_uses_data_may_choose_them(composed):
    components = config.build(composed())
    config.check_choices({"dataset": "mnist"}, {"dataset"}, components)
