"""What every compressor must keep to.

Shapes: N rows, D columns, B bytes of a packed row.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from simulator.compressors.base import Compressor
from simulator.randomness import random_bits
from simulator.testing.globals import global_generators_unmoved

DTYPES = (torch.float32, torch.float64)
COLUMNS = (1, 2, 7, 8, 9, 20, 255, 256, 257, 1025, 3000, 65536, 65537)
NUM_REPETITIONS = 400


def check_compressor(compressor: Compressor) -> None:
    """Checks a compressor on rows of many lengths, in both precisions.

    Raises:
        AssertionError: naming the property that does not hold.
    """
    for check in COMPRESSOR_CHECKS:
        check(compressor)


def check_packets(compressor: Compressor) -> None:
    """A packet has the stated length and decodes to the sender's values, bit for bit."""
    for columns in COLUMNS:
        for dtype in DTYPES:
            rows = normal_rows(3, columns, dtype, seed=columns)
            coded = compressor.encode(rows, keys_for(3))
            where = f"{columns} columns of {dtype}"
            expected = (3, compressor.payload_bytes(columns, dtype))
            assert coded.packed.shape == expected, f"{where}: packets are {tuple(coded.packed.shape)}, not {expected}"
            assert coded.packed.dtype == torch.uint8, f"{where}: packets are {coded.packed.dtype}, not uint8"
            assert coded.packed.is_contiguous(), f"{where}: packets are not contiguous"
            assert coded.values.shape == rows.shape, f"{where}: values have another shape than the rows"
            assert coded.values.dtype == dtype, f"{where}: values are {coded.values.dtype}"
            decoded = compressor.decode(coded.packed, columns, dtype)
            assert torch.equal(decoded, coded.values), f"{where}: packets decode to other values than the sender's"


def check_rows_alone(compressor: Compressor) -> None:
    """Neither the packet nor the values of a row depend on the rows beside it."""
    for dtype in DTYPES:
        for columns in (20, 4099, 70001):
            rows, keys = normal_rows(5, columns, dtype), keys_for(5)
            rows[3] = 0
            rows[4, : columns // 2] = rows[4, 0]
            together = compressor.encode(rows, keys)
            for chosen in ([0], [3], [4, 1, 3]):
                alone = compressor.encode(rows[chosen], keys[chosen])
                where = f"{columns} columns of {dtype}, rows {chosen}"
                assert torch.equal(alone.packed, together.packed[chosen]), f"{where}: other packets alone"
                assert torch.equal(alone.values, together.values[chosen]), f"{where}: other values alone"
                decoded = compressor.decode(together.packed[chosen], columns, dtype)
                assert torch.equal(decoded, together.values[chosen]), f"{where}: decoded differently alone"


def check_layouts(compressor: Compressor) -> None:
    """Packets may lie in wider buffers, rows may be part of wider ones, and there may be none."""
    wide = normal_rows(4, 150).requires_grad_()
    coded = compressor.encode(wide[:, 1:102], keys_for(4))
    expected = compressor.encode(wide.detach()[:, 1:102].clone(), keys_for(4))
    assert torch.equal(coded.packed, expected.packed), "rows that are part of wider ones are coded differently"
    assert not coded.values.requires_grad, "values require a gradient"
    buffer = torch.full((4, coded.packed.shape[1] + 4), 255, dtype=torch.uint8)
    buffer[:, 3:-1] = coded.packed
    decoded = compressor.decode(buffer[:, 3:-1], 101, torch.float32)
    one = compressor.decode(buffer[2:3, 3:-1], 101, torch.float32)
    buffer.zero_()
    assert torch.equal(decoded, expected.values), "decoded values share memory with the packets, or depend on layout"
    assert torch.equal(one, expected.values[2:3]), "one packet of several decodes differently"
    assert compressor.decode(buffer[:0, 3:-1], 101, torch.float32).shape == (0, 101), "no packets, but rows"
    nothing = compressor.encode(wide[:0], keys_for(0)).packed.shape
    assert nothing == (0, compressor.payload_bytes(150, torch.float32)), "no rows, but packets"


def check_arguments_unchanged(compressor: Compressor) -> None:
    """Rows, keys and the global generators are left as they are."""
    rows, keys = normal_rows(3, 500), keys_for(3)
    rows_before, keys_before = rows.clone(), keys.copy()
    with global_generators_unmoved():
        compressor.decode(compressor.encode(rows, keys).packed, 500, rows.dtype)
    assert torch.equal(rows, rows_before), "encode changes its rows"
    assert np.array_equal(keys, keys_before), "encode changes its keys"


def check_zeros(compressor: Compressor) -> None:
    """Rows of zeros decode to zeros."""
    for dtype in DTYPES:
        for columns in (1, 20, 3000):
            zeros = torch.zeros(2, columns, dtype=dtype)
            coded = compressor.encode(zeros, keys_for(2))
            assert torch.equal(coded.values, zeros), f"{columns} columns of {dtype}: zeros become something else"
            assert torch.equal(compressor.decode(coded.packed, columns, dtype), zeros), (
                f"{columns} columns: decoded zeros"
            )


def check_scales(compressor: Compressor) -> None:
    """Finite rows of any scale have finite values."""
    for dtype in DTYPES:
        scales = torch.tensor([1e-45, 1e-40, 1e-36, 1e-30, 1e-20, 1e-10, 1e10, 1e25, 1e35], dtype=dtype)[:, None]
        for columns in (20, 3000):
            coded = compressor.encode(normal_rows(len(scales), columns, dtype) * scales, keys_for(len(scales)))
            assert coded.values.isfinite().all(), f"{columns} columns of {dtype}: finite rows become NaN or infinite"
            decoded = compressor.decode(coded.packed, columns, dtype)
            assert torch.equal(decoded, coded.values), f"{columns} columns of {dtype}: decoded differently"


def check_not_finite(compressor: Compressor) -> None:
    """NaN and infinite entries neither raise nor change other rows."""
    for bad in (float("nan"), float("inf"), -float("inf")):
        rows, keys = normal_rows(3, 300), keys_for(3)
        expected = compressor.encode(rows, keys)
        rows[1, 17] = bad
        coded = compressor.encode(rows, keys)
        assert torch.equal(coded.packed[::2], expected.packed[::2]), f"an entry of {bad} changes other packets"
        assert torch.equal(coded.values[::2], expected.values[::2]), f"an entry of {bad} changes other rows"
        decoded = compressor.decode(coded.packed, 300, rows.dtype)
        same = torch.equal(decoded.isnan(), coded.values.isnan())
        same &= torch.equal(decoded.nan_to_num(), coded.values.nan_to_num())
        assert same, f"a row with an entry of {bad} decodes to other values than the sender's"


def check_contraction(compressor: Compressor) -> None:
    """E||v - Q(v)||^2 <= (1 - contraction) ||v||^2, within 4.5 standard errors, on rows of several shapes.

    The contraction of an unbiased compressor may be zero or negative.
    """
    for columns in (1, 7, 20, 500):
        delta = compressor.contraction(columns)
        assert delta <= 1, f"{columns} columns: contraction is {delta}, above 1"
        for number, row in enumerate(_rows_of_many_shapes(columns)):
            values = compressor.encode(row.expand(NUM_REPETITIONS, columns), keys_for(NUM_REPETITIONS)).values
            errors = (values - row).square().sum(1) / row.square().sum()
            mean, allowance = float(errors.mean()), 4.5 * float(errors.std()) / NUM_REPETITIONS**0.5 + 1e-7
            assert mean <= 1 - delta + allowance, f"{columns} columns, shape {number}: error {mean}, stated {1 - delta}"


def check_keys(compressor: Compressor) -> None:
    """Draws depend on the keys alone: the same keys give the same packets."""
    rows = normal_rows(1, 400).expand(2, 400)
    packets = (compressor.encode(rows, keys_for(2)).packed for _ in range(2))
    assert torch.equal(*packets), "the same rows and keys give other packets the second time"


COMPRESSOR_CHECKS: tuple[Callable[[Compressor], None], ...] = (
    *(check_packets, check_rows_alone, check_layouts, check_arguments_unchanged, check_zeros, check_scales),
    *(check_not_finite, check_contraction, check_keys),
)


def keys_for(num_rows: int, step: int = 0) -> npt.NDArray[np.uint64]:
    """One random word per row, [N]."""
    return random_bits(0, "test", np.arange(num_rows), step, 1)[:, 0]


def normal_rows(num_rows: int, num_columns: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    """Standard normal rows [N, D]."""
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(num_rows, num_columns, generator=draw, dtype=torch.float64).to(dtype)


def _rows_of_many_shapes(columns: int) -> Tensor:
    """Normal, one large entry, equal magnitudes, decaying, and few large entries among small ones; [5, D]."""
    rows = normal_rows(5, columns, torch.float64)
    rows[1] = 1e-3 * rows[1]
    rows[1, columns // 2] = 7.0
    rows[2] = rows[2].sign()
    rows[3] = rows[3] * torch.arange(1, columns + 1, dtype=torch.float64) ** -1.5
    rows[4, columns // 10 :] *= 0.1
    return rows
