"""Small cases for algorithms: settings, data, problems and graphs on which each of them runs in a moment."""

from collections.abc import Callable
from functools import cache

from hydra.utils import get_class, instantiate
from omegaconf import OmegaConf

from simulator import config
from simulator.algorithms.base import Algorithm
from simulator.algorithms.weights import check_weights
from simulator.config.composition import CONF

ALGORITHMS = sorted(path.stem for path in (CONF / "algorithm").glob("*.yaml"))
# In order of difficulty; an algorithm is tried on the first that its check_graph allows.
GRAPHS = ("random_directed", "one_peer_exponential", "ring", "hub", "star")
# Small values for settings that algorithms share by name.
SMALL = {"lr": 0.1, "inner_steps": 4, "outer_lr": 0.05, "depth": 3, "num_pushes": 2, "nodes_per_round": 2}
SMALL |= {"num_novel_nodes": 1, "novel_rounds": 2}
SMALL |= {"local_epochs": 1}
# Algorithms whose nodes keep or share the last layer alone need another one before it.
PRIVATE_HEADS = ("pfedhn_pc", "fedper", "lg_fedavg")
TINY_DATA = ("dataset=synthetic_mixture", "dataset.num_train=30", "dataset.num_valid=20", "dataset.num_test=10")
TINY_IMAGES = ("dataset=digits", "partition=digit_shards", "partition.digits_per_node=1", "partition.test_fraction=0.5")
# Algorithms that need images.
ON_IMAGES = ("data_exchange",)
# In order of preference; an algorithm is tried on the first that it solves.
SINGLE_LEVEL = ("classification", "mixture_weights", "random_quadratic", "model_sizes")
SMALL_MODELS = tuple(f"problem.models.{size}.hidden=[{2 + i}]" for i, size in enumerate(("small", "medium", "large")))
NUM_NODES = 5


def algorithm_class(name: str) -> type[Algorithm]:
    return get_class(_settings_of(name)["_target_"])


def solves(name: str, problem: str) -> bool:
    """Whether an algorithm runs on a problem; asked of both as their YAMLs define them."""
    algorithm = OmegaConf.load(CONF / "algorithm" / f"{name}.yaml")
    root = OmegaConf.create(
        {"seed": 0, "num_nodes": NUM_NODES, "algorithm": algorithm, "problem": _problem_settings(problem)}
    )
    if algorithm_class(name).uses_compressor:
        root.algorithm.compressor = OmegaConf.load(CONF / "compressor" / "identity.yaml")
    try:
        instantiate(root.algorithm).check_problem(instantiate(root.problem))
    except ValueError:
        return False
    return True


@cache
def _problem_settings(name: str) -> dict:
    """A problem of conf/problem, with the models that it is made of where it names some."""
    return config.compose([f"problem={name}", f"num_nodes={NUM_NODES}"])["problem"]


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
    return [*overrides, "num_threads=1", "device=cpu", "dtype=float64", "compute=vmap"]


def with_graph(
    composed: Callable[..., dict], name: str, overrides: list[str], graphs: tuple[str, ...] = GRAPHS
) -> dict:
    """The configuration on the first of ``graphs`` that the algorithm allows."""
    reasons = []
    for graph in graphs:
        settings = composed(*overrides, f"graph={graph}")
        components = config.build(settings)
        try:
            check_weights(components.algorithm, components.graph)
            components.algorithm.check_graph(components.graph)
        except ValueError as error:
            reasons.append(str(error))
            continue
        return settings
    raise AssertionError(f"no schedule of {graphs} suits {name}: {reasons}")


def on_data(composed: Callable[..., dict], name: str, *further: str, **changes: object) -> dict:
    """An algorithm on a small stochastic problem of the kind that it needs."""
    problems = ("l2_decay",) if algorithm_class(name).needs_bilevel else SINGLE_LEVEL
    problem = next(problem for problem in problems if solves(name, problem))
    overrides = [*overrides_for(name, **changes), f"problem={problem}", "problem.batch_size=8"]
    overrides += TINY_IMAGES if name in ON_IMAGES else (*TINY_DATA, "partition=as_given")
    model = ["model=mlp", "model.hidden=[4]"] if name in PRIVATE_HEADS else ["model=logistic_regression"]
    overrides += [*(SMALL_MODELS if problem == "model_sizes" else model), f"num_nodes={NUM_NODES}", *further]
    return with_graph(composed, name, overrides)
