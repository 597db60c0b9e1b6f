"""Augmentation and dropout masks: what they may do to an image, how often, and that only (seed, node, step) decide."""

from collections import Counter

import numpy as np
import pytest
import torch

from simulator.data.augmentation import CropAndFlip
from simulator.data.base import Split
from simulator.data.noisy_sampling import NoisySampler

BLACK = (-1.5, 2.5)
CROP = CropAndFlip(padding=2, black=BLACK)


def images(num_nodes, size):
    rng = torch.Generator().manual_seed(0)
    return torch.randn(num_nodes, size, 2, 5, 4, generator=rng, dtype=torch.float64)


def possible(image):
    """All crops of one padded image [2, 5, 4], mirrored or not, by what was done."""
    padded = np.stack([np.pad(plane, 2, constant_values=black) for plane, black in zip(image, BLACK, strict=True)])
    for down in range(5):
        for right in range(5):
            crop = padded[:, down : down + 5, right : right + 4]
            yield (down, right, False), crop
            yield (down, right, True), crop[:, :, ::-1]


def test_every_image_is_a_crop_of_its_padded_self_and_all_crops_are_as_frequent():
    stored = images(20, 50)
    changed = CROP(stored, 3, np.arange(20), 7, 0).numpy()
    seen = Counter()
    for image, result in zip(stored.flatten(0, 1).numpy(), changed.reshape(-1, 2, 5, 4), strict=True):
        (what,) = [done for done, crop in possible(image) if np.array_equal(crop, result)]
        seen[what] += 1
    # 50 outcomes, 20 expected of each: chi-square with 49 degrees of freedom is above 98 once in 40,000.
    assert len(seen) == 50
    assert sum((count - 20) ** 2 / 20 for count in seen.values()) < 98
    # Half of 1000 are mirrored, give or take four standard deviations.
    assert abs(sum(count for (_, _, mirrored), count in seen.items() if mirrored) - 500) < 64


def sampler(nodes=range(4), batch_size=6, seed=5, dropout=((0.5, 7), (0.2, 3)), augmentation=CROP):
    rng = torch.Generator().manual_seed(1)
    split = Split(
        torch.randn(40, 2, 5, 4, generator=rng, dtype=torch.float64)[10 * nodes.start : 10 * nodes.stop],
        torch.arange(40)[10 * nodes.start : 10 * nodes.stop],
        10 * np.arange(len(nodes)),
        np.full(len(nodes), 10),
    )
    return NoisySampler(
        split, nodes, batch_size=batch_size, drop_last=False, seed=seed, dropout=dropout, augmentation=augmentation
    )


def batch_of(step, **changes):
    (batch,) = sampler(**changes).batches(step, torch.float64)
    return batch


def test_noise_depends_on_seed_node_and_step_alone():
    first = batch_of(4)
    again = batch_of(4, nodes=range(1, 3))
    torch.testing.assert_close(again.inputs, first.inputs[1:3], rtol=0, atol=0)
    torch.testing.assert_close(again.masks, first.masks[1:3], rtol=0, atol=0)
    array = batch_of(np.array([4, -1, 4, 5]))
    torch.testing.assert_close(array.masks[[0, 2]], first.masks[[0, 2]], rtol=0, atol=0)
    torch.testing.assert_close(array.inputs[3], batch_of(5).inputs[3], rtol=0, atol=0)
    assert array.sizes[1] == 0
    assert len({tuple(mask.flatten().tolist()) for mask in first.masks}) == 4
    for other in (batch_of(5), batch_of(4, seed=6)):
        assert not torch.equal(other.masks, first.masks)
        assert not torch.equal(other.inputs, first.inputs)


def test_masks_drop_at_their_rates_and_keep_the_mean():
    masks = torch.cat([batch_of(step).masks.flatten(0, 1) for step in range(200)])
    assert masks.shape == (200 * 4 * 6, 10)
    rates = torch.tensor([0.5] * 7 + [0.2] * 3, dtype=torch.float64)
    for feature, rate in enumerate(rates.tolist()):
        assert set(masks[:, feature].tolist()) == {0.0, 1 / (1 - rate)}
    # Standard errors of 4800 draws are at most 0.0073; features are independent.
    assert ((masks == 0).double().mean(0) - rates).abs().max() < 4 * 0.0073
    assert (torch.corrcoef(masks.T) - torch.eye(10)).abs().max() < 5 / 4800**0.5


@pytest.mark.parametrize("batch_size", [6, None])
def test_all_samples_come_as_they_are_and_without_masks(batch_size):
    plain = next(iter(sampler(batch_size=batch_size, dropout=(), augmentation=None).batches(None, torch.float64)))
    noisy = next(iter(sampler(batch_size=batch_size).batches(None, torch.float64)))
    torch.testing.assert_close(noisy.inputs, plain.inputs, rtol=0, atol=0)
    assert noisy.masks is None


def test_full_batches_of_a_step_are_noisy_block_by_block():
    whole = sampler(batch_size=None)
    whole._block_size = 4
    parts = list(whole.batches(2, torch.float64))
    assert [part.masks.shape for part in parts] == [(4, 4, 10), (4, 4, 10), (4, 2, 10)]
    assert not torch.equal(parts[0].masks, parts[1].masks)


def test_without_noise_batches_are_those_of_the_sampler_beneath():
    plain = batch_of(3, dropout=(), augmentation=None)
    assert plain.masks is None
    torch.testing.assert_close(plain.labels, batch_of(3).labels, rtol=0, atol=0)
    expected = sampler()._split.inputs[plain.labels]
    torch.testing.assert_close(plain.inputs, expected, rtol=0, atol=0)
