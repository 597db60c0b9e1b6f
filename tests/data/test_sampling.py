"""Minibatches: every epoch a permutation, and the step alone says which samples are used."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from simulator.data.base import Split
from simulator.data.sampling import MinibatchSampler
from simulator.placement import Placement

SIZES = [10, 3, 0, 7, 12, 8]


def split_of(sizes, shared=False):
    """Node i's sample j has the single feature 1000 i + j and the label j."""
    if shared:
        inputs = torch.arange(sizes[0], dtype=torch.float32)[:, None]
        offsets = np.zeros(len(sizes), dtype=np.int64)
        return Split(inputs, torch.arange(sizes[0]), offsets, np.array(sizes, dtype=np.int64))
    values = [1000 * node + j for node, size in enumerate(sizes) for j in range(size)]
    offsets = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64)
    return Split(
        torch.tensor(values, dtype=torch.float32)[:, None],
        torch.tensor([value % 1000 for value in values]),
        offsets,
        np.array(sizes, dtype=np.int64),
    )


def sampler_of(sizes=SIZES, nodes=None, split=None, **changes):
    arguments = {"batch_size": 4, "drop_last": False, "seed": 3, **changes}
    return MinibatchSampler(split or split_of(sizes), nodes or range(len(sizes)), **arguments)


def drawn(sampler, step):
    """For every node the samples of a step, checked for consistency."""
    batches = list(sampler.batches(step, torch.float64))
    picked = [[] for _ in batches[0].sizes] if batches else []
    for batch in batches:
        assert batch.inputs.dtype == batch.weights.dtype == torch.float64
        for node, size in enumerate(batch.sizes):
            index = batch.index[node, :size].tolist()
            assert batch.labels[node, :size].tolist() == index
            assert [value % 1000 for value in batch.inputs[node, :size, 0].tolist()] == index
            assert torch.count_nonzero(batch.weights[node, size:]) == 0
            assert (batch.weights[node, :size] > 0).all()
            picked[node] += index
    weights = sum(batch.weights.sum(dim=1) for batch in batches)
    for node, samples in enumerate(picked):
        assert len(set(samples)) == len(samples)
        assert weights[node].item() == pytest.approx(1.0 if samples else 0.0, abs=1e-12)
        for batch in batches:
            nonzero = batch.weights[node][batch.weights[node] > 0]
            assert torch.allclose(nonzero, torch.tensor(1 / max(len(samples), 1), dtype=torch.float64))
    return picked


def batches_per_epoch(size, batch_size, drop_last):
    if size <= batch_size:
        return 1
    return size // batch_size if drop_last else -(-size // batch_size)


@pytest.mark.parametrize("drop_last", [False, True])
def test_every_epoch_is_a_permutation(drop_last):
    sampler = sampler_of(drop_last=drop_last)
    steps = [drawn(sampler, step) for step in range(12)]
    for node, size in enumerate(SIZES):
        count = batches_per_epoch(size, 4, drop_last)
        orders = set()
        for epoch in range(12 // count):
            batches = [step[node] for step in steps[epoch * count : (epoch + 1) * count]]
            samples = [sample for batch in batches for sample in batch]
            whole = size // 4 * 4 if drop_last and size > 4 else size
            assert len(samples) == len(set(samples)) == whole
            assert set(samples) <= set(range(size))
            assert [len(batch) for batch in batches] == [min(4, whole - 4 * i) for i in range(count)]
            orders.add(tuple(samples))
        if size > 4:
            assert len(orders) == 12 // count  # every epoch in a fresh order


def test_dropped_samples_change_from_epoch_to_epoch():
    sampler = sampler_of([10], drop_last=True)
    used = [frozenset(drawn(sampler, 2 * epoch)[0] + drawn(sampler, 2 * epoch + 1)[0]) for epoch in range(20)]
    assert frozenset.union(*used) == frozenset(range(10))
    assert len(set(used)) > 5


def test_any_order_of_steps_gives_the_same_samples():
    sampler = sampler_of()
    sequential = [drawn(sampler, step) for step in range(24)]
    scattered = sampler_of()
    for step in np.random.default_rng(0).integers(0, 24, 150).tolist():
        assert drawn(scattered, step) == sequential[step]
    assert drawn(sampler_of(), 9) == sequential[9]


def test_seed_node_and_epoch_enter_the_order():
    first = drawn(sampler_of([40, 40], batch_size=39), 0)
    assert first[0] != first[1]
    assert drawn(sampler_of([40, 40], batch_size=39, seed=4), 0) != first
    assert drawn(sampler_of([40, 40], batch_size=39), 2)[0] != first[0]


@pytest.mark.parametrize("world_size", [2, 3, 6])
@pytest.mark.parametrize("step", [0, 5, None])
def test_placement_does_not_matter(world_size, step):
    whole = drawn(sampler_of(), step)
    parts = []
    for rank in range(world_size):
        nodes = Placement(len(SIZES), world_size, rank).nodes
        local = sampler_of([SIZES[node] for node in nodes], nodes)
        # A process whose largest node fits into one batch hands it out unshuffled: the same samples and weights.
        parts += [sorted(samples) for samples in drawn(local, step)] or [[] for _ in nodes]
    assert parts == [sorted(samples) for samples in whole]


def test_the_order_of_a_node_does_not_depend_on_larger_nodes():
    alone = sampler_of([10], range(5, 6))
    beside = sampler_of([10, 500], range(5, 7))
    for step in range(6):
        assert drawn(alone, step)[0] == drawn(beside, step)[0]


def test_first_samples_are_uniform():
    sampler = sampler_of([5] * 400, batch_size=2)
    firsts = [samples[0] for step in (0, 3) for samples in drawn(sampler, step)]
    counts = np.bincount(firsts, minlength=5)
    assert ((counts - 160) ** 2 / 160).sum() < 18.5  # chi-squared with 4 degrees of freedom, 0.1 %


@pytest.mark.parametrize("batch_size", [None, 12, 100])
@pytest.mark.parametrize("drop_last", [False, True])
def test_full_batches_are_everything_at_every_step(batch_size, drop_last):
    sampler = sampler_of(batch_size=batch_size, drop_last=drop_last)
    assert sampler.is_full_batch
    for step in (0, 1, None):
        assert drawn(sampler, step) == [list(range(size)) for size in SIZES]


@pytest.mark.parametrize("block_size", [1, 5, 12, 13])
def test_blocks_cover_everything_once(block_size):
    sampler = sampler_of(block_size=block_size)
    assert not sampler.is_full_batch
    assert drawn(sampler, None) == [list(range(size)) for size in SIZES]
    widths = [batch.inputs.shape[1] for batch in sampler.batches(None, torch.float64)]
    assert widths == [min(block_size, 12 - start) for start in range(0, 12, block_size)]


def test_shared_samples_and_empty_splits():
    assert drawn(sampler_of(split=split_of([6, 6, 6], shared=True), nodes=range(3)), None) == [list(range(6))] * 3
    assert list(sampler_of([0, 0]).batches(None, torch.float64)) == []
    assert list(sampler_of([0, 0]).batches(0, torch.float64)) == []


@pytest.mark.parametrize("sizes", [[8, 8], [8, 5]])
def test_one_sampler_serves_several_dtypes(sizes):
    sampler = sampler_of(sizes)
    for dtype in (torch.float32, torch.float64, torch.float32):
        for step in (1, None):
            (batch,) = sampler.batches(step, dtype)
            assert batch.inputs.dtype == batch.weights.dtype == dtype
    assert drawn(sampler, 1) == drawn(sampler_of(sizes), 1)


@pytest.mark.parametrize("drop_last", [False, True])
def test_every_node_may_be_at_a_step_of_its_own(drop_last):
    """Node i at step s_i gets what it gets when all are at s_i; -1 gives nothing and disturbs nobody."""
    sampler, plain = sampler_of(drop_last=drop_last), sampler_of(drop_last=drop_last)
    rng = np.random.default_rng(0)
    for _ in range(20):
        steps = rng.integers(-1, 9, len(SIZES))
        expected = [drawn(plain, int(step))[node] if step >= 0 else [] for node, step in enumerate(steps)]
        assert drawn(sampler, steps) == expected
    assert drawn(sampler, np.full(len(SIZES), -1)) == [[]] * len(SIZES)


def test_epoch_lengths_are_when_the_order_changes():
    for drop_last in (False, True):
        expected = [batches_per_epoch(size, 4, drop_last) for size in SIZES]
        assert sampler_of(drop_last=drop_last).epoch_lengths.tolist() == expected
    assert sampler_of(batch_size=None).epoch_lengths.tolist() == [1] * len(SIZES)


@pytest.mark.parametrize("batch_size", [4, 7])
def test_uniform_minibatches_hold_every_sample_once_at_most(batch_size):
    sampler = sampler_of(batch_size=batch_size, uniform=True)
    for step in range(20):
        for samples, size in zip(drawn(sampler, step), SIZES, strict=True):
            assert len(samples) == min(batch_size, size)
            assert set(samples) <= set(range(size))
    assert drawn(sampler, 3) == drawn(sampler, 3) != drawn(sampler, 4)
    steps = np.array([3, -1, 3, 4, -1, 3])
    expected = [[] if s < 0 else drawn(sampler, s)[node] for node, s in enumerate(steps)]
    assert drawn(sampler, steps) == expected
    assert sampler.positions(5)[4].tolist() == drawn(sampler, 5)[4]


def test_uniform_minibatches_do_not_depend_on_the_other_nodes():
    whole = sampler_of(uniform=True)
    sizes = SIZES[2:4]
    part = sampler_of(sizes, range(2, 4), uniform=True)
    assert [drawn(part, step) for step in range(5)] == [drawn(whole, step)[2:4] for step in range(5)]


def test_uniform_minibatches_are_uniform_over_sets():
    """All 10 pairs of 5 samples, each within 5 standard deviations of 1/10; and steps are independent."""
    sampler = sampler_of([5], batch_size=2, uniform=True)
    pairs = [tuple(drawn(sampler, step)[0]) for step in range(3000)]
    frequencies = np.array([pairs.count((a, b)) for b in range(5) for a in range(b)]) / 3000
    assert frequencies.sum() == pytest.approx(1.0)
    np.testing.assert_allclose(frequencies, 0.1, atol=5 * np.sqrt(0.09 / 3000))
    repeated = np.mean([a == b for a, b in pairwise(pairs)])
    assert repeated == pytest.approx(0.1, abs=5 * np.sqrt(0.09 / 3000))
