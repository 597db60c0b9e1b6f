"""Schedules as the files in conf/graph describe them, for tests that go through all of them."""

from functools import cache
from pathlib import Path

import numpy as np
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from simulator.config.hydra_versions import instantiate, version_base
from simulator.graphs.base import Graph

CONF = Path(__file__).parents[2] / "conf"


@cache
def load(name: str) -> DictConfig:
    """A YAML of conf/graph, with the graphs that it is made of where it names some."""
    with initialize_config_dir(str(CONF), **version_base()):
        return compose(f"graph/{name}").graph


def build(config: DictConfig) -> Graph:
    """The schedule of a configuration; nodes have labels of three classes in turn where the schedule asks for them."""
    graph = instantiate(config)
    if graph.needs_label_counts:
        graph.use_label_counts(np.eye(3, dtype=np.int64)[np.arange(graph.num_nodes) % 3] * 10)
    return graph
