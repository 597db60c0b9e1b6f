"""Partitions by classes and by digits: who gets which class, how much of it, and a hub that gets nothing."""

import numpy as np
import pytest
import torch

from simulator.data.base import Dataset, Samples
from simulator.data.loading import load_node_data
from simulator.data.partitions.class_shards import ClassShards
from simulator.data.partitions.digit_shards import DigitShards

# Training images of every class of MNIST; facts of the dataset.
MNIST_SIZES = (5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949)


def make_samples(sizes, test_sizes=(), seed=0):
    """Samples with these class sizes, shuffled."""
    rng = np.random.default_rng(seed)
    labels = [rng.permutation(np.repeat(np.arange(len(counts)), counts)) for counts in (sizes, test_sizes)]
    joined = torch.from_numpy(np.concatenate(labels).astype(np.int64))
    return Samples(inputs=joined[:, None].double(), labels=joined, num_classes=len(sizes), num_train=sum(sizes))


def class_shards(**changes):
    settings = {"classes_per_node": 2, "low": 0.4, "high": 0.6, "spare_share": True, "skip_hub": False}
    return ClassShards(**{**settings, "valid_size": 0.2, "test_fraction": 0.2, "seed": 3, **changes})


def digit_shards(**changes):
    settings = {"digits_per_node": 2, "valid_fraction": 0.0, "test_fraction": 0.2, "test": "shared", "skip_hub": False}
    return DigitShards(**{**settings, "seed": 3, **changes})


def counts_of(samples, rows):
    return np.bincount(samples.labels.numpy()[rows], minlength=samples.num_classes)


@pytest.mark.parametrize(
    ("num_nodes", "per_node", "num_classes"), [(50, 2, 10), (10, 2, 10), (7, 3, 10), (50, 10, 100)]
)
@pytest.mark.parametrize("spare_share", [True, False])
class TestAssignment:
    def test_shares_are_those_of_the_definition(self, num_nodes, per_node, num_classes, spare_share):
        wanted = num_nodes * per_node
        if not spare_share and wanted % num_classes:
            with pytest.raises(ValueError, match="spare_share=false: 7 nodes with 3 classes each take 21 shares"):
                class_shards(classes_per_node=per_node, spare_share=False).assign(num_classes, num_nodes)
            return
        num_shares = wanted // num_classes + spare_share
        found = class_shards(classes_per_node=per_node, spare_share=spare_share).assign(num_classes, num_nodes)
        assert found.classes.shape == found.shares.shape == (num_nodes, per_node)
        taken, totals = np.zeros(num_classes, dtype=int), np.zeros(num_classes)
        for classes, shares in zip(found.classes, found.shares, strict=True):
            for label, share in zip(classes, shares, strict=True):
                assert taken[label] == taken.min()  # a class is only drawn while most of its shares are left
                taken[label] += 1
                totals[label] += share
        assert taken.sum() == wanted
        assert taken.max() - taken.min() <= 1
        # What is left of a class: between 0.4 and 0.6 out of a sum of as many numbers for every spare share.
        left = num_shares - taken
        low, high = 0.4 * left / (0.4 * left + 0.6 * taken), 0.6 * left / (0.6 * left + 0.4 * taken)
        assert (1 - totals >= low - 1e-12).all()
        assert (1 - totals <= high + 1e-12).all()
        if not spare_share:
            np.testing.assert_allclose(totals, 1.0, rtol=1e-12)
        ratios = found.shares.max() / found.shares.min()
        assert 1.2 < ratios <= (0.6 / 0.4) ** 2

    def test_the_draws_are_not_always_the_same_classes(self, num_nodes, per_node, num_classes, spare_share):
        settings = {"classes_per_node": per_node, "spare_share": True}
        first, again, other = (class_shards(**settings, seed=s).assign(num_classes, num_nodes) for s in (0, 0, 1))
        np.testing.assert_array_equal(first.classes, again.classes)
        np.testing.assert_array_equal(first.shares, again.shares)
        assert (first.classes != other.classes).any()
        assert len({tuple(sorted(classes)) for classes in first.classes}) > 1


@pytest.mark.parametrize("skip_hub", [False, True])
def test_every_split_is_dealt_out_by_the_same_classes_and_shares(skip_hub):
    samples = make_samples((500, 300, 400, 250, 600), (200, 100, 90, 80, 70))
    partition = class_shards(skip_hub=skip_hub, valid_size=500)
    nodes = partition.split(samples, 8 + skip_hub)
    assignment = partition.assign(5, 8)
    if skip_hub:
        assert [len(rows) for rows in (nodes[0].train, nodes[0].valid, nodes[0].test)] == [0, 0, 0]
    dealt = nodes[skip_hub:]
    official = samples.labels.numpy()
    assert all((node.test >= 2050).all() and (node.train < 2050).all() and (node.valid < 2050).all() for node in dealt)
    everything = np.concatenate([np.concatenate([node.train, node.valid, node.test]) for node in dealt])
    assert len(np.unique(everything)) == len(everything)
    # n_k of the validation split is only known up to what nobody took; that of the test split is known.
    sizes = np.bincount(official[2050:])
    for node, classes, shares in zip(dealt, assignment.classes, assignment.shares, strict=True):
        expected = np.zeros(5, dtype=int)
        for label, share in zip(classes, shares, strict=True):
            expected[label] += np.floor(sizes[label] * share)
        np.testing.assert_array_equal(counts_of(samples, node.test), expected)
        held, in_valid = counts_of(samples, node.train), counts_of(samples, node.valid)
        np.testing.assert_array_equal(held > 0, expected > 0)
        np.testing.assert_array_equal(in_valid > 0, expected > 0)
        # The validation split takes a share 500/2050 of every class, but for chance: five standard deviations.
        ratio = 500 / 2050
        total = held + in_valid
        assert (np.abs(in_valid - ratio * total) <= 5 * np.sqrt(ratio * total) + 1).all()


def test_a_spare_share_leaves_a_part_of_the_data_unused():
    samples = make_samples((1000,) * 10)
    for num_nodes, spare, unused in ((10, True, 1 / 3), (50, True, 1 / 11), (10, False, 0.0)):
        nodes = class_shards(spare_share=spare, valid_size=0).split(samples, num_nodes)
        held = sum(len(node.train) for node in nodes)
        # Shares of a class are at most 20 % off; sums over ten classes are closer. Floors lose one sample per share.
        assert held / 8000 == pytest.approx(1 - unused, abs=0.015)
        assert sum(len(node.test) for node in nodes) / 2000 == pytest.approx(1 - unused, abs=0.06)


def test_validation_is_a_number_or_a_share_of_the_training_samples():
    samples = make_samples((400, 400), (10, 10))
    whole = {"classes_per_node": 2, "spare_share": False}
    for valid_size, expected in ((0, 0), (0.29, 232), (100, 100), (1, 1)):
        (node,) = class_shards(**whole, valid_size=valid_size).split(samples, 1)
        assert (len(node.valid), len(node.train), len(node.test)) == (expected, 800 - expected, 20)


def test_settings_that_cannot_be_are_refused():
    samples = make_samples((40, 40), (10, 10))
    for changes, message in (
        ({"classes_per_node": 0}, "classes_per_node=0: at least 1"),
        ({"low": 0.0}, "expected 0 < low <= high"),
        ({"low": 0.7}, "expected 0 < low <= high"),
        ({"valid_size": 1.5}, r"valid_size=1.5: expected a share in \[0, 1\) or a whole number"),
        ({"valid_size": -1}, "valid_size=-1: expected"),
        ({"test_fraction": 1.0}, r"test_fraction=1.0: must be in \[0, 1\)"),
    ):
        with pytest.raises(ValueError, match=message):
            class_shards(**changes)
    with pytest.raises(ValueError, match="classes_per_node=3: the dataset has 2 classes"):
        class_shards(classes_per_node=3).split(samples, 2)
    with pytest.raises(ValueError, match="valid_size=80: the dataset has 80 training samples"):
        class_shards(valid_size=80).split(samples, 2)
    for kind in (class_shards, digit_shards):
        with pytest.raises(ValueError, match="num_nodes=1 counts the hub; at least 2"):
            kind(skip_hub=True).split(samples, 1)
    for changes, message in (
        ({"digits_per_node": 0}, "digits_per_node=0: at least 1"),
        ({"test": "each"}, "partition.test=each: 'node'"),
        ({"valid_fraction": 1.0}, r"valid_fraction=1.0: must be in \[0, 1\)"),
    ):
        with pytest.raises(ValueError, match=message):
            digit_shards(**changes)
    with pytest.raises(ValueError, match="digits_per_node=3: the dataset has 2 classes"):
        digit_shards(digits_per_node=3).split(samples, 2)


@pytest.mark.parametrize(
    ("num_digits", "expected"),
    [
        (2, [[0, 1], [6, 7], [2, 3], [8, 9], [4, 5]]),
        (3, [[0, 1, 2], [6, 7, 8], [2, 3, 4], [8, 9, 0], [4, 5, 6]]),
        (4, [[0, 1, 2, 3], [6, 7, 8, 9], [2, 3, 4, 5], [8, 9, 0, 1], [4, 5, 6, 7]]),
    ],
)
def test_digits_of_five_nodes(num_digits, expected):
    partition = digit_shards(digits_per_node=num_digits)
    np.testing.assert_array_equal(partition.digits(10, 5), expected)
    sizes = [len(node.train) for node in partition.split(make_samples(MNIST_SIZES, (1,) * 10), 5)]
    assert sizes == [6000 * num_digits] * 5


def test_label_counts_of_two_digits_per_node_are_those_of_mnist():
    samples = make_samples(MNIST_SIZES, (10,) * 10)
    nodes = digit_shards().split(samples, 5)
    expected = [
        {0: 5923, 1: 6077},
        {5: 17, 6: 5918, 7: 6065},
        {1: 665, 2: 5958, 3: 5377},
        {7: 200, 8: 5851, 9: 5949},
        {3: 754, 4: 5842, 5: 5404},
    ]
    for node, counts in zip(nodes, expected, strict=True):
        found = counts_of(samples, node.train)
        assert {int(label): int(found[label]) for label in np.flatnonzero(found)} == counts
    # Disjoint, and together everything; all nodes are tested on the very same samples.
    np.testing.assert_array_equal(np.sort(np.concatenate([node.train for node in nodes])), np.arange(60_000))
    assert all(node.test is nodes[0].test for node in nodes)
    np.testing.assert_array_equal(nodes[0].test, np.arange(60_000, 60_100))


def test_shards_are_shared_and_so_is_what_is_held_out_of_them():
    samples = make_samples((100,) * 10, (20,) * 10)
    nodes = digit_shards(digits_per_node=3, valid_fraction=0.25, test="node", skip_hub=True).split(samples, 6)
    assert [len(rows) for rows in (nodes[0].train, nodes[0].valid, nodes[0].test)] == [0, 0, 0]
    for node, digits in zip(nodes[1:], ((0, 1, 2), (6, 7, 8), (2, 3, 4), (8, 9, 0), (4, 5, 6)), strict=True):
        for rows, count in ((node.train, 75), (node.valid, 25), (node.test, 20)):
            np.testing.assert_array_equal(np.flatnonzero(counts_of(samples, rows)), sorted(digits))
            assert set(counts_of(samples, rows)) == {0, count}
    twos = [set(node.valid[samples.labels.numpy()[node.valid] == 2]) for node in (nodes[1], nodes[3])]
    assert twos[0] == twos[1]
    trained = set(np.concatenate([node.train for node in nodes]))
    assert not trained & set(np.concatenate([node.valid for node in nodes]))
    again, other = (digit_shards(digits_per_node=3, valid_fraction=0.25, seed=s).split(samples, 5) for s in (3, 4))
    np.testing.assert_array_equal(again[0].valid, nodes[1].valid)
    assert set(other[0].valid) != set(nodes[1].valid)


class Given(Dataset):
    def __init__(self, samples):
        self.samples = samples

    def load(self):
        return self.samples


@pytest.mark.parametrize("make", [class_shards, digit_shards])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_hub_without_data_is_loaded_beside_the_others(make, dtype):
    samples = make_samples((50,) * 10, (20,) * 10)
    load = {"dtype": dtype, "device": torch.device("cpu")}
    everybody = load_node_data(Given(samples), make(skip_hub=True), 6, range(6), **load)
    assert everybody.train_sizes[0] == everybody.valid_sizes[0] == everybody.test_sizes[0] == 0
    assert (everybody.train_sizes[1:] > 0).all()
    assert everybody.train.sizes.tolist() == everybody.train_sizes.tolist()
    np.testing.assert_array_equal(everybody.label_counts.sum(axis=1), everybody.train_sizes)
    alone = load_node_data(Given(samples), make(skip_hub=True), 6, range(1), **load)
    assert len(alone.train.labels) == len(alone.test.labels) == 0
