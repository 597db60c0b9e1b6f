"""Images as bytes and back, against what is loaded; Split.extend."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from simulator.data.base import NodeIndices, Samples, Split
from simulator.data.digits import Digits
from simulator.data.loading import load_node_data
from tests.data.test_loading import CPU, Fixed, Hands


def load(samples, dtype=torch.float32, shift=None):
    rows = np.arange(len(samples.labels))
    nodes = [NodeIndices(part, rows[:0], rows[:0]) for part in np.array_split(rows, 2)]
    return load_node_data(Fixed(samples), Hands(nodes, shift), 2, range(2), dtype, CPU)


def every_byte(channels, normalised=True):
    """Every pixel value in every channel."""
    values = torch.arange(256).repeat(channels).reshape(channels, 16, 16).to(torch.uint8)
    return Samples(
        inputs=torch.stack([values, values.flip(1)]),
        labels=torch.tensor([0, 255]),
        num_classes=256,
        num_train=2,
        mean=(0.1307, 0.4865, 0.4)[:channels] if normalised else (),
        std=(0.3081, 0.2673, 0.2)[:channels] if normalised else (),
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("channels", "normalised"), [(1, True), (3, True), (1, False)])
def test_bytes_come_back_to_the_last_bit(channels, normalised, dtype):
    samples = every_byte(channels, normalised)
    data = load(samples, dtype)
    code = data.pixels
    rows = code.pack(data.train.inputs, data.train.labels)
    assert rows.dtype == torch.uint8
    assert torch.equal(rows[:, :-1], samples.inputs.flatten(1))
    assert rows[:, -1].tolist() == [0, 255]
    inputs, labels = code.unpack(rows, dtype)
    assert torch.equal(inputs, data.train.inputs)
    assert torch.equal(labels, data.train.labels)


def test_the_sixteenths_of_the_digits_are_bytes():
    samples = Digits(image_size=8).load()
    data = load(samples)
    rows = data.pixels.pack(data.train.inputs, data.train.labels)
    assert torch.equal(rows[:, :-1].float(), 16 * samples.inputs.flatten(1))
    assert rows.max() == 16
    assert torch.equal(data.pixels.unpack(rows, torch.float32)[0], data.train.inputs)


def test_what_has_no_bytes():
    images = every_byte(1)
    assert load(images).pixels is not None
    assert load(images, shift=np.ones((2, 2))).pixels is None
    assert load(replace(images, num_classes=257)).pixels is None
    floating = replace(images, inputs=images.inputs.double() / 255)
    assert load(floating).pixels is None
    assert load(replace(floating, levels=255)).pixels is not None
    assert load(replace(images, inputs=torch.rand(2, 5), mean=(), std=())).pixels is None


def test_further_samples_follow_those_of_their_node():
    split = Split(torch.arange(10.0)[:, None], torch.arange(10), np.array([0, 0, 10]), np.array([4, 4, 0]))
    further = [(torch.tensor([[50.0]]), torch.tensor([50])), (torch.zeros(0, 1), torch.zeros(0, dtype=torch.int64))]
    further.append((torch.tensor([[60.0], [61.0]]), torch.tensor([60, 61])))
    grown = split.extend(further)
    expected = ([0, 1, 2, 3, 50], [0, 1, 2, 3], [60, 61])
    for node, numbers in enumerate(expected):
        inputs, labels = grown.of(node)
        assert inputs.flatten().tolist() == labels.tolist() == numbers
    assert split.of(0)[1].tolist() == [0, 1, 2, 3]
