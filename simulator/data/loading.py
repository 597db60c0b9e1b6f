"""Makes the data of the nodes of one process from a dataset and a partition: their rows, normalised, on the device.

Shapes: N local nodes, M all nodes, C classes.
"""

import logging
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from simulator.arrays import FloatArray, IntArray
from simulator.data.augmentation import CropAndFlip
from simulator.data.base import Dataset, NodeData, Partition, Samples, Split
from simulator.data.partitions.dealing import require_training_samples
from simulator.data.pixels import MAX_LABELS, PixelCode, normalise_
from simulator.data.sparse import is_sparse, take_rows

log = logging.getLogger(__name__)

_Rows = IntArray


def load_node_data(
    dataset: Dataset,
    partition: Partition,
    num_nodes: int,
    nodes: range,
    dtype: torch.dtype,
    device: torch.device,
    *,
    keep_sparse: bool = False,
) -> NodeData:
    """Reads a dataset, partitions it and keeps the samples of the local nodes.

    Images are scaled to [0, 1] and then normalised, by the partition's feature shift of the node where there is one
    and by the dataset's mean and standard deviation otherwise; features are taken as they are. A split is stored once
    when the partition gives the very same array of rows to all nodes.

    Args:
        dataset: the dataset, already prepared.
        partition: assigns samples to nodes; every process computes it for all nodes.
        num_nodes: number M of all nodes.
        nodes: the nodes that this process hosts.
        dtype: floating-point type of the inputs.
        device: where inputs and labels go.
        keep_sparse: whether CSR features stay sparse; otherwise the local nodes' rows become dense.

    Returns:
        The data of the local nodes. Their numbers do not depend on which other nodes are local.

    Raises:
        ValueError: when the dataset is missing or cannot be partitioned, or its features cannot be shifted.
    """
    samples = dataset.load()
    indices = partition.split(samples, num_nodes)
    assert len(indices) == num_nodes
    shifts = partition.feature_shift(num_nodes)
    if shifts is not None and samples.inputs.ndim != 4:
        raise ValueError(
            "partition.feature_shift=true shifts images and the dataset has plain features; "
            "set partition.feature_shift=false or choose a dataset of images"
        )
    train_sizes = np.array([len(node.train) for node in indices])
    require_training_samples(train_sizes, skip_hub=partition.skip_hub)
    test_sizes = np.array([len(node.test) for node in indices])
    if nodes.start == 0:  # once, on the process that hosts the first node
        _warn(partition, samples.num_classes, train_sizes, test_sizes)
    local_shifts = None if shifts is None else shifts[nodes.start : nodes.stop]
    loader = _Loader(samples, dtype, device, keep_sparse)
    return NodeData(
        train=loader.split([node.train for node in indices], nodes, local_shifts),
        valid=loader.split([node.valid for node in indices], nodes, local_shifts),
        test=loader.split([node.test for node in indices], nodes, local_shifts),
        num_classes=samples.num_classes,
        input_shape=tuple(samples.inputs.shape[1:]),
        label_counts=_label_counts(samples, [node.train for node in indices]),
        train_sizes=train_sizes,
        valid_sizes=np.array([len(node.valid) for node in indices]),
        test_sizes=test_sizes,
        augmentation=_augmentation(samples, shifts is not None),
        replacement=partition.replacement,
        pixels=_pixel_code(samples) if shifts is None else None,
    )


def _warn(partition: Partition, num_classes: int, train_sizes: IntArray, test_sizes: IntArray) -> None:
    """Says what is allowed and seldom meant."""
    untested = np.flatnonzero((train_sizes > 0) & (test_sizes == 0))
    asked_for = getattr(partition, "test_fraction", 0.0) > 0 or len(untested) < np.count_nonzero(train_sizes)
    if len(untested) and asked_for:
        log.warning(
            "partition: %d of %d nodes (such as node %d, which has %d training samples) get no test sample; metrics of "
            "the test set leave them out",
            *(len(untested), len(train_sizes), untested[0], train_sizes[untested[0]]),
        )
    remark = partition.remark(num_classes, len(train_sizes))
    if remark:
        log.warning("partition: %s", remark)


def _is_shared(rows: Sequence[_Rows]) -> bool:
    """Whether all nodes have the very same array."""
    return all(node_rows is rows[0] for node_rows in rows)


def _label_counts(samples: Samples, rows: Sequence[_Rows]) -> IntArray:
    """The number of samples of every class in the rows of every node, [M, C]."""
    labels = samples.labels.numpy()
    if _is_shared(rows):
        return np.tile(np.bincount(labels[rows[0]], minlength=samples.num_classes), (len(rows), 1))
    owners = np.repeat(np.arange(len(rows)), [len(node_rows) for node_rows in rows])
    cells = owners * samples.num_classes + labels[np.concatenate(rows)]
    return np.bincount(cells, minlength=len(rows) * samples.num_classes).reshape(len(rows), -1)


def _pixel_code(samples: Samples) -> PixelCode | None:
    """Converts images to bytes; None when samples are no images, or a label does not fit into a byte."""
    levels = 255 if samples.inputs.dtype == torch.uint8 else samples.levels
    if samples.inputs.ndim != 4 or levels is None or samples.num_classes > MAX_LABELS:
        return None
    return PixelCode(tuple(samples.inputs.shape[1:]), levels, samples.mean, samples.std)


def _augmentation(samples: Samples, is_shifted: bool) -> CropAndFlip | None:
    if not samples.crop_padding:
        return None
    if is_shifted:
        raise ValueError(
            "dataset.augment=true pads images with black, which partition.feature_shift=true makes another colour at "
            "every node; switch one of them off"
        )
    channels = samples.inputs.shape[1]
    mean, std = samples.mean or (0.0,) * channels, samples.std or (1.0,) * channels
    return CropAndFlip(samples.crop_padding, tuple(-m / s for m, s in zip(mean, std, strict=True)))


class _Loader:
    """Turns rows of a dataset into splits."""

    def __init__(self, samples: Samples, dtype: torch.dtype, device: torch.device, keep_sparse: bool) -> None:
        self.samples = samples
        self.dtype = dtype
        self.device = device
        self.keep_sparse = keep_sparse

    def split(self, rows: Sequence[_Rows], nodes: range, shifts: FloatArray | None) -> Split:
        """One split of the local ``nodes`` of all nodes with ``rows``; stored once where all have the same rows."""
        if _is_shared(rows):
            return self.shared(rows[0], len(nodes), shifts)
        return self.per_node([rows[node] for node in nodes], shifts)

    def per_node(self, rows: Sequence[_Rows], shifts: FloatArray | None) -> Split:
        """Every node's own rows, one node after the other; ``shifts`` has shape [N, 2]."""
        sizes = np.array([len(node_rows) for node_rows in rows], dtype=np.int64)
        offsets = np.concatenate([[0], np.cumsum(sizes)[:-1]])
        all_rows = np.concatenate(rows)
        row_shifts = None if shifts is None else np.repeat(shifts, sizes, axis=0)
        return Split(self._inputs(all_rows, row_shifts), self._labels(all_rows), offsets, sizes)

    def shared(self, rows: _Rows, num_local: int, shifts: FloatArray | None) -> Split:
        """The same rows for all local nodes, stored once, or once per distinct shift."""
        copies, copy_of = (None, np.zeros(num_local, dtype=np.int64))
        if shifts is not None:
            copies, copy_of = np.unique(shifts, axis=0, return_inverse=True)
        stored = self.per_node([rows] * (1 if copies is None else len(copies)), copies)
        offsets = stored.offsets[copy_of.reshape(num_local)]
        return Split(stored.inputs, stored.labels, offsets, np.full(num_local, len(rows), dtype=np.int64))

    def _labels(self, rows: _Rows) -> Tensor:
        return self.samples.labels[torch.from_numpy(rows)].to(self.device)

    def _inputs(self, rows: _Rows, row_shifts: FloatArray | None) -> Tensor:
        """The rows' inputs; ``row_shifts`` holds a mean and a standard deviation per row."""
        if is_sparse(self.samples.inputs):
            rows_only = take_rows(self.samples.inputs, rows).to(self.device, self.dtype)
            return rows_only if self.keep_sparse else rows_only.to_dense()
        stored = self.samples.inputs[torch.from_numpy(rows)].contiguous()
        # Pixels are copied as bytes and converted on the device.
        inputs = stored.to(self.device).to(self.dtype)
        if stored.dtype == torch.uint8:
            inputs /= 255
        if row_shifts is not None:
            shift = torch.from_numpy(row_shifts).to(self.device, self.dtype)
            inputs -= shift[:, 0, None, None, None]
            inputs /= shift[:, 1, None, None, None]
        else:
            normalise_(inputs, self.samples.mean, self.samples.std)
        return inputs
