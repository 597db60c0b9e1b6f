"""Rows that are added to others, in the order in which they are given."""

import numpy as np
import pytest
import torch

from simulator.network.row_sums import add_rows


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("columns", [1, 7, 300])
def test_rows_are_added_one_by_one(dtype, columns):
    rng = np.random.default_rng(0)
    start = torch.from_numpy(rng.standard_normal((5, columns))).to(dtype)
    parts = []
    for count in (11, 0, 4):
        parts.append((rng.integers(0, 4, count), torch.from_numpy(rng.standard_normal((count, columns))).to(dtype)))
    expected = start.numpy().copy()
    for positions, rows in parts:
        for position, row in zip(positions, rows.numpy(), strict=True):
            expected[position] = expected[position] + row
    before = start.clone()
    found = add_rows(start, *parts)
    assert np.array_equal(found.numpy(), expected)
    assert torch.equal(start, before)


def test_rows_without_columns():
    assert add_rows(torch.zeros(3, 0), (np.array([1, 1]), torch.zeros(2, 0))).shape == (3, 0)
