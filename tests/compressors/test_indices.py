"""Codes of columns: exact, of the stated length, and Golomb's against one written bit by bit."""

from math import ceil, comb, log2

import numpy as np
import pytest
import torch

from simulator.compressors.indices import INDEX_CODINGS

SIZES = [
    *((1, 1), (2, 1), (7, 7), (20, 4), (256, 256), (257, 1), (1000, 1), (1000, 3), (1000, 200), (1000, 999)),
    *((65536, 30), (65537, 30), (70000, 14000), (300_000, 20), (300_000, 150_000)),
]


def columns_of(q, k):
    """Four rows: random ones, the first k, the last k, and evenly spaced ones."""
    rng = np.random.default_rng(q + k)
    rows = [np.sort(rng.choice(q, k, replace=False)), np.arange(k), np.arange(q - k, q), np.arange(k) * (q // k)]
    return torch.from_numpy(np.stack(rows))


def golomb_bytes(q, k, low_bits):
    return ceil(k * low_bits / 8) + ceil((k + (q - 1) // 2**low_bits) / 8)


def golomb_by_hand(columns, q, low_bits):
    """The code of one row in text, lowest bit first."""
    low, stops, bucket = [""] * low_bits, "", 0
    for column in columns:
        text = format(column, "032b")[::-1]
        low = [bits + text[position] for position, bits in enumerate(low)]
        while bucket < column // 2**low_bits:
            stops += "0"
            bucket += 1
        stops += "1"
    stops = stops.ljust(len(columns) + (q - 1) // 2**low_bits, "0")
    whole = low_bits // 8 * 8
    streams = ["".join("".join(bits) for bits in zip(*low[b : b + 8], strict=True)) for b in range(0, whole, 8)]
    streams += ["".join("".join(bits) for bits in zip(*low[whole:], strict=True)), stops]
    padded = [stream.ljust(ceil(len(stream) / 8) * 8, "0") for stream in streams]
    return np.packbits(np.array(list("".join(padded)), dtype=np.uint8), bitorder="little")


@pytest.mark.parametrize("name", INDEX_CODINGS)
@pytest.mark.parametrize(("q", "k"), SIZES)
def test_codes_are_exact_and_as_long_as_stated(name, q, k):
    coding, columns = INDEX_CODINGS[name], columns_of(q, k)
    code = coding.encode(columns, q)
    assert code.dtype == torch.uint8
    assert code.shape == (4, coding.num_bytes(q, k))
    assert torch.equal(coding.decode(code, q, k), columns)
    assert torch.equal(coding.decode(code[2:3], q, k), columns[2:3])
    packets = torch.cat([torch.full((4, 5), 255, dtype=torch.uint8), code], dim=1)
    assert torch.equal(coding.decode(packets[:, 5:], q, k), columns)
    assert coding.decode(code[:0], q, k).shape == (0, k)
    # No code that tells all sets apart is shorter than the number of sets allows.
    assert 8 * coding.num_bytes(q, k) >= log2(comb(q, k)) if q <= 1000 else True


@pytest.mark.parametrize(("q", "k"), SIZES)
def test_lengths(q, k):
    lengths = {name: coding.num_bytes(q, k) for name, coding in INDEX_CODINGS.items()}
    assert lengths["int32"] == 4 * k
    assert lengths["smallest"] == (1 if q <= 256 else 2 if q <= 65536 else 4) * k
    assert lengths["bitmap"] == ceil(q / 8)
    assert lengths["golomb"] == min(golomb_bytes(q, k, low_bits) for low_bits in range(32))
    assert lengths["auto"] == min(lengths["smallest"], lengths["bitmap"], lengths["golomb"])


@pytest.mark.parametrize(("q", "k"), [(20, 4), (1000, 3), (1000, 200), (70000, 5), (300_000, 20)])
def test_golomb_against_a_code_written_bit_by_bit(q, k):
    low_bits = min(range(32), key=lambda bits: golomb_bytes(q, k, bits))
    columns = columns_of(q, k)
    expected = [golomb_by_hand(row, q, low_bits) for row in columns.tolist()]
    np.testing.assert_array_equal(INDEX_CODINGS["golomb"].encode(columns, q).numpy(), np.stack(expected))


def test_golomb_is_close_to_the_shortest_possible_code():
    for fraction in (0.001, 0.01, 0.1, 0.2):
        q, k = 100_000, int(fraction * 100_000)
        entropy = -(fraction * log2(fraction) + (1 - fraction) * log2(1 - fraction)) * q / 8
        assert entropy < INDEX_CODINGS["golomb"].num_bytes(q, k) < 1.25 * entropy
