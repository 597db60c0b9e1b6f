"""What tests of several folders need: configurations composed from the real conf/."""

from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from simulator.config import register_schema

CONF = Path(__file__).parents[1] / "conf"


def compose_settings(*overrides: str) -> dict:
    """The resolved configuration that a command line with these overrides has."""
    register_schema()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        composed = compose("config", overrides=list(overrides))
    settings = OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
    assert isinstance(settings, dict)
    return settings


@pytest.fixture(scope="session")
def composed():
    return compose_settings


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory):
    """Timings of ``compute: auto`` are kept apart from the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def one_thread():
    """Small tensors are faster on one thread, and forked processes need it."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
