"""Defaults that fit an algorithm which is chosen alone: ``algorithm=dsgd`` gets an undirected graph.

Only groups that the command line leaves open are changed, and only where the defaults do not fit. The first choice that
fits is taken; what a hub is for, and graphs that fit most, come first.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product
from typing import Any

from simulator.config.checks import check
from simulator.config.components import build
from simulator.config.overrides import root_of

_GRAPHS = ("ring", "hub", "binary_tree", "star", "teleportation")
_GRAPHS_WITH_HUB = ("hub", "ring", "binary_tree", "star", "teleportation")
_PROBLEMS = ("mixture_weights", "random_quadratic", "model_sizes")
_WITH_HYPERPARAMETERS = "l2_decay"
_ROOT = ("num_nodes", "seed", "dtype")


def fit_defaults(
    settings: dict[str, Any],
    overrides: Sequence[str],
    world_size: int,
    compose: Callable[[Sequence[str]], Mapping[str, Any]],
) -> tuple[dict[str, Any], dict[str, str]]:
    """The settings with other defaults where those of ``conf/config.yaml`` do not fit the chosen algorithm.

    Args:
        settings: the composed configuration.
        overrides: what it was composed from.
        world_size: number of processes.
        compose: composes further configurations, to read the settings of other choices.

    Returns:
        The settings, and the choices that were made, such as ``{"graph": "ring"}``. Both are unchanged where the user
        has named an experiment, where the defaults fit, and where nothing fits, so that the usual error is raised.
    """
    keys = set(map(root_of, overrides))
    if "algorithm" not in keys or keys & {"experiment", "resume"}:
        return settings, {}
    root = [f"{key}={settings[key]}" for key in _ROOT]
    sections: dict[tuple[str, str], Any] = {}
    for choices in _candidates(settings, keys):
        for group, name in choices.items():
            if (group, name) not in sections:
                sections[group, name] = compose([*root, f"{group}={name}"])[group]
        fitted = {**settings, "choices": {**settings["choices"], **choices}}
        fitted |= {group: sections[group, name] for group, name in choices.items()}
        try:
            check(fitted, build(fitted), world_size)
        except ValueError:
            continue
        return fitted, choices
    return settings, {}


def _candidates(settings: dict[str, Any], keys: set[str]) -> Iterator[dict[str, str]]:
    """Choices for the open groups; first none at all, then those of one group, then of several."""
    try:
        algorithm = build(settings).algorithm
    except ValueError:
        return
    graphs = _GRAPHS_WITH_HUB if algorithm.averages_by_hub else _GRAPHS
    further = {"graph": graphs, "problem": _PROBLEMS}
    chosen_now = settings["choices"]
    needs_time = algorithm.asynchronous and "timing" not in keys and chosen_now["timing"] == "none"
    fixed = {"timing": "constant"} if needs_time else {}
    if algorithm.needs_bilevel and "problem" not in keys and chosen_now["problem"] == "classification":
        fixed["problem"] = _WITH_HYPERPARAMETERS
    free = [group for group in further if group not in keys and group not in fixed]
    for chosen in product(*[(None, *further[group]) for group in reversed(free)]):
        yield fixed | {group: name for group, name in zip(reversed(free), chosen, strict=True) if name is not None}
