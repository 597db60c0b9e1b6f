"""The checks across components: before any data are read, and after the problem is set up."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from simulator.config.capabilities import algorithms_that
from simulator.config.components import Components
from simulator.config.schema import DTYPES, EVALUATE_TRAIN

if TYPE_CHECKING:
    from simulator.graphs.base import Graph


def check(config: Mapping[str, Any], components: Components, world_size: int) -> None:
    """Checks values of the root and what components need of each other.

    Raises:
        ValueError: one line that says what, where, and which values are allowed.
    """
    from simulator.placement import Placement
    from simulator.problems.base import BilevelProblem

    for name, smallest in (("num_nodes", 1), ("num_steps", 1), ("eval_every", 1), ("seed", 0)):
        if config[name] < smallest:
            raise ValueError(f"{name}={config[name]}: expected an integer of at least {smallest}")
    if config["checkpoint"]["every"] < 0:
        raise ValueError(f"checkpoint.every={config['checkpoint']['every']}: expected steps, or 0 for none in between")
    for name, amount in config["budget"].items():
        if amount is not None and not 0 < amount < math.inf:
            raise ValueError(f"budget.{name}={amount}: expected a positive number, or null")
    for name in ("timeout_s", "link.latency_s", "link.bandwidth_bytes_per_s"):
        section, _, key = name.rpartition(".")
        value = config[section][key] if section else config[key]
        if not (value > 0 or (key == "latency_s" and value == 0)):
            raise ValueError(f"{name}={value}: expected a positive number")
    if config.get("figures", True) not in (True, False, "pdf", "auto"):
        raise ValueError(f"figures={config['figures']!r}: expected true, false, pdf or auto")
    if config["dtype"] not in DTYPES:
        raise ValueError(f"dtype={config['dtype']!r}: expected {' or '.join(DTYPES)}")
    if config["evaluate_train"] not in EVALUATE_TRAIN:
        raise ValueError(f"evaluate_train={config['evaluate_train']!r}: expected {' or '.join(EVALUATE_TRAIN)}")
    if config["evaluate_samples"] is not None:
        _check_evaluate_samples(config["evaluate_samples"], components)
    if config["num_threads"] is not None and config["num_threads"] < 1:
        raise ValueError(f"num_threads={config['num_threads']}: expected at least 1, or null")
    objective = config["objective"]
    names = objective if isinstance(objective, list) else [objective or "a"]
    if not names or not all(isinstance(name, str) for name in names):
        raise ValueError(f"objective={objective}: expected a name in summary.json, a list of them, or null")
    Placement(config["num_nodes"], world_size)

    algorithm, graph, problem = components.algorithm, components.graph, components.problem
    name = f"algorithm={algorithm.name}"
    if algorithm.needs_bilevel and not isinstance(problem, BilevelProblem):
        raise ValueError(f"problem: {name} needs a bilevel problem, and {type(problem).__name__} is none")
    if graph.num_nodes != config["num_nodes"]:
        raise ValueError(f"graph.num_nodes={graph.num_nodes}: expected num_nodes={config['num_nodes']}")
    _check_timing(config, components)
    _check_delays(components)
    _check_churn(components)
    _check_attackers(components)
    algorithm.check_problem(problem)
    if problem.mixes_architectures and not algorithm.keeps_models_apart and not _is_alone(graph):
        raise ValueError(
            f"problem: {name} makes one model of several, and those of {type(problem).__name__} differ in "
            "architecture; use algorithm=pfedhn_sizes, or graph=self_loop for local training"
        )
    if not graph.needs_label_counts:
        check_graph(components)


def _check_evaluate_samples(number: int, components: Components) -> None:
    """Checks that the problem can read fewer samples than there are."""
    if number < 1:
        raise ValueError(f"evaluate_samples={number}: expected at least 1, or null for all")
    if not components.problem.reads_samples:
        raise ValueError(
            f"evaluate_samples={number}: {type(components.problem).__name__} does not evaluate a model on samples one "
            "by one; use evaluate_samples=null"
        )


def _check_timing(config: Mapping[str, Any], components: Components) -> None:
    """Reads the timing's files and checks them."""
    name = components.algorithm.name
    if components.timing is None:
        if components.algorithm.asynchronous:
            raise ValueError(
                f"timing=none: algorithm={name} needs to know how long steps take; use timing=constant, lognormal, "
                "two_speed or trace"
            )
        for key in ("max_sim_s", "eval_every_s"):
            if config[key] is not None:
                raise ValueError(f"{key}={config[key]}: timing=none has no such time; use for example timing=constant")
        return
    for key in ("max_sim_s", "eval_every_s"):
        if config[key] is not None and not 0 < config[key] < math.inf:
            raise ValueError(f"{key}={config[key]}: expected a positive number of seconds, or null")
    if components.timing.num_nodes != config["num_nodes"]:
        raise ValueError(f"timing.num_nodes={components.timing.num_nodes}: expected num_nodes={config['num_nodes']}")
    components.timing.check()


def _check_delays(components: Components) -> None:
    """Checks that the algorithm knows what to do with messages that are late, and that nothing else delays them."""
    if not components.graph.max_delay:
        return
    if not components.algorithm.takes_late_messages:
        raise ValueError(
            f"faults.max_delay={components.graph.max_delay}: algorithm={components.algorithm.name} has no use for "
            f"messages that are late; use algorithm={algorithms_that('takes_late_messages')}"
        )
    if components.timing is not None:
        raise ValueError(
            f"timing: faults.max_delay={components.graph.max_delay} says how late messages are, in rounds, and clocks "
            "would say it again, in seconds; use timing=none"
        )


def _check_churn(components: Components) -> None:
    """Reads the trace of nodes that leave, and checks that the algorithm knows what to do when they do."""
    from simulator.algorithms.weights import Weights
    from simulator.faults.churn import Churn

    algorithm, graph = components.algorithm, components.graph
    if not isinstance(graph, Churn):
        return
    graph.check()
    if not algorithm.survives_churn:
        raise ValueError(
            f"faults: algorithm={algorithm.name} cannot go on while nodes leave; use "
            f"algorithm={algorithms_that('survives_churn')}"
        )
    if graph.mass == "hands_over" and algorithm.weights is not Weights.COLUMN_STOCHASTIC:
        raise ValueError(
            f"faults.mass=hands_over: algorithm={algorithm.name} has no push-sum weights to hand over; use "
            "faults.mass=keeps, or algorithm=sgp"
        )


def _check_attackers(components: Components) -> None:
    """Checks that the algorithm sends what attackers can replace."""
    from simulator.faults.byzantine import Byzantine

    if isinstance(components.graph, Byzantine) and not components.algorithm.admits_attackers:
        raise ValueError(
            f"faults: what algorithm={components.algorithm.name} sends is not defined for attackers; use "
            f"algorithm={algorithms_that('admits_attackers')}; clipped_gossip and trimmed_mean withstand some of them"
        )


def _is_alone(graph: "Graph") -> bool:
    """Whether no node ever receives a message from another one."""
    from simulator.faults.base import beneath_faults
    from simulator.graphs.self_loop import SelfLoop

    return isinstance(beneath_faults(graph), SelfLoop)


def check_graph(components: Components) -> None:
    """Checks the graph's edges, and that the algorithm can run on it.

    Raises:
        ValueError: when the graph has wrong edges, or the algorithm cannot run on it.
    """
    from simulator.algorithms.weights import check_weights
    from simulator.faults.message_delay import MessageDelay
    from simulator.graphs.connectivity import check_mixes, check_stochastic

    check_weights(components.algorithm, components.graph)
    components.algorithm.check_graph(components.graph)
    check_stochastic(components.graph)
    check_mixes(components.graph)
    if isinstance(components.graph, MessageDelay):
        components.graph.check_shares()


def finish_graph(components: Components) -> None:
    """Passes the label counts to a graph that depends on them, after the problem is set up, and checks the graph.

    A study of the graph alone has no data. Every node then counts as one that holds a single label.

    Raises:
        ValueError: when the nodes have no labels, and for the reasons of :func:`check_graph`.
    """
    from simulator.graphs.base import one_label_each

    graph, problem = components.graph, components.problem
    if not graph.needs_label_counts:
        return
    label_counts = problem.facts().label_counts
    if label_counts is None and components.algorithm.studies_graph:
        label_counts = one_label_each(graph.num_nodes)
    if label_counts is None:
        raise ValueError(
            f"graph: {graph.description} depends on the nodes' labels, and problem {type(problem).__name__} has none; "
            "use another graph, or for example problem=classification"
        )
    graph.use_label_counts(label_counts)
    check_graph(components)


def check_hyperparameters(components: Components) -> None:
    """Checks, after the problem is set up, that it has hyperparameters if the algorithm tunes them.

    Raises:
        ValueError: when the algorithm tunes hyperparameters and the problem has none.
    """
    if components.algorithm.needs_bilevel and components.problem.num_hparams == 0:
        raise ValueError(
            f"problem: {type(components.problem).__name__} has no hyperparameters, which "
            f"algorithm={components.algorithm.name} tunes; use for example problem=logit_scaling"
        )


def check_choices(choices: Mapping[str, Any], overridden: set[str], components: Components) -> None:
    """Checks that every group chosen on the command line is used.

    Args:
        choices: the chosen name of every group.
        overridden: the groups that the user chose on the command line.

    Raises:
        ValueError: naming the group.
    """
    problem = components.problem
    used = {"dataset": problem.uses_data, "partition": problem.uses_data}
    used["model"] = problem.uses_data and problem.uses_model
    for group, is_used in used.items():
        if group in overridden and not is_used:
            raise ValueError(
                f"{group}={choices[group]}: problem {type(components.problem).__name__} uses no {group}; leave it out"
            )
