"""What tests of several folders need: configurations composed from the real conf/."""

from copy import deepcopy
from functools import cache

import pytest
import torch

from simulator.config import compose


def compose_settings(*overrides: str) -> dict:
    """The configuration that a command line with these overrides has; on the CPU unless one of them says otherwise."""
    return deepcopy(_composed(overrides))


@cache
def _composed(overrides: tuple[str, ...]) -> dict:
    """Composed once in a process: Hydra takes a tenth of a second."""
    return compose(["device=cpu", *overrides])


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
