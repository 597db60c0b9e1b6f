"""Loading: the right rows with the right numbers, whichever nodes are local."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from simulator.data.base import Dataset, NodeIndices, Partition, Samples
from simulator.data.loading import load_node_data
from simulator.data.partitions.digit_shards import DigitShards
from simulator.data.partitions.dirichlet_shift import DirichletShift
from simulator.data.partitions.iid import Iid
from simulator.data.synthetic_mixture import SyntheticMixture
from simulator.placement import Placement

CPU = torch.device("cpu")


class Fixed(Dataset):
    def __init__(self, samples):
        self.samples = samples

    def load(self):
        return self.samples


class Hands(Partition):
    """A partition written out by hand."""

    def __init__(self, nodes, shift=None):
        self.nodes = nodes
        self.shift = shift

    def split(self, samples, num_nodes):
        return self.nodes

    def feature_shift(self, num_nodes):
        return self.shift


def pictures(count=120, channels=2):
    rng = np.random.default_rng(0)
    return Samples(
        inputs=torch.from_numpy(rng.integers(0, 256, (count, channels, 5, 4), dtype=np.uint8)),
        labels=torch.from_numpy(rng.integers(0, 4, count)),
        num_classes=4,
        num_train=count - 20,
        mean=(0.1, 0.2)[:channels],
        std=(0.3, 0.4)[:channels],
    )


def shift_partition(test, feature_shift=True):
    return DirichletShift(
        alpha=1.0,
        num_label_clusters=None,
        sample_fraction=1.0,
        min_samples=2,
        feature_shift=feature_shift,
        num_shift_clusters=2,
        min_std=0.2,
        valid_fraction=0.2,
        test_fraction=0.2,
        test=test,
        seed=1,
    )


def node_rows(split, index):
    start = split.offsets[index]
    return slice(start, start + split.sizes[index])


@pytest.mark.parametrize("test", ["node", "shared"])
@pytest.mark.parametrize("shifted", [True, False])
def test_two_processes_hold_what_one_holds(test, shifted):
    dataset, partition = Fixed(pictures()), shift_partition(test, shifted)
    whole = load_node_data(dataset, partition, 5, range(5), torch.float64, CPU)
    for rank in range(2):
        nodes = Placement(5, 2, rank).nodes
        part = load_node_data(dataset, partition, 5, nodes, torch.float64, CPU)
        np.testing.assert_array_equal(part.label_counts, whole.label_counts)
        for name in ("train", "valid", "test"):
            mine, full = getattr(part, name), getattr(whole, name)
            assert len(mine.sizes) == len(nodes)
            for index, node in enumerate(nodes):
                for field in ("inputs", "labels"):
                    torch.testing.assert_close(
                        getattr(mine, field)[node_rows(mine, index)],
                        getattr(full, field)[node_rows(full, node)],
                        rtol=0,
                        atol=0,
                    )
        if test == "node":
            assert len(part.train.inputs) == part.train_sizes[nodes.start : nodes.stop].sum()


@pytest.mark.parametrize("test", ["node", "shared"])
@pytest.mark.parametrize("shifted", [True, False])
def test_pixels_are_scaled_and_normalised(test, shifted):
    samples, partition = pictures(), shift_partition(test, shifted)
    data = load_node_data(Fixed(samples), partition, 5, range(1, 4), torch.float64, CPU)
    indices, shift = partition.split(samples, 5), partition.feature_shift(5)
    for name in ("train", "valid", "test"):
        split = getattr(data, name)
        for index, node in enumerate(range(1, 4)):
            rows = getattr(indices[node], name)
            mean, std = (shift[node, [0, 0]], shift[node, [1, 1]]) if shifted else ([0.1, 0.2], [0.3, 0.4])
            pixels = samples.inputs.numpy()[rows].astype(np.float64) / 255
            expected = np.stack([(pixels[:, c] - mean[c]) / std[c] for c in range(2)], axis=1)
            np.testing.assert_allclose(split.inputs[node_rows(split, index)].numpy(), expected, rtol=1e-14, atol=1e-14)
            np.testing.assert_array_equal(split.labels[node_rows(split, index)].numpy(), samples.labels.numpy()[rows])
    assert data.input_shape == (2, 5, 4)
    assert data.train.inputs.dtype == torch.float64


def test_a_shared_test_set_is_stored_once_or_once_per_shift():
    plain = load_node_data(Fixed(pictures()), shift_partition("shared", False), 5, range(5), torch.float32, CPU)
    assert len(plain.test.inputs) == len(plain.test.labels) == 20
    assert plain.test.offsets.tolist() == [0] * 5
    assert plain.test.sizes.tolist() == [20] * 5
    shifted = load_node_data(Fixed(pictures()), shift_partition("shared"), 5, range(5), torch.float32, CPU)
    assert len(shifted.test.inputs) == 40
    assert set(shifted.test.offsets.tolist()) == {0, 20}


def test_label_counts_count_training_samples_of_all_nodes():
    samples, partition = pictures(), shift_partition("node")
    data = load_node_data(Fixed(samples), partition, 5, range(2), torch.float32, CPU)
    for node, indices in enumerate(partition.split(samples, 5)):
        labels = samples.labels.numpy()[indices.train].tolist()
        assert data.label_counts[node].tolist() == [labels.count(label) for label in range(4)]
        assert data.train_sizes[node] == len(labels)


def test_empty_validation_and_test_sets_are_allowed_and_an_empty_training_set_is_not():
    some, none = np.arange(3), np.arange(0)
    nodes = (NodeIndices(some, none, none), NodeIndices(some + 3, some + 6, none.copy()))
    data = load_node_data(Fixed(pictures()), Hands(nodes), 2, range(2), torch.float32, CPU)
    assert data.valid.sizes.tolist() == [0, 3]
    assert data.test.inputs.shape == (0, 2, 5, 4)
    nodes = (NodeIndices(some, none, none), NodeIndices(none, some, none))
    with pytest.raises(ValueError, match="1 of 2 nodes, first node 1, get no training sample"):
        load_node_data(Fixed(pictures()), Hands(nodes), 2, range(2), torch.float32, CPU)


def test_floating_point_images_are_shifted_and_not_scaled():
    samples = replace(pictures(), inputs=torch.rand(120, 1, 3, 3, generator=torch.Generator().manual_seed(0)))
    rows = np.arange(4)
    hands = Hands((NodeIndices(rows, rows, rows),), np.array([[0.25, 0.5]]))
    data = load_node_data(Fixed(samples), hands, 1, range(1), torch.float64, CPU)
    torch.testing.assert_close(data.train.inputs, (samples.inputs[:4].double() - 0.25) / 0.5)


def test_features_are_taken_as_they_are_and_cannot_be_shifted():
    dataset = SyntheticMixture(
        num_nodes=2,
        dim=3,
        num_components=2,
        alpha=1.0,
        noise=0.1,
        num_train=40,
        num_valid=10,
        num_test=10,
        box=1.0,
        legacy_labels=False,
        seed=0,
    )
    iid = Iid(valid_fraction=0.0, test_fraction=0.0, test="node", seed=0)
    data = load_node_data(dataset, iid, 2, range(2), torch.float64, CPU)
    stored = dataset.load().inputs.double()
    torch.testing.assert_close(data.train.inputs.sort(dim=0).values, stored.sort(dim=0).values, rtol=0, atol=0)
    with pytest.raises(ValueError, match="feature_shift=true shifts images and the dataset has plain features"):
        load_node_data(dataset, shift_partition("node"), 2, range(2), torch.float64, CPU)


def test_the_stored_samples_are_left_alone():
    samples = pictures()
    samples = replace(samples, inputs=samples.inputs.double() / 255)
    before = samples.inputs.clone()
    iid = Iid(valid_fraction=0.0, test_fraction=0.0, test="node", seed=0)
    load_node_data(Fixed(samples), iid, 1, range(1), torch.float64, CPU)
    torch.testing.assert_close(samples.inputs, before, rtol=0, atol=0)


def test_nodes_without_test_samples_are_told_once(caplog):
    partition = Iid(valid_fraction=0.0, test_fraction=0.1, test="node", seed=0)
    for nodes in (range(20), range(1, 20)):
        load_node_data(Fixed(pictures(150)), partition, 20, nodes, torch.float64, CPU)
    (line,) = caplog.messages
    assert line.startswith(
        "partition: 20 of 20 nodes (such as node 0, which has 8 training samples) get no test sample"
    )
    caplog.clear()
    partition = Iid(valid_fraction=0.0, test_fraction=0.0, test="node", seed=0)
    load_node_data(Fixed(pictures(150)), partition, 20, range(20), torch.float64, CPU)
    assert not caplog.messages


def test_digit_shards_that_are_all_alike_are_told(caplog):
    further = {"valid_fraction": 0.0, "test_fraction": 0.0, "test": "shared", "skip_hub": False, "seed": 0}
    for num_nodes, is_told in ((3, True), (7, True), (2, False), (4, False)):
        caplog.clear()
        partition = DigitShards(digits_per_node=2, **further)
        load_node_data(Fixed(pictures()), partition, num_nodes, range(num_nodes), torch.float64, CPU)
        told = [line for line in caplog.messages if "nodes hold the same 2 digits" in line]
        assert len(told) == is_told
        alike = len({tuple(row) for row in partition.digits(4, num_nodes).tolist()}) == 1
        assert alike == is_told
