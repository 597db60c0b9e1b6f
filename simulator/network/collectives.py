"""Collectives over all processes: for metrics, set-up and agreements.

Shapes: N local nodes, M all nodes.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from simulator.network.errors import LostProcessError, SilentProcessError, first_line, is_timeout
from simulator.network.ledger import Ledger
from simulator.network.transport import uses_nccl
from simulator.placement import Placement


class Collectives:
    """Operations that every process calls at the same point; see the methods of the same names of :class:`Network`.

    Each raises a LostProcessError when a process died and a SilentProcessError when one does not answer within the
    timeout.

    Args:
        placement: which process hosts which nodes.
        device: where the rows live.
        timeout_s: named in errors; the process group has the same timeout.
        ledger: where bytes that serve metrics are counted.
    """

    def __init__(self, placement: Placement, device: torch.device, timeout_s: float, ledger: Ledger) -> None:
        self._placement = placement
        self._device = device
        self._timeout_s = timeout_s
        self._ledger = ledger
        self._uses_nccl = uses_nccl(placement)

    def gather(self, rows: Tensor) -> Tensor:
        """Returns the rows [M, ...] of all nodes on every process."""
        if self._placement.world_size == 1:
            return rows
        sizes = np.diff(self._placement.starts)
        block = torch.zeros((int(sizes.max()), *rows.shape[1:]), dtype=rows.dtype)
        block[: len(rows)] = rows.detach().cpu()
        block = self._to_backend(block)
        blocks = [torch.empty_like(block) for _ in sizes]
        self._ledger.record_evaluation(block.nbytes)
        self._guard(lambda: dist.all_gather(blocks, block), "the metrics of all processes")
        return torch.cat([b[:size] for b, size in zip(blocks, sizes, strict=True)]).to(rows.device)

    def scatter(self, rows: Tensor) -> Tensor:
        """Returns the local rows [N, ...] of ``rows``, which are [M, ...] on rank 0 and [0, ...] elsewhere."""
        if self._placement.world_size == 1:
            return rows
        sizes = np.diff(self._placement.starts)
        own = self._to_backend(torch.empty((int(sizes.max()), *rows.shape[1:]), dtype=rows.dtype))
        parts = None
        if self._placement.rank == 0:
            parts = [torch.zeros_like(own) for _ in sizes]
            for part, block in zip(parts, rows.detach().split(sizes.tolist()), strict=True):
                part[: len(block)] = block
            self._ledger.record_evaluation(own.nbytes * (len(sizes) - 1))
        self._guard(lambda: dist.scatter(own, parts, src=0), "the rows that node 0 hands out")
        return own[: len(self._placement.nodes)].to(self._device)

    def sum(self, rows: Tensor) -> Tensor:
        """Returns the sum over all nodes of ``rows`` [N, ...], on every process."""
        total = rows.sum(dim=0)
        if self._placement.world_size > 1:
            self._ledger.record_evaluation(total.nbytes)
        return self.sum_over_processes(total)

    def agree(self, values: Sequence[int]) -> list[int]:
        """Returns the maximum of each value over all processes; not counted."""
        if self._placement.world_size == 1:
            return list(values)
        reduced = self._to_backend(torch.tensor(values))
        self._guard(lambda: dist.all_reduce(reduced, op=dist.ReduceOp.MAX), "all processes to agree")
        return [int(value) for value in reduced.tolist()]

    def barrier(self) -> None:
        """Returns when all processes have called it; not counted."""
        if self._placement.world_size > 1:
            arrived = self._to_backend(torch.zeros(1))
            self._guard(lambda: dist.all_reduce(arrived), "all processes to reach this point")
            # On NCCL an operation only enters a stream; reading its result waits for it.
            arrived.cpu()

    def share(self, value: object) -> object:
        """Returns rank 0's ``value`` on every process; not counted."""
        if self._placement.world_size == 1:
            return value
        box = [value]
        self._guard(lambda: dist.broadcast_object_list(box, src=0), "rank 0")
        return box[0]

    def sum_over_processes(self, total: Tensor) -> Tensor:
        """Returns the sum of every process's ``total``, on every process; not counted."""
        if self._placement.world_size == 1:
            return total
        reduced = self._to_backend(total.detach().cpu().clone())
        self._guard(lambda: dist.all_reduce(reduced), "the sum over all processes")
        return reduced.to(total.device)

    def _to_backend(self, tensor: Tensor) -> Tensor:
        """``tensor`` where the backend takes it from: on the device for NCCL, otherwise where it is."""
        return tensor.to(self._device) if self._uses_nccl else tensor

    def _guard(self, collective: Callable[[], object], what: str) -> None:
        """Runs a collective; its failures become errors that say what this process waited for."""
        try:
            collective()
        except RuntimeError as error:
            rank = self._placement.rank
            if is_timeout(error):
                raise SilentProcessError(
                    f"rank {rank} waited {self._timeout_s:g} s for {what}, and one of them does not answer", -1
                ) from error
            raise LostProcessError(
                f"rank {rank} waited for {what}, and one of them went away ({first_line(error)})", -1
            ) from error
