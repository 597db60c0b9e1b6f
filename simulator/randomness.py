"""Generators keyed by (seed, stream, node, step): the only source of randomness in the simulator.

A stream is a string that says what the numbers are for ("minibatch", "graph", "init", ...). Equal keys give
equal numbers on every process, so nothing random is ever communicated and nothing depends on which process
hosts a node, on the order of calls, or on the global generators of Python, NumPy and torch.

Two forms: :func:`generator` builds a NumPy generator for one key; :func:`random_bits` draws for many nodes at
once with a counter-based hash, which is what a training step uses. :func:`expand_on_device` has its bits on any device.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from simulator.arrays import BoolArray, FloatArray

_GOLDEN_RATIO = np.uint64(0x9E3779B97F4A7C15)
_PHI = int(_GOLDEN_RATIO)
_MULTIPLIER_1 = np.uint64(0xBF58476D1CE4E5B9)
_MULTIPLIER_2 = np.uint64(0x94D049BB133111EB)
_BLOCK_WORDS = 2**15


def derive_key(seed: int, stream: str, node: int = 0, step: int = 0) -> int:
    """Returns the 128-bit key of (seed, stream, node, step)."""
    text = f"{seed}/{stream}/{node}/{step}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=16).digest(), "little")


def generator(seed: int, stream: str, node: int = 0, step: int = 0) -> np.random.Generator:
    """Returns the NumPy generator of one key."""
    return np.random.Generator(np.random.Philox(key=derive_key(seed, stream, node, step)))


@contextmanager
def torch_seed(seed: int, stream: str, node: int = 0, step: int = 0) -> Iterator[None]:
    """Seeds torch's CPU generator inside the block and restores it afterwards.

    Only for library code that offers no generator argument, such as the initialisation of ``nn.Module``.
    """
    with torch.random.fork_rng(devices=[]):
        # torch.manual_seed would also seed the generators of all devices, which this block does not restore.
        torch.default_generator.manual_seed(derive_key(seed, stream, node, step) % 2**63)
        yield


def _mix_(bits: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """SplitMix64's finaliser, in place."""
    shifted = np.right_shift(bits, np.uint64(30))
    bits ^= shifted
    bits *= _MULTIPLIER_1
    bits ^= np.right_shift(bits, np.uint64(27), out=shifted)
    bits *= _MULTIPLIER_2
    bits ^= np.right_shift(bits, np.uint64(31), out=shifted)
    return bits


def _mixed(bits: int) -> int:
    """The same of one number, modulo 2^64."""
    bits %= 2**64
    bits = (bits ^ (bits >> 30)) * int(_MULTIPLIER_1) % 2**64
    bits = (bits ^ (bits >> 27)) * int(_MULTIPLIER_2) % 2**64
    return bits ^ (bits >> 31)


def random_bits(
    seed: int, stream: str, nodes: npt.ArrayLike, steps: npt.ArrayLike, count: int
) -> npt.NDArray[np.uint64]:
    """Draws ``count`` 64-bit words for every node, as a pure function of the arguments.

    Args:
        nodes: global node indices, shape [N].
        steps: the step of every node, shape [N] or a scalar.
        count: words per node.

    Returns:
        Array of shape [N, count]. The hash is SplitMix64's finaliser (Steele, Lea and Flood, OOPSLA 2014),
        applied to a counter that starts at a hashed key of its own for every (seed, stream, node, step).
    """
    return expand(_keys(seed, stream, nodes, steps), count)


def _keys(seed: int, stream: str, nodes: npt.ArrayLike, steps: npt.ArrayLike) -> npt.NDArray[np.uint64]:
    """The states from which SplitMix64's sequences of (seed, stream, node, step) start."""
    keys = np.atleast_1d(np.uint64(derive_key(seed, stream) % 2**64))
    with np.errstate(over="ignore"):
        for index in (nodes, steps):
            keys = _mix_(np.asarray(keys + _GOLDEN_RATIO * (np.asarray(index, dtype=np.uint64) + np.uint64(1))))
    shape = np.broadcast_shapes(np.shape(nodes), np.shape(steps))
    return keys.reshape(shape)


def expand(keys: npt.NDArray[np.uint64], count: int) -> npt.NDArray[np.uint64]:
    """Draws ``count`` 64-bit words from every key: [..., count] for keys of shape [...].

    The words of a key are SplitMix64's sequence from that state, so a key may be sent in place of them.
    """
    words = np.empty((*keys.shape, count), dtype=np.uint64)
    # Blocks stay in the processor's cache from one operation of the hash to the next.
    width = max(1, _BLOCK_WORDS // max(1, keys.size))
    for first in range(0, count, width):
        counters = _GOLDEN_RATIO * np.arange(first + 1, min(first + width, count) + 1, dtype=np.uint64)
        block = words[..., first : first + width]
        np.add(keys[..., None], counters, out=block)
        _mix_(block)
    return words


def thresholds(probabilities: FloatArray) -> npt.NDArray[np.uint64]:
    """The largest word whose uniform is at most each of ``probabilities``, which lie in [0, 1].

    So ``random_bits(...) <= thresholds(p)`` is ``uniforms(...) <= p``, and takes a third of the time.
    """
    whole = np.floor(np.ldexp(probabilities, 53))
    words = np.minimum(whole, 2.0**53 - 1.0).astype(np.uint64)
    return (words << np.uint64(11)) | np.uint64(2**11 - 1)


def are_at_most(seed: int, stream: str, step: int, limits: npt.NDArray[np.uint64]) -> BoolArray:
    """Whether word e of node 0 at ``step`` is at most ``limits[e]``, [E]; see :func:`random_bits`.

    The words are compared while they are in the processor's cache, and not kept.
    """
    key = _mixed(_mixed(derive_key(seed, stream) + _PHI) + _PHI * (step + 1))
    found = np.empty(len(limits), dtype=np.bool_)
    counters = _GOLDEN_RATIO * np.arange(1, min(_BLOCK_WORDS, len(limits)) + 1, dtype=np.uint64)
    words = np.empty_like(counters)
    with np.errstate(over="ignore"):
        for first in range(0, len(limits), _BLOCK_WORDS):
            size = min(_BLOCK_WORDS, len(limits) - first)
            np.add(counters[:size], np.uint64((key + _PHI * first) % 2**64), out=words[:size])
            np.less_equal(_mix_(words[:size]), limits[first : first + size], out=found[first : first + size])
    return found


def expand_on_device(keys: Tensor, count: int) -> Tensor:
    """The words of :func:`expand`, drawn where the keys are.

    Args:
        keys: their bits as int64, [...].

    Returns:
        The bits of the words as int64, [..., count].
    """
    counters = torch.arange(1, count + 1, device=keys.device) * _signed(_GOLDEN_RATIO)
    bits = keys[..., None] + counters
    bits = (bits ^ _shifted(bits, 30)) * _signed(_MULTIPLIER_1)
    bits = (bits ^ _shifted(bits, 27)) * _signed(_MULTIPLIER_2)
    return bits ^ _shifted(bits, 31)


def _signed(word: np.uint64) -> int:
    """The number that has the bits of ``word`` as int64."""
    return int(word.astype(np.int64))


def _shifted(bits: Tensor, places: int) -> Tensor:
    """A shift to the right of int64 that fills with zeros; torch's own fills with the sign."""
    shifted: Tensor = (bits >> places) & (2 ** (64 - places) - 1)
    return shifted


def uniforms(seed: int, stream: str, nodes: npt.ArrayLike, steps: npt.ArrayLike, count: int) -> FloatArray:
    """Draws uniforms in [0, 1) with 53 random bits each; arguments and shape as in :func:`random_bits`."""
    bits = random_bits(seed, stream, nodes, steps, count)
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


def normals(seed: int, stream: str, nodes: npt.ArrayLike, steps: npt.ArrayLike, count: int) -> FloatArray:
    """Draws standard normals, two from two uniforms (Box and Muller); arguments and shape as in :func:`random_bits`."""
    pairs = (count + 1) // 2
    drawn = uniforms(seed, stream, nodes, steps, 2 * pairs)
    lengths, angles = np.sqrt(-2.0 * np.log1p(-drawn[..., :pairs])), 2.0 * np.pi * drawn[..., pairs:]
    return np.concatenate([lengths * np.cos(angles), lengths * np.sin(angles)], axis=-1)[..., :count]
