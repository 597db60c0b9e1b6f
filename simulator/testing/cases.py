"""Small configurations that an algorithm runs on in a moment, found by trying."""

from collections.abc import Iterator, Mapping
from functools import cache
from itertools import product
from typing import Any

from simulator import config
from simulator.simulation import Simulation

NUM_NODES = 5
BASE = (f"num_nodes={NUM_NODES}", "num_threads=1", "device=cpu", "dtype=float64", "compute=vmap", "figures=false")
DATA: tuple[dict[str, tuple[str, tuple[str, ...]]], ...] = (
    {
        "dataset": ("synthetic_mixture", ("dataset.num_train=30", "dataset.num_valid=20", "dataset.num_test=10")),
        "partition": ("as_given", ()),
    },
    {
        "dataset": ("digits", ()),
        "partition": ("digit_shards", ("partition.digits_per_node=1", "partition.test_fraction=0.5")),
    },
)
MODELS: tuple[dict[str, tuple[str, tuple[str, ...]]], ...] = (
    {"model": ("logistic_regression", ())},
    {"model": ("mlp", ("model.hidden=[4]",))},
)
"""Choices of groups and their settings, in order of preference."""
PROBLEMS = ("classification", "mixture_weights", "random_quadratic", "model_sizes")
BILEVEL_PROBLEMS = ("l2_decay",)
PROBLEM_SETTINGS = ("problem.batch_size=8",)
MODEL_SIZES = tuple(f"problem.models.{size}.hidden=[{2 + i}]" for i, size in enumerate(("small", "medium", "large")))
GRAPHS = ("random_directed", "one_peer_exponential", "ring", "hub", "star", "teleportation")
"""In order of difficulty; an algorithm is tried on the first that it accepts."""


def small_settings(*overrides: str, graphs: tuple[str, ...] = GRAPHS) -> dict[str, Any]:
    """The configuration of a small run that an algorithm accepts.

    Problem, graph, data and model are the first of some small ones that it runs on, unless ``overrides`` choose them.

    Args:
        overrides: as on the command line; at least ``algorithm=...``.
        graphs: tried in this order.

    Raises:
        ValueError: when it refuses all of them, with the last reason.
    """
    chosen = config.compose([*BASE, *overrides])
    if config.build(chosen).algorithm.asynchronous and not any(word.startswith("timing=") for word in overrides):
        overrides = (*overrides, "timing=lognormal", "timing.latency_sigma=0.5")
        chosen = config.compose([*BASE, *overrides])
    reason: ValueError | None = None
    for settings in _candidates(overrides, chosen, graphs):
        try:
            simulation = Simulation.build(settings)
            simulation.step(simulation.init(), 0)
        except ValueError as error:
            reason = error
        else:
            return settings
    raise ValueError(f"no small configuration suits {' '.join(overrides)}; the last refusal: {reason}")


def _candidates(
    overrides: tuple[str, ...], settings: dict[str, Any], graphs: tuple[str, ...]
) -> Iterator[dict[str, Any]]:
    """Configurations whose problem and graph the algorithm accepts, with several kinds of data and models."""
    root = (*BASE, *(word for word in overrides if _is_of_root(word, settings)))
    chosen = {word.partition("=")[0].partition(".")[0] for word in overrides}
    suitable = BILEVEL_PROBLEMS if config.build(settings).algorithm.needs_bilevel else PROBLEMS
    problems = (None,) if "problem" in chosen else suitable
    for problem, graph in product(problems, (None,) if "graph" in chosen else graphs):
        if problem is not None:
            words = (*PROBLEM_SETTINGS, *(MODEL_SIZES if problem == "model_sizes" else ()))
            settings = _with_section(settings, "problem", problem, words, root)
        if graph is not None:
            settings = _with_section(settings, "graph", graph, (), root)
        components = config.build(settings)
        try:
            config.check(settings, components, 1)
        except ValueError:
            continue
        if not components.problem.uses_data:
            yield settings
            continue
        for data, model in product(DATA, MODELS):
            filled = settings
            for group, (name, words) in {**data, **model}.items():
                if group not in chosen:
                    filled = _with_section(filled, group, name, words, root)
            yield filled


def _is_of_root(override: str, settings: Mapping[str, Any]) -> bool:
    """Whether an override sets a key outside all groups."""
    key = override.partition("=")[0]
    return key.startswith("hydra.") or ("." not in key and key not in settings["choices"])


def _with_section(
    settings: Mapping[str, Any], group: str, name: str, words: tuple[str, ...], root: tuple[str, ...]
) -> dict[str, Any]:
    """A copy of a configuration with another choice of one group."""
    choices = {**settings["choices"], group: name}
    return {**settings, "choices": choices, group: _section(group, name, words, root)}


@cache
def _section(group: str, name: str, words: tuple[str, ...], root: tuple[str, ...]) -> Any:
    """The settings of one group, composed once for all algorithms; no group refers to another one."""
    return config.compose([*root, f"{group}={name}", *words])[group]


def with_settings(settings: Mapping[str, Any], section: str, **changes: Any) -> dict[str, Any]:
    """A copy of a configuration with some settings of a section changed."""
    return {**settings, section: {**settings[section], **changes}}
