"""A configuration is composed in one way, says what was chosen, and leaves Hydra as it was."""

import re
import shlex

import numpy as np
import pytest
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.version import VersionBase

from simulator import config
from simulator.config.composition import group_folders
from simulator.config.hydra_versions import version_base
from simulator.config.overrides import as_override
from simulator.resume import continued_config


def test_choices_are_recorded():
    settings = config.compose(["experiment=personalization_sgp", "graph=ring"])
    chosen = {"experiment": "personalization_sgp", "algorithm": "hgp", "graph": "ring", "faults": "none"}
    assert chosen.items() <= settings["choices"].items()
    assert set(settings["choices"]) == {path.name for path in group_folders()}
    assert config.compose([])["choices"]["experiment"] is None


def test_choices_within_a_component_have_the_key_of_their_place():
    choices = config.compose(["graph=gossip_pga", "graph@graph.base=k_hop_ring"])["choices"]
    assert (choices["graph"], choices["graph.base"]) == ("gossip_pga", "k_hop_ring")
    assert not any("@" in group or group.startswith("hydra") for group in choices)


@pytest.mark.parametrize("override", ["choices.graph=ring", "+choices.graph=ring", "choices={graph: ring}"])
def test_choices_cannot_be_set(override):
    with pytest.raises(ValueError, match=r"^choices") as caught:
        config.compose([override])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("nodes=3", "nodes: there is no such key"),
        ("algorithm=sgd", "algorithm=sgd: there is no such file in conf/algorithm/"),
        ("num_nodes=many", "num_nodes=many: Value 'many'"),
        ("+nodes=3", "nodes: there is no such key; the root"),
        ("num_node=3", "num_node: there is no such key in this configuration; did you mean num_nodes"),
        ("algorithm.lrr=1", "algorithm.lrr: there is no such key in this configuration; did you mean algorithm.lr"),
        ("grpah=ring", "grpah: there is no such key in this configuration; did you mean graph?"),
        ("data_root=~/x", "data_root=~/x: Hydra cannot read the value, which has a character"),
        ("resume=a/lr=0.1", "resume=a/lr=0.1: Hydra cannot read the value, which has"),
        ("data_root=/tmp/été", "data_root=/tmp/été: Hydra cannot read the value"),
        ("num_steps=10 seed=3", "num_steps=10 seed=3: several settings in one word"),
        ("num_nodes=[1", "num_nodes=[1: Hydra cannot read the value; a bracket, brace or quote"),
        ("ring", "ring: expected key=value"),
    ],
)
def test_what_is_wrong_is_one_line(override, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}") as caught:
        config.compose([override])
    assert "\n" not in str(caught.value)


def test_the_quoted_form_that_is_shown_can_be_read():
    for word in ("data_root=~/x", "data_root=a=b", 'data_root=it"s=1', "data_root=/tmp/été"):
        with pytest.raises(ValueError, match="quote it") as caught:
            config.compose([word])
        (shown,) = shlex.split(str(caught.value).partition("for the shell as well: ")[2])
        assert config.compose([shown])["data_root"] == word.partition("=")[2]


def test_hydra_is_afterwards_as_before(tmp_path):
    (tmp_path / "own.yaml").write_text("a: 1\n")
    entries = dict(ConfigStore.instance().repo)
    base = VersionBase.instance().version_base
    config.compose(["graph=ring"])
    assert not GlobalHydra.instance().is_initialized()
    assert ConfigStore.instance().repo.get("schema.yaml") is entries.get("schema.yaml")
    assert VersionBase.instance().version_base is base
    with initialize_config_dir(str(tmp_path), **version_base()):
        config.compose(["graph=ring"])
        assert hydra_compose("own").a == 1
        with pytest.raises(ValueError, match="nodes"):
            config.compose(["nodes=3"])
        assert hydra_compose("own").a == 1


def test_a_resumed_run_keeps_its_choices(tmp_path):
    saved = config.compose(["algorithm=sgp", "graph=ring"])
    (tmp_path / "config.yaml").write_text(_yaml(saved))
    overrides = [f"resume={tmp_path}", "num_steps=9", "logger=wandb"]
    continued = continued_config(config.compose(overrides), tmp_path, overrides)
    assert continued["choices"] == saved["choices"] | {"logger": "wandb"}


def _yaml(settings):
    from omegaconf import OmegaConf

    return OmegaConf.to_yaml(OmegaConf.create(settings))


@pytest.mark.parametrize(
    "value",
    [
        *("a b", "it's", "10", "null", "a\\b", "end\\", "q\\'x", "", "x,y=[1]", "{a}", "# no", "\\\\", "1e3", "ü"),
        *(None, True, False, 3, -4, 1e-5, 0.1, float("inf")),
        *([1, "a", [2.5, None]], [], {"every": 10, "b": {"c": "d e"}}),
    ],
    ids=repr,
)
def test_python_values_come_through_as_they_are(value):
    parsed = OverridesParser.create().parse_override(as_override("key", value)).value()
    assert parsed == value
    assert type(parsed) is type(value)


def test_values_of_numpy_and_paths_are_plain_values(tmp_path):
    assert as_override("k", np.float32(0.5)) == "k=0.5"
    assert as_override("k", np.arange(3)) == "k=[0,1,2]"
    assert as_override("k", (1, 2)) == "k=[1,2]"
    assert as_override("k", tmp_path) == f"k='{tmp_path}'"
    for value in (object(), [object()], {"a b": 1}, {1: 2}):
        with pytest.raises(ValueError, match=r"^k=.*: expected a string, a number"):
            as_override("k", value)
