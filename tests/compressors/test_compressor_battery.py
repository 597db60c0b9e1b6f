"""What every compressor keeps to: lengths, equal floats on every holder, rows on their own, contraction."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from simulator.compressors.identity import Identity
from simulator.testing import check_compressor
from simulator.testing.compressor_cases import CASE_NAMES, CASES, NAMES, VARIANTS, build
from simulator.testing.compressors import COMPRESSOR_CHECKS, DTYPES, keys_for, normal_rows

every_compressor = pytest.mark.parametrize(("name", "changes"), CASES, ids=CASE_NAMES)


def test_variants_are_of_compressors_that_exist():
    assert set(VARIANTS) <= set(NAMES)
    assert {"cast", "identity", "qsgd", "random_k", "sign", "top_k"} <= set(NAMES)


@every_compressor
@pytest.mark.parametrize("check", COMPRESSOR_CHECKS, ids=lambda check: check.__name__)
def test_battery(name, changes, check):
    check(build(name, **changes))


def test_check_compressor_runs_all_checks():
    check_compressor(build("top_k"))


@dataclass(frozen=True, kw_only=True)
class Wrong(Identity):
    """Sends rows as they are, but for one thing."""

    change: Callable

    def encode(self, rows, keys):
        return self.change(super().encode(rows, keys))

    def contraction(self, num_columns):
        return 1.5 if self.change is same_coded else 1.0


def same_coded(coded):
    return coded


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda coded: replace(coded, packed=coded.packed[:, :-1]), "packets are"),
        (lambda coded: replace(coded, values=coded.values.double()), "values are"),
        (lambda coded: replace(coded, values=coded.values + 1), "decode to other values"),
        (same_coded, "contraction is 1.5"),
    ],
)
def test_check_compressor_finds_what_is_wrong(change, message):
    with pytest.raises(AssertionError, match=message):
        check_compressor(Wrong(consensus_lr=1.0, change=change))


@every_compressor
@pytest.mark.parametrize("dtype", DTYPES)
def test_error_and_norm_are_right_at_every_scale(name, changes, dtype):
    compressor = build(name, **changes)
    scales = torch.tensor([1e-45, 1e-40, 1e-36, 1e-30, 1e-20, 1e-10, 1e10, 1e25, 1e35], dtype=dtype)[:, None]
    for q in (20, 3000):
        rows = normal_rows(len(scales), q, dtype) * scales
        coded = compressor.encode(rows, keys_for(len(rows)))
        if name in ("identity", "sign", "top_k"):  # the others draw, or saturate and underflow
            error, size = ((coded.values - rows) / scales).double().norm(dim=1), (rows / scales).double().norm(dim=1)
            assert (error[2:] ** 2 <= (1 - compressor.contraction(q) + 1e-5) * size[2:] ** 2).all()
        elif name == "qsgd":
            wire = {"float64": torch.float64, None: dtype}.get(changes.get("wire_dtype", "float32"), torch.float32)
            num_norms = -(-q // (changes["bucket_size"] or q))
            norms = coded.packed[:, : wire.itemsize * num_norms].contiguous().view(wire).double()
            expected = rows.double().norm(dim=1)[2:]
            np.testing.assert_allclose(norms.norm(dim=1)[2:], expected, rtol=1e-6)
            assert (coded.values[2:] != 0).any(dim=1).all() or changes["levels"] < 8


@every_compressor
def test_rows_that_are_not_finite_stay_so(name, changes):
    if name not in ("identity", "qsgd", "sign", "top_k"):  # the others may leave the entry out, or saturate
        return
    for bad in (float("nan"), float("inf"), -float("inf")):
        rows = normal_rows(3, 300)
        rows[1, 17] = bad
        assert not build(name, **changes).encode(rows, keys_for(3)).values[1].isfinite().all()


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
