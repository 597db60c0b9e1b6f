"""Every YAML of the three groups names a class and lists exactly its arguments, each with a comment."""

import inspect
from pathlib import Path

import pytest
from hydra.utils import get_class
from omegaconf import OmegaConf

from simulator.config.hydra_versions import instantiate

CONF = Path(__file__).parents[2] / "conf"
FILES = sorted(file for group in ("dataset", "partition", "model") for file in (CONF / group).glob("*.yaml"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_yaml_fits_its_class(file):
    node = OmegaConf.load(file)
    target = get_class(node["_target_"])
    assert target.__module__.split(".")[-1] == file.stem
    arguments = set(inspect.signature(target).parameters)
    if file.parent.name == "model":
        arguments -= {"input_shape", "num_classes"}
    assert {str(key) for key in node if not str(key).startswith("_")} == arguments
    assert all("  # " in line for line in file.read_text().splitlines()[1:])
    root = OmegaConf.create({"data_root": "data", "seed": 1, "num_nodes": 3, "it": node})
    instantiate(root.it)
