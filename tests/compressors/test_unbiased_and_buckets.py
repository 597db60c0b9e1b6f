"""Unbiased forms, norms by bucket and wide wire types, against NumPy that starts from the packets."""

from math import ceil, log2, sqrt

import numpy as np
import pytest
import torch
from hydra.utils import get_class
from omegaconf import OmegaConf

from simulator.algorithms.compressed.requirements import require_contraction
from simulator.testing.compressor_cases import FOLDER, build
from simulator.testing.compressors import keys_for, normal_rows


def levels_and_norms(packets, q, s, b, wire):
    """Signed levels [N, q] and the norm of every column's bucket [N, q]."""
    num_buckets, width = ceil(q / b), ceil(log2(2 * s + 1))
    num_bytes = num_buckets * np.dtype(wire).itemsize
    norms = packets[:, :num_bytes].copy().view(wire).astype(np.float64)
    bits = np.unpackbits(packets[:, num_bytes:], axis=1, bitorder="little", count=q * width)
    levels = (bits.reshape(len(packets), q, width) * 2 ** np.arange(width)).sum(-1) - s
    return levels, norms[:, np.arange(q) // b]


@pytest.mark.parametrize("unbiased", [False, True])
@pytest.mark.parametrize(("q", "b"), [(20, 512), (512, 512), (513, 512), (1300, 512), (100, 1), (100, 7), (64, 8)])
@pytest.mark.parametrize(("dtype", "wire"), [("float32", "float32"), ("float64", "float32"), ("float64", "float64")])
def test_qsgd_by_bucket(q, b, unbiased, dtype, wire):
    s, rows = 8, normal_rows(3, q, getattr(torch, dtype)) * torch.logspace(-3, 3, q, dtype=getattr(torch, dtype))
    compressor = build("qsgd", levels=s, bucket_size=b, unbiased=unbiased, wire_dtype=wire)
    coded = compressor.encode(rows, keys_for(3))
    levels, norms = levels_and_norms(coded.packed.numpy(), q, s, min(b, q), wire)
    v = rows.double().numpy()
    exact = np.concatenate([np.linalg.norm(v[:, k : k + b], axis=1)[:, None] for k in range(0, q, b)], axis=1)
    np.testing.assert_allclose(norms, exact[:, np.arange(q) // b], rtol=1e-14 if wire == "float64" else 1e-6)
    # Every level is one of the two multiples around the entry.
    assert (np.abs(levels - s * v / norms) < 1 + 1e-4).all()
    omega = min(min(b, q) / s**2, sqrt(min(b, q)) / s)
    sent = norms * levels / (s * (1.0 if unbiased else 1 + omega))
    np.testing.assert_allclose(coded.values.numpy(), sent, rtol=1e-14 if dtype == "float64" else 1e-6)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("qsgd", {"levels": 1, "bucket_size": 8}),
        ("qsgd", {"levels": 8, "bucket_size": None}),
        ("qsgd", {"levels": 2, "bucket_size": 16}),
        ("random_k", {"fraction": 0.1}),
        ("random_k", {"fraction": 0.7}),
    ],
)
def test_unbiased_forms_are_unbiased_and_have_the_stated_error(name, changes):
    """Means of 20,000 draws within standard errors; the mean squared error is what 1 - contraction says, or less."""
    q, repetitions = 40, 20_000
    row = normal_rows(1, q, torch.float64)
    compressor = build(name, unbiased=True, wire_dtype="float64", **changes)
    values = compressor.encode(row.expand(repetitions, q), keys_for(repetitions)).values.numpy()
    spread = values.std(axis=0, ddof=1) / sqrt(repetitions)
    deviations = (values.mean(axis=0) - row.numpy()[0]) / spread
    assert np.abs(deviations).max() < 4.5
    assert 0.5 < np.sqrt((deviations**2).mean()) < 1.6
    errors = ((values - row.numpy()) ** 2).sum(axis=1) / float(row.square().sum())
    above = errors.mean() - (1 - compressor.contraction(q))
    standard_error = errors.std() / sqrt(repetitions)
    assert above < 4.5 * standard_error
    if name == "random_k":
        assert abs(above) < 4.5 * standard_error + 1e-12
    # The biased form of the same draws is the same rows, scaled.
    biased = build(name, unbiased=False, wire_dtype="float64", **changes).encode(row, keys_for(1)).values.numpy()
    np.testing.assert_allclose(biased * (values[0] @ values[0]) / (values[0] @ biased[0]), values[:1], rtol=1e-12)


@pytest.mark.parametrize("name", ["top_k", "random_k", "qsgd", "sign"])
@pytest.mark.parametrize("word", ["float64", None])
def test_a_wide_wire_loses_nothing(name, word):
    """What float32 cuts off is there: entries as they are, and norms and means to the last digits."""
    rows = normal_rows(3, 50, torch.float64)
    narrow = build(name).encode(rows, keys_for(3)).values
    wide = build(name, wire_dtype=word).encode(rows, keys_for(3))
    assert not torch.equal(wide.values, narrow)
    torch.testing.assert_close(wide.values, narrow, rtol=1e-6, atol=0)
    if name in ("top_k", "random_k"):
        sent = wide.values != 0
        assert torch.equal(wide.values[sent], rows[sent])
    if name == "sign":
        expected = rows.abs().mean(dim=1, keepdim=True).expand_as(rows)
        torch.testing.assert_close(wide.values.abs(), expected, rtol=1e-14, atol=0)
    in_float32 = build(name, wire_dtype=None).encode(rows.float(), keys_for(3))
    assert in_float32.packed.shape[1] == build(name).payload_bytes(50, torch.float32)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("qsgd", {"bucket_size": 0}, "compressor.bucket_size=0: expected an integer of at least 1, or null"),
        *(
            (name, {"wire_dtype": "float16"}, "compressor.wire_dtype='float16': expected float32, float64, or null")
            for name in ("qsgd", "random_k", "sign", "top_k")
        ),
    ],
)
def test_bad_settings_are_one_line(name, changes, message):
    settings = {**OmegaConf.load(FOLDER / f"{name}.yaml"), **changes}
    kind = get_class(settings.pop("_target_"))
    with pytest.raises(ValueError, match=message) as error:
        kind(**settings)
    assert "\n" not in str(error.value)


def test_what_is_no_contraction_is_refused_in_one_line():
    message = (
        r"compressor: QSGD as set is no contraction on 1000 columns \(its mean squared error may be 2.83 times the "
        r"squared norm\), and error feedback needs one; use compressor.unbiased=false, or milder compression"
    )
    with pytest.raises(ValueError, match=message) as error:
        require_contraction(build("qsgd", unbiased=True), 1000, "error feedback")
    assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="RandomK as set is no contraction on 10 columns"):
        require_contraction(build("random_k", unbiased=True), 10, "error feedback")
    require_contraction(build("qsgd", unbiased=True, levels=64), 1000, "error feedback")
    require_contraction(build("random_k", unbiased=True, fraction=0.6), 10, "error feedback")
    require_contraction(build("qsgd"), 79_510, "error feedback")
