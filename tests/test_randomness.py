"""Randomness: pure in its key, uniform, independent between keys, and without a trace on global generators."""

import random

import numpy as np
import pytest
import scipy.stats
import torch

from simulator.randomness import (
    are_at_most,
    derive_key,
    expand,
    expand_on_device,
    generator,
    normals,
    random_bits,
    thresholds,
    torch_seed,
    uniforms,
)

KEYS = [(0, "a", 0, 0), (1, "a", 0, 0), (0, "b", 0, 0), (0, "a", 1, 0), (0, "a", 0, 1), (1, "a", 1, 1)]


def test_generators_are_pure_in_their_key():
    draws = [generator(*key).standard_normal(4) for key in KEYS]
    generator(5, "other").standard_normal(100)
    for key, first in zip(KEYS, draws, strict=True):
        np.testing.assert_array_equal(generator(*key).standard_normal(4), first)
    assert len({tuple(draw) for draw in draws}) == len(KEYS)
    assert len({derive_key(*key) for key in KEYS}) == len(KEYS)


def test_keys_cannot_be_confused_by_their_digits():
    assert derive_key(1, "a", 11, 1) != derive_key(1, "a", 1, 11)
    assert derive_key(11, "a", 1, 1) != derive_key(1, "a", 11, 1)


def test_drawing_for_many_nodes_is_drawing_for_each():
    nodes, steps = np.array([0, 7, 3, 7]), np.array([5, 5, 0, 6])
    together = random_bits(3, "minibatch", nodes, steps, 6)
    assert together.shape == (4, 6)
    assert together.dtype == np.uint64
    for row, node, step in zip(together, nodes, steps, strict=True):
        np.testing.assert_array_equal(random_bits(3, "minibatch", [node], step, 6)[0], row)
        # Fewer words are the first ones of many, so that padding does not change what a node draws.
        np.testing.assert_array_equal(random_bits(3, "minibatch", [node], step, 2)[0], row[:2])
    assert len(set(together.reshape(-1).tolist())) == 24


def test_a_key_expands_to_the_words_of_splitmix64():
    def word(key, number):  # Steele, Lea and Flood's, in whole numbers
        z = (key + (number + 1) * 0x9E3779B97F4A7C15) % 2**64
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
        return z ^ (z >> 31)

    keys = np.array([0, 2**64 - 1, 12345], dtype=np.uint64)
    words = expand(keys, 30_000)  # several blocks
    assert words.shape == (3, 30_000)
    assert int(words[0, 0]) == 0xE220A8397B1DCDAF  # the generator's known first output for seed 0
    for number in (0, 1, 9_999, 10_921, 10_922, 10_923, 21_845, 29_999):
        assert words[:, number].tolist() == [word(key, number) for key in keys.tolist()]
    np.testing.assert_array_equal(expand(keys[1:], 7), words[1:, :7])
    assert expand(keys[:0], 5).shape == (0, 5)
    assert keys.tolist() == [0, 2**64 - 1, 12345]


@pytest.mark.parametrize("change", [{"seed": 1}, {"stream": "x"}, {"nodes": [1]}, {"steps": 1}])
def test_each_part_of_the_key_changes_all_words(change):
    key = {"seed": 0, "stream": "y", "nodes": [0], "steps": 0, "count": 1000}
    first, second = random_bits(**key), random_bits(**{**key, **change})
    assert not np.isin(first, second).any()


@pytest.mark.parametrize(
    ("nodes", "steps", "count"), [([4], 9, 65536), (np.arange(65536), 2, 1), ([0], None, 1), ([12], None, 16)]
)
def test_words_are_uniform_along_counters_nodes_and_steps(nodes, steps, count):
    if steps is None:
        values = np.concatenate([uniforms(1, "s", nodes, step, count)[0] for step in range(65536 // count)])
    else:
        values = uniforms(1, "s", nodes, steps, count).reshape(-1)
    assert values.min() >= 0
    assert values.max() < 1
    counts = np.bincount((values * 256).astype(int), minlength=256)
    assert scipy.stats.chisquare(counts).pvalue > 1e-3
    # Neighbouring values: 16 x 16 cells of pairs.
    pairs = (values[:-1:2] * 16).astype(int) * 16 + (values[1::2] * 16).astype(int)
    assert scipy.stats.chisquare(np.bincount(pairs, minlength=256)).pvalue > 1e-3


def test_all_64_bits_are_fair_coins():
    words = random_bits(2, "bits", np.arange(100), 3, 400).reshape(-1)
    ones = np.array([int(((words >> np.uint64(bit)) & np.uint64(1)).sum()) for bit in range(64)])
    deviations = (ones - words.size / 2) / (words.size / 4) ** 0.5
    assert np.abs(deviations).max() < 4.5


@pytest.mark.parametrize("change", [{"seed": 1}, {"stream": "x"}, {"nodes": [1]}, {"steps": 1}])
def test_keys_are_independent(change):
    key = {"seed": 0, "stream": "y", "nodes": [0], "steps": 0, "count": 40000}
    first, second = uniforms(**key)[0], uniforms(**{**key, **change})[0]
    cells = (first * 16).astype(int) * 16 + (second * 16).astype(int)
    assert scipy.stats.chisquare(np.bincount(cells, minlength=256)).pvalue > 1e-3
    assert abs(np.corrcoef(first, second)[0, 1]) < 4 / 200


@pytest.mark.parametrize("count", [0, 1, 5, 3000])
def test_words_on_a_device_have_the_bits_of_those_on_the_host(count):
    keys = np.concatenate([random_bits(0, "keys", [0], 0, 6)[0], np.array([0, 1, 2**63, 2**64 - 1], dtype=np.uint64)])
    keys = keys.reshape(2, 5)
    drawn = expand_on_device(torch.from_numpy(keys.view(np.int64)), count)
    assert drawn.shape == (2, 5, count)
    np.testing.assert_array_equal(drawn.numpy().view(np.uint64), expand(keys, count))


def test_uniforms_are_the_upper_53_bits():
    bits = random_bits(0, "u", [1, 2], 3, 5)
    expected = [[int(word) // 2**11 / 2**53 for word in row] for row in bits]
    np.testing.assert_array_equal(uniforms(0, "u", [1, 2], 3, 5), expected)


def test_normals_are_standard_normal_and_pure():
    drawn = normals(2, "noise", np.arange(3000), 4, 7)
    assert drawn.shape == (3000, 7)
    assert scipy.stats.kstest(drawn.ravel(), "norm").pvalue > 1e-3
    assert np.abs(np.corrcoef(drawn.T) - np.eye(7)).max() < 5 / np.sqrt(3000)
    np.testing.assert_array_equal(normals(2, "noise", [5, 17], 4, 7), drawn[[5, 17]])
    assert not np.isclose(normals(2, "noise", [5], 5, 7), drawn[5]).any()


def test_nothing_touches_the_global_generators():
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    expected = (random.random(), np.random.random(), torch.rand(()).item())
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    generator(0, "a").random()
    uniforms(0, "a", [0], 0, 3)
    with torch_seed(0, "init"):
        torch.rand(3)
    assert (random.random(), np.random.random(), torch.rand(()).item()) == expected


def test_torch_seed_is_pure_and_restores_even_after_an_error():
    def draw(*key):
        with torch_seed(*key):
            return torch.rand(3).tolist()

    first = draw(0, "init")
    torch.manual_seed(123)
    assert draw(0, "init") == first
    assert draw(1, "init") != first
    assert draw(0, "init", 0, 1) != first
    before = torch.get_rng_state()
    with pytest.raises(ZeroDivisionError), torch_seed(0, "init"):
        torch.rand(1 // 0)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_torch_seed_leaves_the_gpu_generator_alone():
    torch.cuda.manual_seed(5)
    before = torch.cuda.get_rng_state()
    with torch_seed(0, "init"):
        torch.rand(3)
    assert torch.equal(torch.cuda.get_rng_state(), before)


def test_words_are_compared_as_uniforms_are():
    """Also where a probability is one of the values that a uniform can take, and at its ends."""
    drawn = uniforms(3, "edges", 0, 8, 100_000)
    probabilities = np.random.default_rng(0).random(100_000)
    probabilities[:1000] = drawn[:1000]
    probabilities[1000:2000] = np.nextafter(drawn[1000:2000], 0.0)
    probabilities[2000:3000] = np.nextafter(drawn[2000:3000], 1.0)
    probabilities[3000:4000], probabilities[4000:5000] = 0.0, 1.0
    found = are_at_most(3, "edges", 8, thresholds(probabilities))
    np.testing.assert_array_equal(found, drawn <= probabilities)
    assert found[:1000].all()
    assert not found[1000:2000].any()
    assert found[4000:5000].all()
    assert are_at_most(3, "edges", 8, thresholds(np.empty(0))).shape == (0,)
    assert thresholds(np.array([0.0, 1.0])).tolist() == [2**11 - 1, 2**64 - 1]
