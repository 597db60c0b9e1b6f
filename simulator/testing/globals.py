"""Nothing that is checked may use or move the global random generators."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def global_generators_unmoved() -> Iterator[None]:
    """Asserts that the block leaves the global generators of Python, NumPy and torch where they were."""
    before = random.getstate(), np.random.get_state(legacy=True), torch.get_rng_state()
    yield
    assert random.getstate() == before[0], "it draws from Python's global generator"
    after = np.random.get_state()
    assert np.array_equal(after[1], before[1][1]), "it draws from NumPy's global generator"
    assert after[2] == before[1][2], "it draws from NumPy's global generator"
    assert torch.equal(torch.get_rng_state(), before[2]), "it draws from torch's global generator"
