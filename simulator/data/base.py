"""Datasets, partitions, and the data of the nodes of one process. Shapes: N local nodes, M all nodes, S samples."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from simulator.arrays import FloatArray, IntArray
from simulator.data.augmentation import CropAndFlip
from simulator.data.pixels import PixelCode
from simulator.randomness import generator
from simulator.uploads import upload


@dataclass(frozen=True)
class NodeIndices:
    """Row numbers of a dataset that one node holds, by split; int64 arrays."""

    train: IntArray
    valid: IntArray
    test: IntArray


@dataclass(frozen=True)
class Samples:
    """A whole dataset in memory, before it is partitioned.

    Attributes:
        inputs: images [S, channels, height, width], either uint8 in 0..255 or floating point in [0, 1], or
            floating-point features [S, F], dense or CSR.
        labels: class of each sample, int64, shape [S].
        num_classes: number of classes.
        num_train: rows 0..num_train-1 are the official training set, the rest is the official test set.
        mean, std: per-channel normalisation of images scaled to [0, 1]; empty for features and for images that
            are used as they are.
        node_indices: the rows of every node, for datasets that are made per node; None otherwise.
        levels: of floating-point images whose pixels are multiples of 1/levels, at most 255; None for others. Images
            of uint8 have 255.
        crop_padding: pixels by which training images are padded, cropped back at random and mirrored in every step;
            0 for images as they are.
    """

    inputs: Tensor
    labels: Tensor
    num_classes: int
    num_train: int
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    node_indices: tuple[NodeIndices, ...] | None = None
    levels: int | None = None
    crop_padding: int = 0


class Dataset(ABC):
    """One dataset. Constructors only store; ``prepare`` downloads, ``load`` reads."""

    def prepare(self) -> None:
        """Downloads what is missing; called on rank 0 alone while the others wait. Raises ValueError offline."""

    @abstractmethod
    def load(self) -> Samples:
        """Reads the dataset. Raises ValueError, naming the remedy, when its files are not there."""


@dataclass(frozen=True)
class Split:
    """One split (training, validation or test) of the N nodes that a process hosts.

    Node i's samples are rows ``offsets[i] : offsets[i] + sizes[i]`` of ``inputs`` and ``labels``. A test set that
    all nodes share is stored once: all offsets are 0 and all sizes equal (or once per distinct normalisation, when
    the partition shifts the features of some nodes).

    Attributes:
        inputs: normalised floating-point inputs, shape [S, ...], on the run's device; CSR where asked for.
        labels: int64, shape [S], on the run's device.
        offsets, sizes: int64 arrays of shape [N] on the CPU; a size may be 0.
    """

    inputs: Tensor
    labels: Tensor
    offsets: IntArray
    sizes: IntArray

    def repeat(self, copies: int) -> "Split":
        """Every node ``copies`` times in a row; the samples are shared."""
        return replace(self, offsets=np.repeat(self.offsets, copies), sizes=np.repeat(self.sizes, copies))

    def part(self, positions: IntArray) -> "Split":
        """The nodes at ``positions``; the samples are shared."""
        return replace(self, offsets=self.offsets[positions], sizes=self.sizes[positions])

    def sample(self, num_samples: int | None, seed: int, stream: str) -> "Split":
        """At most ``num_samples`` samples of every node, in memory of their own; all of them for None.

        They are drawn without replacement and keyed by (seed, stream) and the number of samples that a node holds, so
        nodes that share their samples still do, and every process draws the same.
        """
        if num_samples is None or not (self.sizes > num_samples).any():
            return self
        spans = list(zip(self.offsets.tolist(), self.sizes.tolist(), strict=True))
        rows, starts, count = [], {}, 0
        for offset, size in dict.fromkeys(spans):
            some = np.arange(size)
            if size > num_samples:
                some = np.sort(generator(seed, stream).choice(size, num_samples, replace=False))
            starts[offset, size] = count
            rows.append(offset + some)
            count += len(some)
        index = upload(np.concatenate(rows), self.labels.device)
        offsets = np.array([starts[span] for span in spans])
        inputs, labels = self.inputs.index_select(0, index), self.labels.index_select(0, index)
        return Split(inputs, labels, offsets, np.minimum(self.sizes, num_samples))

    def of(self, position: int) -> tuple[Tensor, Tensor]:
        """Views of the inputs and labels of the node at ``position``."""
        rows = slice(int(self.offsets[position]), int(self.offsets[position] + self.sizes[position]))
        return self.inputs[rows], self.labels[rows]

    def extend(self, further: Sequence[tuple[Tensor, Tensor]]) -> "Split":
        """Every node's samples followed by ``further`` inputs and labels, in memory of its own."""
        own = [self.of(position) for position in range(len(self.sizes))]
        sizes = self.sizes + np.array([len(labels) for _, labels in further], dtype=np.int64)
        inputs, labels = (
            torch.cat([part[kind] for pair in zip(own, further, strict=True) for part in pair]) for kind in (0, 1)
        )
        return Split(inputs, labels, np.cumsum(sizes) - sizes, sizes)


@dataclass(frozen=True)
class NodeData:
    """The data of the N nodes of a process, and the facts about the partition that all processes know.

    Attributes:
        train, valid, test: the splits of the local nodes.
        num_classes: number of classes.
        input_shape: shape of one sample.
        label_counts: training samples of every node (all M of them) by class, int64 [M, C].
        train_sizes, valid_sizes, test_sizes: samples of every node, int64 [M].
        augmentation: random changes of training images in every step; None for no changes.
        replacement: whether minibatches are drawn with replacement instead of in epochs.
        pixels: converts images to bytes and back; None when samples are no images, or nodes normalise them differently.
        generation: the number of changes of the training samples since they were partitioned.
        held_sizes: training samples of every node after these changes, int64 [M]; None before the first change.
    """

    train: Split
    valid: Split
    test: Split
    num_classes: int
    input_shape: tuple[int, ...]
    label_counts: IntArray
    train_sizes: IntArray
    valid_sizes: IntArray
    test_sizes: IntArray
    augmentation: CropAndFlip | None = None
    replacement: bool = False
    pixels: PixelCode | None = None
    generation: int = 0
    held_sizes: IntArray | None = None

    def repeat(self, copies: int) -> "NodeData":
        """Every node ``copies`` times in a row; the samples are shared."""
        return replace(
            self,
            train=self.train.repeat(copies),
            valid=self.valid.repeat(copies),
            test=self.test.repeat(copies),
            label_counts=np.repeat(self.label_counts, copies, axis=0),
            train_sizes=np.repeat(self.train_sizes, copies),
            valid_sizes=np.repeat(self.valid_sizes, copies),
            test_sizes=np.repeat(self.test_sizes, copies),
            held_sizes=None if self.held_sizes is None else np.repeat(self.held_sizes, copies),
        )

    def part(self, positions: IntArray) -> "NodeData":
        """The local nodes at ``positions``; the samples are shared."""
        splits = {name: getattr(self, name).part(positions) for name in ("train", "valid", "test")}
        return replace(self, **splits)


class Partition(ABC):
    """Partitions a dataset among nodes: a pure function of the labels, the number of nodes and the seed.

    Attributes:
        replacement: whether nodes draw their minibatches with replacement instead of in epochs.
        skip_hub: whether node 0 is a hub without samples.
    """

    replacement: bool = False
    skip_hub: bool = False

    @abstractmethod
    def split(self, samples: Samples, num_nodes: int) -> tuple[NodeIndices, ...]:
        """Returns the rows of each of the ``num_nodes`` nodes. Raises ValueError when the data do not allow it."""

    def feature_shift(self, num_nodes: int) -> FloatArray | None:
        """Per-node (mean, std) that replaces the dataset's normalisation, float64 [M, 2]; None for no shift."""
        return None

    def remark(self, num_classes: int, num_nodes: int) -> str:
        """What is seldom meant about this partition, as one line; empty for nothing."""
        return ""
