"""Data that all nodes share: what is held, how it is stored, and minibatches with replacement."""

import numpy as np
import pytest
import torch

from simulator.data.base import Dataset, Samples, Split
from simulator.data.digits import Digits
from simulator.data.loading import load_node_data
from simulator.data.partitions.shared import Shared
from simulator.data.sampling import MinibatchSampler

CPU = torch.device("cpu")
SETTINGS = {"valid_fraction": 0.1, "test_fraction": 0.2, "replacement": True, "seed": 4}


class Official(Dataset):
    """Thirty training and ten test samples."""

    def load(self):
        return Samples(torch.arange(40.0)[:, None], torch.arange(40) % 5, num_classes=5, num_train=30)


def test_all_nodes_hold_the_same_and_the_official_test_set():
    first, *others = Shared(**SETTINGS).split(Official().load(), 4)
    assert all(node is first for node in others)
    assert (len(first.train), len(first.valid)) == (27, 3)
    np.testing.assert_array_equal(np.sort(np.r_[first.train, first.valid]), np.arange(30))
    np.testing.assert_array_equal(first.test, np.arange(30, 40))
    assert not np.array_equal(np.sort(first.train), first.train)


def test_without_official_test_set_a_share_of_every_class_is_held_out():
    samples = Digits(image_size=8).load()
    (node,) = Shared(**{**SETTINGS, "valid_fraction": 0.0}).split(samples, 1)
    assert len(node.valid) == 0
    np.testing.assert_array_equal(np.sort(np.r_[node.train, node.test]), np.arange(1797))
    held = np.bincount(samples.labels.numpy()[node.test]) / np.bincount(samples.labels.numpy())
    np.testing.assert_allclose(held, 0.2, atol=0.01)


def test_it_is_stored_once_and_counted_for_every_node():
    data = load_node_data(Official(), Shared(**SETTINGS), 6, range(2, 5), torch.float32, CPU)
    for split, size in ((data.train, 27), (data.valid, 3), (data.test, 10)):
        assert len(split.inputs) == len(split.labels) == size
        assert split.offsets.tolist() == [0, 0, 0]
        assert split.sizes.tolist() == [size] * 3
    assert data.replacement
    assert data.train_sizes.tolist() == [27] * 6
    expected = np.bincount(data.train.labels.numpy(), minlength=5)
    np.testing.assert_array_equal(data.label_counts, np.tile(expected, (6, 1)))


def sampler(sizes, batch_size, nodes=None, replacement=True):
    sizes = np.asarray(sizes)
    split = Split(
        torch.arange(sizes.sum())[:, None] * 1.0,
        torch.zeros(sizes.sum(), dtype=torch.long),
        np.cumsum(sizes) - sizes,
        sizes,
    )
    nodes = range(len(sizes)) if nodes is None else nodes
    return MinibatchSampler(split, nodes, batch_size=batch_size, drop_last=False, seed=2, replacement=replacement)


def test_draws_are_uniform_and_repeat_within_a_batch():
    drawing = sampler([10, 7], 4)
    batches = [next(iter(drawing.batches(step, torch.float64))) for step in range(1500)]
    assert all(batch.sizes == [4, 4] for batch in batches)
    assert all(torch.equal(batch.weights, torch.full((2, 4), 0.25, dtype=torch.float64)) for batch in batches)
    index = torch.stack([batch.index for batch in batches]).numpy()
    for node, size in enumerate((10, 7)):
        counts = np.bincount(index[:, node].ravel(), minlength=size)
        assert len(counts) == size
        # Chi-square with at most 9 degrees of freedom is above 34 once in 10,000.
        assert ((counts - 6000 / size) ** 2 / (6000 / size)).sum() < 34
        distinct = np.mean([len(set(batch.tolist())) == 4 for batch in index[:, node]])
        expected = np.prod([1 - k / size for k in range(4)])
        assert abs(distinct - expected) < 4 * (expected * (1 - expected) / 1500) ** 0.5
    assert drawing.epoch_lengths.tolist() == [3, 2]


def test_draws_depend_on_node_and_step_alone_and_nodes_may_rest():
    (first,) = sampler([10, 10, 10], 4).batches(6, torch.float64)
    (part,) = sampler([10], 4, nodes=range(1, 2)).batches(6, torch.float64)
    torch.testing.assert_close(part.index[0], first.index[1], rtol=0, atol=0)
    (array,) = sampler([10, 10, 10], 4).batches(np.array([6, -1, 9]), torch.float64)
    torch.testing.assert_close(array.index[0], first.index[0], rtol=0, atol=0)
    assert array.sizes == [4, 0, 4]
    assert array.weights.sum(1).tolist() == [1.0, 0.0, 1.0]
    assert len({tuple(index) for index in first.index.tolist()}) == 3


def test_full_batches_are_not_drawn():
    (batch,) = sampler([3, 3], None).batches(0, torch.float64)
    assert batch.index.tolist() == [[0, 1, 2]] * 2


@pytest.mark.parametrize("name", ["valid_fraction", "test_fraction"])
def test_impossible_shares_are_refused(name):
    with pytest.raises(ValueError, match=rf"partition\.{name}=1\.0: must be in \[0, 1\)"):
        Shared(**{**SETTINGS, name: 1.0})
    with pytest.raises(ValueError, match=r"partition\.test_fraction=0\.0: .* holds out at least one sample"):
        Shared(**{**SETTINGS, "test_fraction": 0.0}).split(Digits(image_size=8).load(), 2)
