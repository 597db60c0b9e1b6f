"""Small unsigned numbers as a stream of bits, and the pieces that packets are put together from.

The lowest bit comes first: number j of width w occupies bits w j, ..., w j + w - 1 of its row's stream, and bit i of
the stream is bit i % 8 of byte i // 8. Zeros fill up the last byte. Wider elements are little-endian.

Shapes: N rows, K numbers, C bytes.
"""

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

# Multiplied with eight bytes of 0 or 1, read as one number, it collects their bits in the highest byte.
_COLLECT = 0x0102040810204080


def packed_bytes(count: int, width: int) -> int:
    """Bytes of ``count`` numbers of ``width`` bits each."""
    return (count * width + 7) // 8


def pack(numbers: Tensor, width: int) -> Tensor:
    """Packs uint8 numbers [N, K], each below 2^width, into bytes [N, C]; width 1 to 8."""
    count = numbers.shape[1]
    if width == 8:
        return numbers
    if not len(numbers):  # an empty tensor may have any strides, so it cannot be viewed as below
        return numbers.new_zeros(0, packed_bytes(count, width))
    padded = F.pad(numbers, (0, -count % 8)) if count % 8 else numbers.contiguous()
    words = padded.view(torch.int64)  # eight numbers, one in the low bits of each byte
    if width == 1:
        return ((words * _COLLECT) >> 56).to(torch.uint8)
    words = words.clone()
    for lane in (8, 16, 32):  # lanes of so many bits hold ``used`` bits each; the upper of two moves next to the lower
        used = lane // 8 * width
        upper = words & _every_second_lane(lane, used)
        words.bitwise_xor_(upper).bitwise_or_(upper.bitwise_right_shift_(lane - used))
    packed: Tensor = words.view(torch.uint8).unflatten(1, (-1, 8))[:, :, :width].flatten(1)
    return packed[:, : packed_bytes(count, width)]


def unpack(packed: Tensor, count: int, width: int) -> Tensor:
    """The uint8 numbers [N, count] in bytes [N, C]; undoes :func:`pack`."""
    if width == 8:
        return packed
    groups = (count + 7) // 8
    if width == 1:
        words = _bits_of_bytes(packed.device).view(torch.int64).squeeze(1).index_select(0, packed.flatten().int())
        return words.view(len(packed), groups).view(torch.uint8)[:, :count]
    padded = F.pad(packed, (0, groups * width - packed.shape[1])).unflatten(1, (groups, width))
    words = F.pad(padded, (0, 8 - width)).view(torch.int64).squeeze(2)
    for lane in (32, 16, 8):
        used = lane // 8 * width
        upper = words & (_every_second_lane(lane, used) >> (lane - used))
        words.bitwise_xor_(upper).bitwise_or_(upper.bitwise_left_shift_(lane - used))
    return words.view(torch.uint8)[:, :count]


def unpack_signs(packed: Tensor, count: int, dtype: torch.dtype) -> Tensor:
    """+1 for every 1 and -1 for every 0 in bytes [N, C] that hold ``count`` numbers of one bit each: [N, count]."""
    signs = 2 * _bits_of_bytes(packed.device).to(dtype) - 1
    return signs.index_select(0, packed.flatten().int()).view(len(packed), 8 * packed.shape[1])[:, :count]


def section(packed: Tensor, start: int, num_bytes: int, dtype: torch.dtype) -> Tensor:
    """Elements [N, K] of bytes ``start``, ..., ``start + num_bytes - 1`` of every packet; a copy, hence aligned."""
    return packed[:, start : start + num_bytes].clone(memory_format=torch.contiguous_format).view(dtype)


@cache
def _every_second_lane(lane: int, used: int) -> int:
    """The number whose ones are the lowest ``used`` bits of the upper of every two lanes, as a signed 64-bit word.

    Lanes use at most 7 of 8 bits, so that the sign bit is never among them.
    """
    return sum((2**used - 1) << shift for shift in range(lane, 64, 2 * lane))


@cache
def _bits_of_bytes(device: torch.device) -> Tensor:
    """The bits of all bytes, [256, 8] of 0 and 1."""
    bits = (torch.arange(256, device=device)[:, None] >> torch.arange(8, device=device)) & 1
    return bits.to(torch.uint8)
