"""The nodes that the dataset itself defines, for datasets that are made per node.

**Definition.** ``samples.node_indices``, unchanged. **Source.** None needed. **Departures.** None.
"""

import numpy as np

from simulator.data.base import NodeIndices, Partition, Samples
from simulator.data.partitions.dealing import require_training_samples


class AsGiven(Partition):
    """The dataset's own partition."""

    def split(self, samples: Samples, num_nodes: int) -> tuple[NodeIndices, ...]:
        """Returns the dataset's own indices; raises ValueError when it has none for this number of nodes."""
        if samples.node_indices is None:
            raise ValueError(
                "partition as_given: the dataset does not say which node holds what; use a dataset that is made per "
                "node (synthetic_mixture) or another partition (iid, dirichlet, shards, dirichlet_shift)"
            )
        if len(samples.node_indices) != num_nodes:
            raise ValueError(
                f"partition as_given: the dataset is made for {len(samples.node_indices)} nodes and num_nodes is "
                f"{num_nodes}; they must be equal"
            )
        require_training_samples(np.array([len(node.train) for node in samples.node_indices]))
        return samples.node_indices
