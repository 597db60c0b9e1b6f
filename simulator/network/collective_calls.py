"""What all processes ask together, whatever the graph: for metrics, for set-up, and to agree.

Shapes: N local nodes, M all nodes.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from simulator.faults.byzantine import Byzantine
from simulator.network.connected_nodes import ConnectedNodes
from simulator.uploads import upload


class CollectiveCalls(ConnectedNodes):
    """Collectives over the processes, by node."""

    def gather(self, rows: Tensor) -> Tensor:
        """Returns the rows [M, ...] of all nodes on every process; for metrics, counted apart."""
        return self._collectives.gather(rows)

    def scatter(self, rows: Tensor) -> Tensor:
        """Gives every node its row of ``rows``, whatever the graph; for evaluations, counted apart.

        Args:
            rows: [M, ...] on the process of node 0, [0, ...] on others.

        Returns:
            The rows of the local nodes, [N, ...].
        """
        return self._collectives.scatter(rows)

    def sum(self, rows: Tensor) -> Tensor:
        """Returns the sum over all nodes of ``rows`` [N, ...], on every process; for metrics, counted apart."""
        return self._collectives.sum(rows)

    def mean(self, rows: Tensor) -> Tensor:
        """Returns the mean over all honest nodes of ``rows`` [N, ...], on every process; for metrics, counted apart.

        All nodes are honest but for those that ``faults=byzantine`` makes attackers.
        """
        if not isinstance(self.graph, Byzantine):
            return self.sum(rows) / self.num_nodes
        honest = self.graph.honest
        local = honest[(honest >= self.nodes.start) & (honest < self.nodes.stop)] - self.nodes.start
        return self.sum(rows[upload(local, rows.device)]) / len(honest)

    def agree(self, values: Sequence[int]) -> list[int]:
        """Returns the maximum of each value over all processes; not counted."""
        return self._collectives.agree(values)

    def barrier(self) -> None:
        """Returns when all processes have called it; not counted.

        Raises:
            RuntimeError: when a round was garbage collected without having been finished.
        """
        self._transport.check_dropped()
        self._collectives.barrier()

    def check(self) -> None:
        """Raises the error of a process group that has failed; what was read from the device since then is worthless.

        Raises:
            LostProcessError, SilentProcessError: as a round or a collective.
        """
        self._waits.check()

    def share(self, value: object) -> object:
        """Returns rank 0's ``value`` on every process; for set-up, not counted."""
        return self._collectives.share(value)

    def wire_totals(self) -> tuple[int, int]:
        """Returns (algorithm, evaluation) bytes handed to torch.distributed by all processes so far; not counted."""
        wire, evaluation = self.totals([self.ledger.wire_bytes, self.ledger.evaluation_bytes])
        return wire, evaluation

    def totals(self, counts: Sequence[int]) -> list[int]:
        """Returns the sum of each count over all processes; not counted."""
        return [int(total) for total in self._collectives.sum_over_processes(torch.tensor(counts)).tolist()]
