"""Every compressor against its formula, written out in NumPy, and its bytes taken apart by NumPy."""

from itertools import combinations
from math import ceil, log2, sqrt

import numpy as np
import pytest
import scipy.stats
import torch

from simulator.testing.compressor_cases import build
from simulator.testing.compressors import keys_for, normal_rows

LENGTHS = (1, 2, 3, 5, 7, 8, 9, 20, 100, 255, 256, 257, 999, 2010, 40000, 65536, 65537, 2602140)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_lengths_in_closed_form(dtype):
    def check(compressor, length, delta=lambda q: 1.0):
        assert [compressor.payload_bytes(q, dtype) for q in LENGTHS] == [length(q) for q in LENGTHS]
        np.testing.assert_allclose([compressor.contraction(q) for q in LENGTHS], [delta(q) for q in LENGTHS], 1e-6)

    check(build("identity"), lambda q: q * (4 if dtype == torch.float32 else 8))
    check(build("cast", dtype="float16"), lambda q: 2 * q)
    check(build("cast", dtype="bfloat16"), lambda q: 2 * q, lambda q: 1 - 2.0**-16)
    rows_own = 4 if dtype == torch.float32 else 8
    sizes = {"float32": 4, "float64": 8, None: rows_own}
    for word, size in sizes.items():
        sent = {"wire_dtype": word}
        check(build("sign", **sent), lambda q: size + ceil(q / 8), lambda q: 1 / q)  # noqa: B023
        check(build("random_k", **sent), lambda q: size * max(1, round(q / 2)) + 8, lambda q: max(1, round(q / 2)) / q)  # noqa: B023
        top_k = build("top_k", index_coding="int32", **sent)
        check(top_k, lambda q: (size + 4) * max(1, round(0.2 * q)), lambda q: max(1, round(0.2 * q)) / q)  # noqa: B023
        for b in (1, 20, 512, None):
            omega = {q: min((b or q) / 64, sqrt(min(b or q, q)) / 8, q / 64) for q in LENGTHS}
            length = lambda q: size * ceil(q / (b or q)) + ceil(q * 5 / 8)  # noqa: B023, E731
            check(build("qsgd", bucket_size=b, **sent), length, lambda q: 1 / (1 + omega[q]))  # noqa: B023
            check(build("qsgd", bucket_size=b, unbiased=True, **sent), length, lambda q: 1 - omega[q])  # noqa: B023
    for fraction in (0.01, 0.2, 0.5, 1.0):
        kept = {q: max(1, round(fraction * q)) for q in LENGTHS}
        check(build("random_k", fraction=fraction), lambda q: 4 * kept[q] + 8, lambda q: kept[q] / q)  # noqa: B023
        unbiased = build("random_k", fraction=fraction, unbiased=True)
        check(unbiased, lambda q: 4 * kept[q] + 8, lambda q: 2 - q / kept[q])  # noqa: B023
        top_k = build("top_k", fraction=fraction, index_coding="int32")
        check(top_k, lambda q: 8 * kept[q], lambda q: kept[q] / q)  # noqa: B023
    for s in (1, 2, 7, 8, 15, 16, 127):
        width = ceil(log2(2 * s + 1))
        delta = {q: 1 / (1 + min(q / s**2, sqrt(q) / s)) for q in LENGTHS}
        check(build("qsgd", levels=s, bucket_size=None), lambda q: 4 + ceil(q * width / 8), delta.get)  # noqa: B023


def test_identity():
    for dtype in (torch.float32, torch.float64):
        rows = normal_rows(3, 77, dtype)
        coded = build("identity").encode(rows, keys_for(3))
        assert torch.equal(coded.values, rows)
        assert coded.packed.numpy().tobytes() == rows.numpy().tobytes()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_cast_to_float16(dtype):
    rows = normal_rows(4, 1000, dtype) * torch.tensor([[1.0], [1e-3], [1e-6], [1e6]], dtype=dtype)
    rows[0, :4] = torch.tensor([65519.9, 65504.0, -1e30, 1e-9], dtype=dtype)
    coded = build("cast", dtype="float16").encode(rows, keys_for(4))
    expected = np.clip(rows.numpy(), -65504, 65504).astype(np.float16)
    assert coded.values[0, :4].tolist() == [65504.0, 65504.0, -65504.0, 0.0]
    np.testing.assert_array_equal(coded.packed.numpy().view(np.float16), expected)
    np.testing.assert_array_equal(coded.values.numpy(), expected.astype(rows.numpy().dtype))


def test_cast_to_bfloat16():
    rows = normal_rows(2, 1000) * torch.tensor([[1.0], [1e30]])
    rows[0, :2] = torch.tensor([3.4e38, -3.4e38])
    coded = build("cast", dtype="bfloat16").encode(rows, keys_for(2))
    bits = np.clip(rows.numpy(), -3.3895314e38, 3.3895314e38).view(np.uint32).astype(np.uint64)
    upper = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)  # to nearest, ties to even
    np.testing.assert_array_equal(coded.packed.numpy().view(np.uint16), upper)
    np.testing.assert_array_equal(coded.values.numpy(), (upper.astype(np.uint32) << 16).view(np.float32))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("q", "fraction"), [(1, 0.2), (20, 0.2), (20, 1.0), (1000, 0.001), (3001, 0.1), (70000, 0.2)])
def test_top_k(q, fraction, dtype):
    rows = normal_rows(6, q, dtype)
    rows[1] = rows[1].round()  # many ties
    rows[2] = 0
    rows[3] = -2.5
    rows[4, q // 3 :] = 0  # fewer non-zeros than kept entries, for the larger fractions
    rows[5] = rows[5] * 1e-3 + rows[5].sign()  # for float64: distinct only beyond float32's digits after a cast
    k = max(1, round(fraction * q))
    expected, columns = np.zeros((6, q), dtype=rows.numpy().dtype), []
    for row, out in zip(rows.numpy(), expected, strict=True):
        kept = np.sort(np.argsort(-np.abs(row), kind="stable")[:k])
        out[kept] = row[kept].astype(np.float32)
        columns.append(kept)
    coded = build("top_k", fraction=fraction, index_coding="int32").encode(rows, keys_for(6))
    np.testing.assert_array_equal(coded.values.numpy(), expected)
    packets = coded.packed.numpy()
    np.testing.assert_array_equal(packets[:, 4 * k :].copy().view(np.int32), np.stack(columns))
    kept_values = np.take_along_axis(expected, np.stack(columns), axis=1).astype(np.float32)
    np.testing.assert_array_equal(packets[:, : 4 * k].copy().view(np.float32), kept_values)
    for coding in ("smallest", "bitmap", "golomb", "auto"):
        other = build("top_k", fraction=fraction, index_coding=coding)
        assert torch.equal(other.encode(rows, keys_for(6)).values, coded.values)


def test_top_k_of_ties_takes_the_lowest_columns():
    rows = torch.tensor([[1.0, -3.0, 3.0, 3.0, 2.0, -3.0], [0.0, -0.0, 0.0, 5.0, 0.0, 0.0]])
    values = build("top_k", fraction=0.5).encode(rows, keys_for(2)).values
    assert values.tolist() == [[0, -3, 3, 3, 0, 0], [0, 0, 0, 5, 0, 0]]
    code = build("top_k", fraction=0.5, index_coding="smallest").encode(rows, keys_for(2)).packed[:, 12:]
    assert code.tolist() == [[1, 2, 3], [0, 1, 3]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("q", "fraction"), [(1, 0.5), (20, 0.5), (2001, 0.03), (2001, 1.0)])
def test_random_k_sends_its_seed_and_the_entries_as_they_are(q, fraction, dtype):
    k = max(1, round(fraction * q))
    rows, keys = normal_rows(3, q, dtype), keys_for(3)
    coded = build("random_k", fraction=fraction).encode(rows, keys)
    values = coded.values.numpy()
    packets = coded.packed.numpy()
    np.testing.assert_array_equal(packets[:, :8].copy().view(np.uint64)[:, 0], keys)
    assert (np.count_nonzero(values, axis=1) == k).all()
    chosen = values != 0
    np.testing.assert_array_equal(values[chosen], rows.numpy()[chosen].astype(np.float32))
    np.testing.assert_array_equal(packets[:, 8:].copy().view(np.float32).reshape(-1), values[chosen].astype(np.float32))


def sets_drawn(q, fraction, num_draws):
    values = build("random_k", fraction=fraction).encode(torch.ones(num_draws, q), keys_for(num_draws, step=3)).values
    return values.numpy() != 0


def test_random_k_draws_every_set_equally_often():
    sets = sets_drawn(7, 3 / 7, 35_000)
    numbers = sets @ (1 << np.arange(7))
    expected = sorted(sum(1 << column for column in columns) for columns in combinations(range(7), 3))
    found, counts = np.unique(numbers, return_counts=True)
    assert found.tolist() == expected
    assert scipy.stats.chisquare(counts).pvalue > 1e-3


@pytest.mark.parametrize(("q", "fraction", "num_draws"), [(200, 0.5, 4000), (40_000, 0.001, 200), (65_600, 0.5, 20)])
def test_random_k_draws_every_column_equally_often(q, fraction, num_draws):
    k = round(fraction * q)
    counts = sets_drawn(q, fraction, num_draws).sum(0)
    assert counts.sum() == k * num_draws
    # Draws are without replacement, so the variance of a count is that of a binomial times q / (q - 1).
    p = k / q
    statistic = ((counts - num_draws * p) ** 2).sum() / (num_draws * p * (1 - p)) * (q - 1) / q
    assert 1e-3 < scipy.stats.chi2.sf(statistic, q - 1) < 1 - 1e-3
    # Neighbours are drawn together as often as any two columns, and along the row nothing leans.
    assert abs(scipy.stats.pearsonr(np.arange(q), counts).statistic) < 4 / sqrt(q)


def splitmix64(state, count):
    """Steele, Lea and Flood's generator, one number at a time."""
    words = []
    for _ in range(count):
        state = (state + 0x9E3779B97F4A7C15) % 2**64
        z = state
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
        words.append(z ^ (z >> 31))
    return words


def levels_in(packets, q, s):
    """Signed levels and norms in QSGD's packets, bit by bit."""
    width = ceil(log2(2 * s + 1))
    bits = np.unpackbits(packets[:, 4:], axis=1, bitorder="little", count=q * width).reshape(len(packets), q, width)
    return (bits * 2 ** np.arange(width)).sum(-1) - s, packets[:, :4].copy().view(np.float32)[:, 0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("s", [1, 3, 8, 60, 127])
def test_qsgd(s, dtype):
    q, rows, keys = 1501, normal_rows(3, 1501, dtype) * 3, keys_for(3)
    rows[1, 5:] *= 1e-4
    coded = build("qsgd", levels=s, bucket_size=None).encode(rows, keys)
    levels, norms = levels_in(coded.packed.numpy(), q, s)
    v = rows.numpy().astype(np.float64)
    np.testing.assert_allclose(norms, np.sqrt((v**2).sum(1)), rtol=1e-6)
    halves = [np.array(splitmix64(int(key), (q + 3) // 4), dtype=np.uint64).view(np.int16)[:q] for key in keys]
    noise = (np.stack(halves) + 2.0**15 + 0.5) / 2.0**16
    # The noise of negative entries counts from the other end.
    lengths = s * np.abs(v) / norms[:, None] + np.where(v < 0, 1 - noise, noise)
    distance = np.abs(lengths - np.round(lengths))
    expected = np.sign(v) * np.floor(lengths)
    close = distance < 1e-3 * s / 8 + 1e-5
    assert close.mean() < 0.05
    np.testing.assert_array_equal(levels[~close], expected[~close])
    assert (np.abs(levels) <= s).all()
    omega = min(q / s**2, sqrt(q) / s)
    sent = norms.astype(np.float64)[:, None] * levels / (s * (1 + omega))
    np.testing.assert_allclose(coded.values.numpy(), sent, rtol=1e-6)


@pytest.mark.parametrize("s", [1, 2, 8, 127])
def test_qsgd_is_unbiased_before_scaling_and_its_variance_is_that_of_uniform_noise(s):
    q, repetitions = 40, 20_000
    row = normal_rows(1, q)
    row[0, 0] = 0
    compressor = build("qsgd", levels=s)
    packets = compressor.encode(row.expand(repetitions, q), keys_for(repetitions)).packed
    levels, norms = levels_in(packets.numpy(), q, s)
    assert (levels[:, 0] == 0).all()
    exact = s * row[0].double().numpy() / norms[0]
    share = exact - np.floor(exact)  # of the draws that must round upwards
    assert set(np.unique(levels - np.floor(exact))) <= {0, 1}
    deviations = (levels.mean(0) - exact)[1:] / np.sqrt(share * (1 - share) / repetitions)[1:]
    assert np.abs(deviations).max() < 4.5
    assert scipy.stats.kstest(deviations, "norm").pvalue > 1e-3
    # Columns round independently of each other.
    correlation = np.corrcoef(levels[:, 1:].T) - np.eye(q - 1)
    assert np.abs(correlation).max() < 5.5 / sqrt(repetitions)


def test_qsgd_of_one_entry_is_exact_up_to_scaling():
    rows = torch.tensor([[0.1, 0.0, 0.0], [0.0, -1e20, 0.0], [0.0, 0.0, 3e-30]]).repeat(100, 1)
    for s in (1, 5, 127):
        omega = min(3 / s**2, sqrt(3) / s)
        values = build("qsgd", levels=s).encode(rows, keys_for(300)).values
        np.testing.assert_allclose(values * (1 + omega), rows, rtol=1e-6)


@pytest.mark.parametrize("s", [1, 8, 127])
def test_qsgd_never_rounds_beyond_the_norm(s):
    rows = normal_rows(1_000_000, 1)  # rounding errors and noise close to 1 meet in a few of so many
    coded = build("qsgd", levels=s).encode(rows, keys_for(len(rows)))
    levels = levels_in(coded.packed.numpy(), 1, s)[0][:, 0] * np.sign(rows[:, 0].numpy())
    assert levels.max() == s
    assert np.count_nonzero(levels != s) < 10
    assert torch.equal(coded.values.sign(), rows.sign())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("q", [1, 8, 21, 5000])
def test_sign(q, dtype):
    rows = normal_rows(4, q, dtype)
    rows[1, ::2] = 0
    rows[2, ::2] = -0.0
    rows[3] *= 1e-25
    v = rows.numpy().astype(np.float64)
    size = (np.abs(v).sum(1) / q).astype(np.float32)
    coded = build("sign").encode(rows, keys_for(4))
    packets = coded.packed.numpy()
    np.testing.assert_allclose(packets[:, :4].copy().view(np.float32)[:, 0], size, rtol=1e-6)
    np.testing.assert_array_equal(packets[:, 4:], np.packbits(v >= 0, axis=1, bitorder="little"))
    expected = np.where(v >= 0, 1, -1) * packets[:, :4].copy().view(np.float32).astype(np.float64)
    np.testing.assert_array_equal(coded.values.numpy().astype(np.float64), expected)
    # The error is known exactly.
    error = ((coded.values.double().numpy() - v) ** 2).sum(1)
    exact = (v**2).sum(1) - np.abs(v).sum(1) ** 2 / q
    np.testing.assert_allclose(error, exact, rtol=1e-5, atol=1e-6 * (v**2).sum(1).max())
