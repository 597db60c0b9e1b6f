"""What every compressor keeps to: lengths, equal floats on every holder, rows on their own, contraction."""

import numpy as np
import pytest
import torch

from tests.compressors.building import CASE_NAMES, CASES, NAMES, VARIANTS, build, keys_for, normal_rows

DTYPES = (torch.float32, torch.float64)
COLUMNS = (1, 2, 7, 8, 9, 20, 255, 256, 257, 1025, 3000, 65536, 65537)

every_compressor = pytest.mark.parametrize(("name", "changes"), CASES, ids=CASE_NAMES)


def same(left, right):
    return (
        left.dtype == right.dtype
        and torch.equal(left.isnan(), right.isnan())
        and torch.equal(left.nan_to_num(), right.nan_to_num())
    )


def test_variants_are_of_compressors_that_exist():
    assert set(VARIANTS) <= set(NAMES)
    assert {"cast", "identity", "qsgd", "random_k", "sign", "top_k"} <= set(NAMES)


@every_compressor
def test_packets_have_the_stated_length_and_decode_to_the_senders_values(name, changes):
    compressor = build(name, **changes)
    for q in COLUMNS:
        for dtype in DTYPES:
            rows = normal_rows(3, q, dtype, seed=q)
            coded = compressor.encode(rows, keys_for(3))
            assert coded.packed.shape == (3, compressor.payload_bytes(q, dtype))
            assert coded.packed.dtype == torch.uint8
            assert coded.packed.is_contiguous()
            assert (coded.values.shape, coded.values.dtype) == (rows.shape, dtype)
            assert torch.equal(compressor.decode(coded.packed, q, dtype), coded.values)


@every_compressor
@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_do_not_depend_on_the_rows_beside_them(name, changes, dtype):
    compressor = build(name, **changes)
    for q in (20, 4099, 70001):
        rows, keys = normal_rows(5, q, dtype), keys_for(5)
        rows[3] = 0
        rows[4, : q // 2] = rows[4, 0]
        together = compressor.encode(rows, keys)
        for chosen in ([0], [3], [4, 1, 3]):
            alone = compressor.encode(rows[chosen], keys[chosen])
            assert torch.equal(alone.packed, together.packed[chosen])
            assert torch.equal(alone.values, together.values[chosen])
            assert torch.equal(compressor.decode(together.packed[chosen], q, dtype), together.values[chosen])


@every_compressor
def test_packets_may_lie_anywhere_and_rows_may_be_part_of_wider_ones(name, changes):
    compressor = build(name, **changes)
    wide = normal_rows(4, 150).requires_grad_()
    coded = compressor.encode(wide[:, 1:102], keys_for(4))
    expected = compressor.encode(wide.detach()[:, 1:102].clone(), keys_for(4))
    assert torch.equal(coded.packed, expected.packed)
    assert not coded.values.requires_grad
    buffer = torch.full((4, coded.packed.shape[1] + 4), 255, dtype=torch.uint8)
    buffer[:, 3:-1] = coded.packed
    decoded = compressor.decode(buffer[:, 3:-1], 101, torch.float32)
    one = compressor.decode(buffer[2:3, 3:-1], 101, torch.float32)
    buffer.zero_()  # what was decoded does not change when a buffer is used again
    assert torch.equal(decoded, expected.values)
    assert torch.equal(one, expected.values[2:3])
    assert compressor.decode(buffer[:0, 3:-1], 101, torch.float32).shape == (0, 101)
    assert compressor.encode(wide[:0], keys_for(0)).packed.shape == (0, compressor.payload_bytes(150, torch.float32))


@every_compressor
def test_rows_and_global_generators_are_left_alone(name, changes):
    compressor = build(name, **changes)
    rows, keys = normal_rows(3, 500), keys_for(3)
    rows_before, keys_before = rows.clone(), keys.copy()
    torch_before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()
    compressor.decode(compressor.encode(rows, keys).packed, 500, rows.dtype)
    assert torch.equal(rows, rows_before)
    np.testing.assert_array_equal(keys, keys_before)
    assert torch.equal(torch.get_rng_state(), torch_before)
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_before)


@every_compressor
@pytest.mark.parametrize("dtype", DTYPES)
def test_zeros_stay_zeros(name, changes, dtype):
    compressor = build(name, **changes)
    for q in (1, 20, 3000):
        coded = compressor.encode(torch.zeros(2, q, dtype=dtype), keys_for(2))
        assert torch.equal(coded.values, torch.zeros(2, q, dtype=dtype))
        assert torch.equal(compressor.decode(coded.packed, q, dtype), coded.values)


@every_compressor
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_scale_is_coded_without_nan(name, changes, dtype):
    compressor = build(name, **changes)
    scales = torch.tensor([1e-45, 1e-40, 1e-36, 1e-30, 1e-20, 1e-10, 1e10, 1e25, 1e35], dtype=dtype)[:, None]
    for q in (20, 3000):
        rows = normal_rows(len(scales), q, dtype) * scales
        coded = compressor.encode(rows, keys_for(len(rows)))
        assert coded.values.isfinite().all()
        assert torch.equal(compressor.decode(coded.packed, q, dtype), coded.values)
        if name in ("identity", "sign", "top_k"):  # the others draw, or saturate and underflow
            error, size = ((coded.values - rows) / scales).double().norm(dim=1), (rows / scales).double().norm(dim=1)
            assert (error[2:] ** 2 <= (1 - compressor.contraction(q) + 1e-5) * size[2:] ** 2).all()
        elif name == "qsgd":
            norms = coded.packed[:, :4].numpy().copy().view(np.float32)[:, 0]
            np.testing.assert_allclose(norms[2:], rows.double().norm(dim=1)[2:], rtol=1e-6)
            assert (coded.values[2:] != 0).any(dim=1).all() or changes["levels"] < 8


@every_compressor
def test_nan_and_infinite_entries_neither_raise_nor_touch_other_rows(name, changes):
    compressor = build(name, **changes)
    for bad in (float("nan"), float("inf"), -float("inf")):
        rows, keys = normal_rows(3, 300), keys_for(3)
        expected = compressor.encode(rows, keys)
        rows[1, 17] = bad
        coded = compressor.encode(rows, keys)
        assert torch.equal(coded.packed[::2], expected.packed[::2])
        assert torch.equal(coded.values[::2], expected.values[::2])
        assert same(compressor.decode(coded.packed, 300, rows.dtype), coded.values)
        if name in ("identity", "qsgd", "sign", "top_k"):
            assert not coded.values[1].isfinite().all()


def extreme_rows(q):
    """Gaussian, one large entry, equal entries, decaying, and few large ones among small ones."""
    rows = normal_rows(5, q, torch.float64)
    rows[1] = 1e-3 * rows[1]
    rows[1, q // 2] = 7.0
    rows[2] = rows[2].sign()
    rows[3] = rows[3] * torch.arange(1, q + 1, dtype=torch.float64) ** -1.5
    rows[4, q // 10 :] *= 0.1
    return rows


@every_compressor
@pytest.mark.parametrize("q", [1, 7, 20, 500])
def test_contraction(name, changes, q):
    compressor, repetitions = build(name, **changes), 400
    delta = compressor.contraction(q)
    assert 0 < delta <= 1
    for row in extreme_rows(q):
        values = compressor.encode(row.expand(repetitions, q), keys_for(repetitions)).values
        errors = (values - row).square().sum(1) / row.square().sum()
        standard_error = float(errors.std()) / repetitions**0.5
        assert float(errors.mean()) <= 1 - delta + 4.5 * standard_error + 1e-7


@every_compressor
def test_keys_decide_the_draws(name, changes):
    compressor = build(name, **changes)
    row = normal_rows(1, 400)
    packets = compressor.encode(row.expand(2, 400), keys_for(2)).packed
    again = compressor.encode(row.expand(2, 400), keys_for(2)).packed
    assert torch.equal(packets, again)
    draws = name in ("qsgd", "random_k")
    assert torch.equal(packets[0], packets[1]) is not draws


def test_threads_change_nothing(one_thread):
    rows, keys = normal_rows(1, 150_001), keys_for(1)
    for name in NAMES:
        compressor = build(name)
        torch.set_num_threads(1)
        expected = compressor.encode(rows, keys)
        torch.set_num_threads(2)
        coded = compressor.encode(rows, keys)
        assert torch.equal(coded.packed, expected.packed)
        assert torch.equal(compressor.decode(coded.packed, rows.shape[1], rows.dtype), expected.values)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@every_compressor
def test_a_gpu_decodes_what_a_cpu_decodes(name, changes):
    compressor = build(name, **changes)
    for q in (20, 3001):
        for dtype in DTYPES:
            rows = normal_rows(3, q, dtype)
            coded = compressor.encode(rows.cuda(), keys_for(3))
            assert coded.packed.is_cuda
            assert coded.values.is_cuda
            assert torch.equal(compressor.decode(coded.packed, q, dtype), coded.values)
            assert torch.equal(compressor.decode(coded.packed.cpu(), q, dtype), coded.values.cpu())
            if name not in ("qsgd", "sign"):  # whose norms may differ in the last bit
                assert torch.equal(coded.packed.cpu(), compressor.encode(rows, keys_for(3)).packed)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        *(
            ("top_k", {"fraction": f}, rf"compressor\.fraction={f}: expected a number in \(0, 1\]")
            for f in (0, -1.0, 1.5)
        ),
        ("random_k", {"fraction": 0}, r"compressor\.fraction=0: expected a number in \(0, 1\]"),
        ("random_k", {"fraction": float("nan")}, r"compressor\.fraction=nan: expected a number in \(0, 1\]"),
        ("qsgd", {"levels": 0}, r"compressor\.levels=0: expected an integer from 1 to 127"),
        ("qsgd", {"levels": 128}, r"compressor\.levels=128: expected an integer from 1 to 127"),
        ("qsgd", {"levels": 2.5}, r"compressor\.levels=2\.5: expected an integer"),
        ("cast", {"dtype": "float32"}, r"compressor\.dtype='float32': expected float16 or bfloat16"),
        (
            "top_k",
            {"index_coding": "gzip"},
            r"compressor\.index_coding='gzip': expected one of smallest, int32, bitmap, golomb, auto",
        ),
        *((name, {"consensus_lr": 0}, r"compressor\.consensus_lr=0: expected a number in \(0, 1\]") for name in NAMES),
        ("sign", {"consensus_lr": 1.1}, r"compressor\.consensus_lr=1\.1: expected a number in \(0, 1\]"),
    ],
)
def test_bad_settings_are_one_line(name, changes, message, composed):
    from simulator import config

    overrides = [f"compressor={name}", *(f"compressor.{key}={value}" for key, value in changes.items())]
    with pytest.raises(ValueError, match=f"^{message}") as raised:
        config.build(composed(*overrides))
    assert "\n" not in str(raised.value)
