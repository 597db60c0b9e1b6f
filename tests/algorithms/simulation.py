"""Small configurations of the algorithms in conf/algorithm, for tests that go through all of them."""

from copy import deepcopy
from functools import cache

from hydra.utils import get_class
from omegaconf import OmegaConf

from simulator import config
from simulator.algorithms.base import Algorithm
from simulator.config.composition import CONF
from simulator.testing.cases import GRAPHS, NUM_NODES, small_settings

ALGORITHMS = sorted(path.stem for path in (CONF / "algorithm").glob("*.yaml"))
# Small values for settings that algorithms share by name.
SMALL = {"lr": 0.1, "inner_steps": 4, "outer_lr": 0.05, "depth": 3, "num_pushes": 2, "nodes_per_round": 2}
SMALL |= {"num_novel_nodes": 1, "novel_rounds": 2, "local_epochs": 1, "head_epochs": 1}
SMALL |= {"weight_decay": 0.0}  # which moves nodes that agree, even where nothing pulls
TINY_DATA = ("dataset=synthetic_mixture", "dataset.num_train=30", "dataset.num_valid=20", "dataset.num_test=10")


def algorithm_class(name: str) -> type[Algorithm]:
    return get_class(_settings_of(name)["_target_"])


@cache
def solves(name: str, problem: str) -> bool:
    """Whether an algorithm runs on a problem; asked of both as their YAMLs define them."""
    own = OmegaConf.create({**_default_settings(problem), "algorithm": _settings_of(name)})
    components = config.build(OmegaConf.to_container(own, resolve=True))
    try:
        components.algorithm.check_problem(components.problem)
    except ValueError:
        return False
    return True


@cache
def _default_settings(problem: str) -> dict:
    return config.compose([f"problem={problem}", f"num_nodes={NUM_NODES}"])


@cache
def _settings_of(name: str) -> dict:
    settings = OmegaConf.to_container(OmegaConf.load(CONF / "algorithm" / f"{name}.yaml"))
    assert isinstance(settings, dict)
    return settings


def overrides_for(name: str, compressor: str = "top_k", **changes: object) -> list[str]:
    """Command-line overrides that choose an algorithm with small settings, or ``changes`` where it has them."""
    values = {key: value for key, value in {**SMALL, **changes}.items() if key in _settings_of(name)}
    overrides = [f"algorithm={name}", *(f"algorithm.{key}={value}" for key, value in values.items())]
    if algorithm_class(name).uses_compressor:
        overrides.append(f"compressor={compressor}")
    return overrides


def small(name: str, *further: str, graphs: tuple[str, ...] = GRAPHS, **changes: object) -> dict:
    """The settings of a small run; see :func:`simulator.testing.cases.small_settings` and :func:`overrides_for`."""
    return deepcopy(_small((*overrides_for(name, **changes), *further), graphs))


@cache
def _small(overrides: tuple[str, ...], graphs: tuple[str, ...]) -> dict:
    return small_settings(*overrides, graphs=graphs)
