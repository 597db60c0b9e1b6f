"""Builds components from a resolved configuration; checks keys and types before a class is called."""

import inspect
from collections.abc import Mapping, Set
from dataclasses import dataclass, is_dataclass
from types import UnionType
from typing import TYPE_CHECKING, Any, Union, cast, get_args, get_origin, get_type_hints

from simulator.config.hydra_versions import instantiate

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from simulator.algorithms.base import Algorithm
    from simulator.data.base import Dataset, Partition
    from simulator.graphs.base import Graph
    from simulator.loggers.base import Logger
    from simulator.problems.base import Problem
    from simulator.timing.base import Timing


@dataclass(frozen=True)
class Components:
    """The components of a configuration; no data have been read, drawn or allocated yet."""

    algorithm: "Algorithm"
    graph: "Graph"
    problem: "Problem"
    dataset: "Dataset | None"
    partition: "Partition | None"
    build_model: "Callable[..., nn.Module] | None"
    logger: "Logger | None"
    timing: "Timing | None" = None


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
        timing=_instantiate(config, "timing") if config["timing"] else None,
    )


def _algorithm(config: Mapping[str, Any]) -> "Algorithm":
    """The algorithm, with the compressor if it uses one; otherwise its messages are sent uncompressed."""
    compressor = (
        _instantiate(config, "compressor") if config["compressor"] else None
    )  # the settings of an unused compressor are checked too
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

    settings = dict(config[section])
    target = _class_of(config, section)
    try:
        _check_settings(section, target, settings, {*further, "input_shape", "num_classes"})
        if not further:
            return instantiate(settings)
        # Passed unchanged: instantiate would convert a dataclass to a configuration.
        return instantiate({**settings, "_partial_": True})(**further)
    except (InstantiationException, ImportError) as error:
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        text = " ".join(str(cause).split())
        raise ValueError(text if isinstance(cause, ValueError) else f"{section}: {text}") from error


def _check_settings(section: str, target: type, settings: Mapping[str, Any], given: Set[str]) -> None:
    """Checks that a class has these settings, with the right types; components nested in it are checked too.

    Args:
        section: the dotted key of the settings, such as ``graph`` or ``graph.base``.
        target: the class.
        settings: the arguments of its constructor that the configuration sets.
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
    """Checks numbers, strings and Booleans against the annotations of the constructor."""
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
    str: "a string",
    type(None): "null",
}
