"""The closed root schema, building components from YAML, and the checks across components.

Everything that can be known to be wrong is found here, before the first step, as one line.
"""

import inspect
from collections.abc import Mapping, Set
from dataclasses import dataclass, field, fields, is_dataclass
from types import UnionType
from typing import TYPE_CHECKING, Any, Union, cast, get_args, get_origin, get_type_hints

from omegaconf import MISSING

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from simulator.algorithms.base import Algorithm
    from simulator.data.base import Dataset, Partition
    from simulator.graphs.base import Graph
    from simulator.loggers.base import Logger
    from simulator.problems.base import Problem


@dataclass
class CheckpointConfig:
    """Section ``checkpoint``."""

    every: int = MISSING


@dataclass
class LinkConfig:
    """Section ``link``: the model behind ``time/sim_s``."""

    latency_s: float = MISSING
    bandwidth_bytes_per_s: float = MISSING


@dataclass
class Root:
    """All keys of a configuration; a key that is not here is an error. Values are in ``conf/config.yaml``."""

    num_nodes: int = MISSING
    num_steps: int = MISSING
    seed: int = MISSING
    eval_every: int = MISSING
    dtype: str = MISSING
    device: str = MISSING
    compute: str = MISSING
    num_threads: int | None = None
    timeout_s: float = MISSING
    data_root: str = MISSING
    resume: str | None = None
    figures: bool = MISSING
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    link: LinkConfig = field(default_factory=LinkConfig)
    algorithm: Any = MISSING
    graph: Any = MISSING
    problem: Any = MISSING
    dataset: Any = MISSING
    partition: Any = MISSING
    model: Any = MISSING
    compressor: Any = MISSING
    faults: Any = MISSING
    logger: Any = MISSING
    launcher: Any = MISSING


def check_keys(config: Mapping[str, Any]) -> None:
    """Checks that nothing was appended (``+key=value``) that nobody reads; components check their own settings.

    Raises:
        ValueError: naming the key.
    """
    levels = (
        ("", config, [entry.name for entry in fields(Root)]),
        ("checkpoint.", config["checkpoint"], [entry.name for entry in fields(CheckpointConfig)]),
        ("link.", config["link"], [entry.name for entry in fields(LinkConfig)]),
        ("launcher.", config["launcher"], ["num_processes"]),
    )
    for prefix, section, allowed in levels:
        for key in section:
            if key not in allowed:
                raise ValueError(
                    f"{prefix}{key}: there is no such key; {prefix or 'the root.'}* has: {', '.join(allowed)}"
                )


def register_schema() -> None:
    """Makes the schema known to Hydra as ``schema``."""
    from hydra.core.config_store import ConfigStore

    ConfigStore.instance().store(name="schema", node=Root)


@dataclass(frozen=True)
class Components:
    """What a configuration builds; nothing has been read, drawn or allocated yet."""

    algorithm: "Algorithm"
    graph: "Graph"
    problem: "Problem"
    dataset: "Dataset | None"
    partition: "Partition | None"
    build_model: "Callable[..., nn.Module] | None"
    logger: "Logger | None"


def build(config: Mapping[str, Any]) -> Components:
    """Builds the components of a resolved configuration.

    Raises:
        ValueError: naming the section, when a value is not allowed or a key unknown.
    """
    problem = _instantiate(config, "problem")
    uses_data = problem.uses_data
    graph = _instantiate(config, "graph")
    if config["faults"]:
        graph = _instantiate(config, "faults", graph=graph)
    return Components(
        algorithm=_algorithm(config),
        graph=graph,
        problem=problem,
        dataset=_instantiate(config, "dataset") if uses_data else None,
        partition=_instantiate(config, "partition") if uses_data else None,
        build_model=_instantiate(config, "model") if uses_data and problem.uses_model else None,
        logger=_instantiate(config, "logger") if config["logger"] else None,
    )


def _algorithm(config: Mapping[str, Any]) -> "Algorithm":
    """The algorithm, with the compressor where it uses one; without one its messages go as they are."""
    compressor = _instantiate(config, "compressor") if config["compressor"] else None  # an idle one is checked too
    further = {}
    if _class_of(config, "algorithm").uses_compressor:
        if compressor is None:
            from simulator.compressors.identity import Identity

            compressor = Identity(consensus_lr=0.5)
        further["compressor"] = compressor
    algorithm = cast("Algorithm", _instantiate(config, "algorithm", **further))
    chosen = config.get("choices", {}).get("algorithm")
    return algorithm.named(chosen) if chosen else algorithm


def _class_of(config: Mapping[str, Any], section: str) -> Any:
    from hydra.utils import get_class

    target = config[section].get("_target_")
    if not isinstance(target, str):
        raise ValueError(f"{section}: its file in conf/{section}/ needs a _target_, the class to build")
    try:
        return get_class(target)
    except ImportError as error:
        raise ValueError(f"{section}: {' '.join(str(error).split())}") from error


def _instantiate(config: Mapping[str, Any], section: str, **further: Any) -> Any:
    from hydra.errors import InstantiationException
    from hydra.utils import instantiate

    settings = dict(config[section])
    target = _class_of(config, section)
    try:
        _check_settings(section, target, settings, {*further, "input_shape", "num_classes"})
        if not further:
            return instantiate(settings)
        # Handed over as they are: instantiate would make a configuration of a dataclass.
        return instantiate({**settings, "_partial_": True})(**further)
    except (InstantiationException, ImportError) as error:
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        text = " ".join(str(cause).split())
        raise ValueError(text if isinstance(cause, ValueError) else f"{section}: {text}") from error


def _check_settings(section: str, target: type, settings: Mapping[str, Any], given: Set[str]) -> None:
    """Checks that a class has these settings and that they are of its types; so for components within it.

    Args:
        section: where the settings are, such as ``graph`` or ``graph.base``.
        target: the class.
        settings: of its constructor.
        given: arguments that the simulator adds itself.
    """
    from hydra.utils import get_class

    allowed = set(inspect.signature(target).parameters)
    unknown = [key for key in settings if key not in allowed and key not in ("_target_", "_partial_")]
    if unknown:
        keys = ", ".join(sorted(allowed - given))
        wrong = f"{section}.{unknown[0]}"
        raise ValueError(
            f"{wrong} is no setting of {target.__name__}; it has: {keys}; "
            f"if an experiment sets it, drop it with '~{wrong}'"
        )
    _check_types(section, target, settings)
    inner = [(f"{section}.{key}", value) for key, value in settings.items()]
    while inner:
        path, value = inner.pop()
        if not isinstance(value, Mapping):
            continue
        if "_target_" in value:
            _check_settings(path, get_class(value["_target_"]), value, frozenset())
        else:
            inner += [(f"{path}.{key}", entry) for key, entry in value.items()]


def _check_types(section: str, target: type, settings: Mapping[str, Any]) -> None:
    """Checks numbers, words and switches against the annotations of the constructor."""
    hints = get_type_hints(target if is_dataclass(target) else inspect.getattr_static(target, "__init__"))
    for key, value in settings.items():
        hint = hints.get(key)
        allowed = list(get_args(hint)) if get_origin(hint) in (Union, UnionType) else [hint]
        if hint is None or not all(kind in _SCALARS for kind in allowed):
            continue
        fits = type(value) in allowed or (type(value) is int and float in allowed)
        if not fits:
            words = " or ".join(_SCALARS[kind] for kind in allowed)
            raise ValueError(f"{section}.{key}={value}: expected {words}")


_SCALARS: dict[Any, str] = {
    int: "an integer",
    float: "a number",
    bool: "true or false",
    str: "a word",
    type(None): "null",
}


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
    for name in ("timeout_s", "link.latency_s", "link.bandwidth_bytes_per_s"):
        section, _, key = name.rpartition(".")
        value = config[section][key] if section else config[key]
        if not (value > 0 or (key == "latency_s" and value == 0)):
            raise ValueError(f"{name}={value}: expected a positive number")
    if config["dtype"] not in DTYPES:
        raise ValueError(f"dtype={config['dtype']!r}: expected {' or '.join(DTYPES)}")
    if config["num_threads"] is not None and config["num_threads"] < 1:
        raise ValueError(f"num_threads={config['num_threads']}: expected at least 1, or null")
    Placement(config["num_nodes"], world_size)

    algorithm, graph, problem = components.algorithm, components.graph, components.problem
    name = f"algorithm={algorithm.name}"
    if algorithm.needs_bilevel and not isinstance(problem, BilevelProblem):
        raise ValueError(f"problem: {name} needs a bilevel problem, and {type(problem).__name__} is none")
    if graph.num_nodes != config["num_nodes"]:
        raise ValueError(f"graph.num_nodes={graph.num_nodes}: expected num_nodes={config['num_nodes']}")
    algorithm.check_problem(problem)
    if problem.mixes_architectures and not algorithm.keeps_models_apart and not _is_alone(graph):
        raise ValueError(
            f"problem: {name} makes one model of several, and those of {type(problem).__name__} differ in "
            "architecture; use algorithm=pfedhn_sizes, or graph=self_loop for local training"
        )
    if not graph.needs_label_counts:
        check_graph(components)


def _is_alone(graph: "Graph") -> bool:
    """Whether no node ever hears another one."""
    from simulator.faults.base import beneath_faults
    from simulator.graphs.self_loop import SelfLoop

    return isinstance(beneath_faults(graph), SelfLoop)


def check_graph(components: Components) -> None:
    """Checks the graph's edges, and that the algorithm can run on it.

    Raises:
        ValueError: when one of them cannot do its work.
    """
    from simulator.algorithms.weights import check_weights
    from simulator.graphs.connectivity import check_mixes, check_stochastic

    check_weights(components.algorithm, components.graph)
    components.algorithm.check_graph(components.graph)
    check_stochastic(components.graph)
    check_mixes(components.graph)


def finish_graph(components: Components) -> None:
    """Tells a graph that depends on the nodes' labels what they are, once the problem is set up, and checks it then.

    A study of the graph alone needs no data: where there is none, every node stands for one that holds a single label.

    Raises:
        ValueError: when the nodes have no labels, and as :func:`check_graph`.
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
    """Checks, once the problem is set up, that an algorithm that tunes hyperparameters has some.

    Raises:
        ValueError: when there is nothing to tune.
    """
    if components.algorithm.needs_bilevel and components.problem.num_hparams == 0:
        raise ValueError(
            f"problem: {type(components.problem).__name__} has no hyperparameters, which "
            f"algorithm={components.algorithm.name} tunes; use for example problem=logit_scaling"
        )


def check_choices(choices: Mapping[str, Any], overridden: set[str], components: Components) -> None:
    """Checks that no group was chosen by hand that nothing uses.

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


DTYPES = ("float32", "float64")
