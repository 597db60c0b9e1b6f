"""The contract of simulator/algorithms/base.py, over every algorithm in conf/algorithm."""

import re
from dataclasses import dataclass, replace
from functools import cache
from typing import ClassVar

import pytest
import torch

from simulator import config
from simulator.algorithms.base import Algorithm
from simulator.algorithms.weights import Weights, check_weights
from simulator.checkpoint import HUB_PREFIX
from simulator.graphs.base import Edges, PeriodicGraph
from simulator.graphs.exponential import Exponential
from simulator.graphs.hub import Hub
from simulator.graphs.one_peer_exponential import OnePeerExponential
from simulator.graphs.random_directed import RandomDirected
from simulator.graphs.ring import Ring
from simulator.graphs.star import Star
from simulator.network.mailboxes import MAIL_PREFIX
from simulator.simulation import Simulation
from simulator.testing.states import check_shapes, stated
from tests.algorithms.simulation import ALGORITHMS, algorithm_class, small
from tests.conftest import compose_settings

NUM_STEPS = 6
NUM_NODES = 5
EVERY_KIND = (
    Hub(num_nodes=NUM_NODES),
    RandomDirected(num_nodes=NUM_NODES, rate_low=0.3, rate_high=0.6),
    OnePeerExponential(num_nodes=NUM_NODES),
    Exponential(num_nodes=NUM_NODES),
    Star(num_nodes=NUM_NODES),
    Ring(num_nodes=NUM_NODES),
)
PROBLEMS = ("quadratic", "classification", "l2_decay", "model_sizes")
# These take every graph (with their default settings).
ON_EVERY_GRAPH = {"data_exchange", "divshare", "push_pull", "topology_analysis", "trimmed_mean"}
# Settings, one changed at a time, with which algorithms have further keys in their state.
SWITCHES = (
    {"momentum": 0.5},
    {"order": "combine_and_adapt"},
    {"aggregation": "fedbuff"},
    {"momentum": 0.0},
    {"ema": 0.5},
    {"error_feedback": True},
    {"error_feedback": False},
    {"normalize": "nodes"},
    {"normalize": "count"},
    {"adaptation_epochs": 1},
    {"stale_eval": True, "mixer": "ps"},
    {"spectral_norm": True},
    {"reset_momentum": True},
    {"reset_momentum": False, "outer_momentum": 0.5},
    {"optimizer": "adam"},
    {"inner_optimizer": "sgd", "momentum": 0.5},
    {"inner_optimizer": "adamw"},
    {"gradient_tracking": True},
    {"gradient_tracking": False},
)

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(params=ALGORITHMS)
def name(request):
    return request.param


def called(settings: dict, name: str) -> dict:
    return {**settings, "choices": {"algorithm": name}}


# ----- weights and names


class Asymmetric(PeriodicGraph):
    """Doubly stochastic and joined both ways; in the second of two rounds the weights there and back differ."""

    directed = False
    stochasticity = "double"
    period = 2

    def build(self, phase):
        third = torch.full((3, 3), 1 / 3, dtype=torch.float64)
        unlike = torch.tensor([[0.5, 0.3, 0.2], [0.2, 0.5, 0.3], [0.3, 0.2, 0.5]], dtype=torch.float64)
        return Edges.from_matrix((third, unlike)[phase].numpy())


@dataclass(frozen=True, kw_only=True)
class Idle(Algorithm):
    weights: ClassVar[Weights] = Weights.ANY

    def init(self, problem, network):
        return {}

    def step(self, state, step, problem, network):
        return state

    def estimate(self, state):
        raise NotImplementedError


def test_an_algorithm_that_does_not_declare_its_weights_is_an_error():
    with pytest.raises(TypeError, match=r"Silent must say what it needs of the mixing matrix.*Weights\.DOUBLY"):

        class Silent(Algorithm):
            init, step, estimate = Idle.init, Idle.step, Idle.estimate

    class AbstractBase(Algorithm):
        """Needs none: it is not complete."""


@pytest.mark.parametrize(
    ("weights", "refused"),
    [
        (Weights.ANY, ()),
        (Weights.COLUMN_STOCHASTIC, ("Hub",)),
        (Weights.DOUBLY_STOCHASTIC, ("Hub", "RandomDirected")),
        (Weights.SYMMETRIC, ("Hub", "RandomDirected", "OnePeerExponential", "Exponential", "Asymmetric")),
    ],
)
def test_what_each_kind_of_weights_refuses(weights, refused):
    class Declared(Idle):
        pass

    Declared.weights = weights
    messages = {}
    for graph in (*EVERY_KIND, Asymmetric(num_nodes=3)):
        try:
            check_weights(Declared(), graph)
        except ValueError as error:
            messages[graph.description] = str(error)
    assert sorted(messages) == sorted(refused)
    for message in messages.values():
        assert message.startswith("algorithm=test_contracts needs ")
        assert "graph=ring" in message


def test_push_sum_is_recommended_for_column_stochastic_weights_only():
    algorithm = algorithm_of("dsgd", compose_settings("algorithm=dsgd", "problem=quadratic"))
    with pytest.raises(ValueError, match="column-stochastic; use algorithm=sgp there, or an undirected graph"):
        check_weights(algorithm, RandomDirected(num_nodes=5, rate_low=0.3, rate_high=0.6))
    with pytest.raises(ValueError, match="row-stochastic; use an undirected graph"):
        check_weights(algorithm, Hub(num_nodes=5))


def algorithm_of(name: str, settings: dict) -> Algorithm:
    return config.build(called(settings, name)).algorithm


def test_every_refusal_says_what_was_typed(name):
    components = config.build(called(compose_settings(f"algorithm={name}", "problem=quadratic"), name))
    assert components.algorithm.name == name
    messages = []
    for graph in EVERY_KIND:
        try:
            check_weights(components.algorithm, graph)
            components.algorithm.check_graph(graph)
        except ValueError as error:
            messages.append(str(error))
    assert bool(messages) == (name not in ON_EVERY_GRAPH)
    settings = small(name)
    on_graph, num_problems = config.build(called(settings, name)), 0
    for problem in PROBLEMS:
        try:
            config.check(settings, replace(on_graph, problem=problem_of(problem)), 1)
        except ValueError as error:
            messages.append(str(error))
            num_problems += 1
    assert num_problems, "no problem is refused"
    for message in messages:
        assert re.search(rf"algorithm={name}(?!\w)", message), message


@cache
def problem_of(name: str):
    return config.build(compose_settings(f"problem={name}")).problem


def test_without_a_configuration_the_module_gives_the_name():
    assert Idle().name == "test_contracts"
    assert Idle().named("something").name == "something"


# ----- the state


def configurations(name: str) -> list[dict]:
    """Settings of a small run: as they are, with every switch that the algorithm has, and on other kinds of graphs."""
    settings = small(name)
    found = [settings]
    for switch in SWITCHES:
        if all(key in settings["algorithm"] for key in switch):
            found.append({**settings, "algorithm": {**settings["algorithm"], **switch}})
    if algorithm_class(name).takes_late_messages:
        found.append({**settings, "faults": compose_settings("faults=message_delay")["faults"]})
    if algorithm_class(name).uses_compressor:
        for graph in ("ring", "random_matching", "exponential", "random_directed"):
            found.append({**settings, "graph": compose_settings(f"graph={graph}", f"num_nodes={NUM_NODES}")["graph"]})
    return found


def simulations(name: str):
    """The simulations of these configurations that are allowed."""
    built = 0
    for settings in configurations(name):
        try:
            yield Simulation.build(settings)
        except ValueError:
            continue
        built += 1
    assert built


def test_the_state_is_what_the_docstring_says(name):
    kind, seen = algorithm_class(name), set()
    for simulation in simulations(name):
        state, problem = simulation.init(), simulation.problem
        seen |= set(state)
        known = {"N": NUM_NODES, "M": NUM_NODES, "D": problem.num_params, "H": problem.num_hparams}
        check_shapes(state, kind, known)
        check_shapes(simulation.run(state, 0, 1), kind, known)
    always, sometimes = stated(kind)
    # Studies by SGP that refuse late messages have its State: line.
    possible = {key for key in {*always, *sometimes} if kind.takes_late_messages or not key.startswith("in_flight/")}
    assert seen == possible, "a key that never appears"


def test_hub_keys_begin_with_the_prefix_that_checkpoints_know(name):
    for key, shape in {**stated(algorithm_class(name))[0], **stated(algorithm_class(name))[1]}.items():
        first = shape.split(",")[0].strip()
        kinds = {HUB_PREFIX: "1", MAIL_PREFIX: "S"}
        assert first == next((kinds[p] for p in kinds if key.startswith(p)), "N"), f"{key} [{shape}]"
