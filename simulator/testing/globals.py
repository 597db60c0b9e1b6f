"""Nothing that is checked may use or move the global random generators."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def global_generators_unmoved() -> Iterator[None]:
    """Asserts that the block leaves the global generators of Python, NumPy and torch where they were."""
    before = random.getstate(), _numpy_state(), torch.get_rng_state()
    yield
    assert random.getstate() == before[0], "it draws from Python's global generator"
    assert _numpy_state() == before[1], "it draws from NumPy's global generator"
    assert torch.equal(torch.get_rng_state(), before[2]), "it draws from torch's global generator"


def _numpy_state() -> str:
    """Comparable; the generator's words and the position in them."""
    state = np.random.get_state(legacy=False)["state"]
    return f"{state['key'].tolist()} {state['pos']}"
