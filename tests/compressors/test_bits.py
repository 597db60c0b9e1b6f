"""Streams of bits, against NumPy's own packing."""

import numpy as np
import pytest
import torch

from simulator.compressors.bits import pack, packed_bytes, section, unpack, unpack_signs


@pytest.mark.parametrize("width", range(1, 9))
@pytest.mark.parametrize("count", [1, 7, 8, 9, 64, 203])
def test_packing_is_numpys_and_is_undone(width, count):
    numbers = np.random.default_rng(width * count).integers(0, 2**width, (3, count), dtype=np.uint8)
    numbers[0] = 2**width - 1
    bits = np.unpackbits(numbers[:, :, None], axis=2, bitorder="little")[:, :, :width].reshape(3, -1)
    expected = np.packbits(bits, axis=1, bitorder="little")
    packed = pack(torch.from_numpy(numbers), width)
    assert packed.shape == (3, packed_bytes(count, width)) == (3, -(-count * width // 8))
    np.testing.assert_array_equal(packed.numpy(), expected)
    np.testing.assert_array_equal(unpack(packed, count, width).numpy(), numbers)
    # Of a wider tensor, and of packets that begin anywhere in a buffer.
    wide = torch.from_numpy(np.concatenate([numbers, numbers], axis=1))
    np.testing.assert_array_equal(pack(wide[:, :count], width).numpy(), expected)
    shifted = torch.cat([torch.full((3, 3), 255, dtype=torch.uint8), packed], dim=1)
    np.testing.assert_array_equal(unpack(shifted[:, 3:], count, width).numpy(), numbers)


def test_signs_and_sections():
    packed = torch.tensor([[0b00000101, 0b1], [0b11111110, 0b0]], dtype=torch.uint8)
    expected = [[1, -1, 1, -1, -1, -1, -1, -1, 1], [-1, 1, 1, 1, 1, 1, 1, 1, -1]]
    assert unpack_signs(packed, 9, torch.float64).tolist() == expected
    numbers = torch.tensor([[1.5, -2.0]], dtype=torch.float32)
    packet = torch.cat([torch.zeros(1, 1, dtype=torch.uint8), numbers.view(torch.uint8)], dim=1)
    copied = section(packet, 1, 8, torch.float32)
    assert torch.equal(copied, numbers)
    packet.zero_()
    assert torch.equal(copied, numbers)
