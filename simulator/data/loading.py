"""From a dataset and a partition to what the nodes of one process hold: only their rows, normalised, on the device.

Shapes: N local nodes, M all nodes, C classes.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from simulator.data.base import Dataset, NodeData, Partition, Samples, Split
from simulator.data.partitions.dealing import require_training_samples

_Rows = npt.NDArray[np.int64]


def load_node_data(
    dataset: Dataset, partition: Partition, num_nodes: int, nodes: range, dtype: torch.dtype, device: torch.device
) -> NodeData:
    """Reads a dataset, deals it out and keeps what the local nodes hold.

    Images are scaled to [0, 1] and then normalised, by the partition's feature shift of the node where there is one
    and by the dataset's mean and standard deviation otherwise; features are taken as they are. A test set is stored
    once when the partition gives the very same array of rows to all nodes.

    Args:
        dataset: the dataset, already prepared.
        partition: who gets what; every process computes all of it.
        num_nodes: number M of all nodes.
        nodes: the nodes that this process hosts.
        dtype: floating-point type of the inputs.
        device: where inputs and labels go.

    Returns:
        The data of the local nodes. Their numbers do not depend on which other nodes are local.

    Raises:
        ValueError: when the dataset is not there or cannot be dealt out, or its features cannot be shifted.
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
    require_training_samples(train_sizes)
    train_labels = samples.labels.numpy()[np.concatenate([node.train for node in indices])]
    owners = np.repeat(np.arange(num_nodes), train_sizes)
    num_classes = samples.num_classes
    label_counts = np.bincount(owners * num_classes + train_labels, minlength=num_nodes * num_classes)

    local = [indices[node] for node in nodes]
    local_shifts = None if shifts is None else shifts[nodes.start : nodes.stop]
    loader = _Loader(samples, dtype, device)
    shared_test = all(node.test is indices[0].test for node in indices)
    return NodeData(
        train=loader.per_node([node.train for node in local], local_shifts),
        valid=loader.per_node([node.valid for node in local], local_shifts),
        test=loader.shared(indices[0].test, len(local), local_shifts)
        if shared_test
        else loader.per_node([node.test for node in local], local_shifts),
        num_classes=num_classes,
        input_shape=tuple(samples.inputs.shape[1:]),
        label_counts=label_counts.reshape(num_nodes, num_classes),
        train_sizes=train_sizes,
    )


class _Loader:
    """Turns rows of a dataset into splits."""

    def __init__(self, samples: Samples, dtype: torch.dtype, device: torch.device) -> None:
        self.samples = samples
        self.dtype = dtype
        self.device = device

    def per_node(self, rows: Sequence[_Rows], shifts: npt.NDArray[np.float64] | None) -> Split:
        """Every node's own rows, one node after the other; ``shifts`` has shape [N, 2]."""
        sizes = np.array([len(node_rows) for node_rows in rows], dtype=np.int64)
        offsets = np.concatenate([[0], np.cumsum(sizes)[:-1]])
        all_rows = np.concatenate(rows)
        row_shifts = None if shifts is None else np.repeat(shifts, sizes, axis=0)
        return Split(self._inputs(all_rows, row_shifts), self._labels(all_rows), offsets, sizes)

    def shared(self, rows: _Rows, num_local: int, shifts: npt.NDArray[np.float64] | None) -> Split:
        """The same rows for all local nodes, stored once, or once per distinct shift."""
        copies, copy_of = (None, np.zeros(num_local, dtype=np.int64))
        if shifts is not None:
            copies, copy_of = np.unique(shifts, axis=0, return_inverse=True)
        stored = self.per_node([rows] * (1 if copies is None else len(copies)), copies)
        offsets = stored.offsets[copy_of.reshape(num_local)]
        return Split(stored.inputs, stored.labels, offsets, np.full(num_local, len(rows), dtype=np.int64))

    def _labels(self, rows: _Rows) -> Tensor:
        return self.samples.labels[torch.from_numpy(rows)].to(self.device)

    def _inputs(self, rows: _Rows, row_shifts: npt.NDArray[np.float64] | None) -> Tensor:
        """The rows' inputs; ``row_shifts`` holds a mean and a standard deviation per row."""
        stored = self.samples.inputs[torch.from_numpy(rows)].contiguous()
        # Pixels are moved as bytes and converted where they are used.
        inputs = stored.to(self.device).to(self.dtype)
        if stored.dtype == torch.uint8:
            inputs /= 255
        if row_shifts is not None:
            shift = torch.from_numpy(row_shifts).to(self.device, self.dtype)
            inputs -= shift[:, 0, None, None, None]
            inputs /= shift[:, 1, None, None, None]
        elif self.samples.mean:
            inputs -= torch.tensor(self.samples.mean, dtype=self.dtype, device=self.device)[:, None, None]
            inputs /= torch.tensor(self.samples.std, dtype=self.dtype, device=self.device)[:, None, None]
        return inputs
