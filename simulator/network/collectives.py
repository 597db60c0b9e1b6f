"""Collectives over all processes: for metrics, set-up and agreements.

Shapes: N local nodes, M all nodes.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from simulator.errors import LostProcessError, SilentProcessError
from simulator.network.ledger import Ledger
from simulator.network.transport import uses_nccl
from simulator.network.waits import Waits, first_line
from simulator.placement import Placement

_Result = TypeVar("_Result")


class Collectives:
    """Operations that every process calls at the same point; see the methods of the same names of :class:`Network`.

    Each raises a LostProcessError when a process died and a SilentProcessError when one does not answer within the
    timeout.

    Args:
        placement: which process hosts which nodes.
        device: where the rows live.
        waits: how to wait for the others; watched on NCCL, where an operation has not run yet when it returns.
        ledger: where bytes that serve metrics are counted.
    """

    def __init__(self, placement: Placement, device: torch.device, waits: Waits, ledger: Ledger) -> None:
        self._placement = placement
        self._device = device
        self._waits = waits
        self._ledger = ledger
        self._uses_nccl = uses_nccl(placement)

    def gather(self, rows: Tensor) -> Tensor:
        """Returns the rows [M, ...] of all nodes on every process."""
        if self._placement.world_size == 1:
            return rows
        sizes = np.diff(self._placement.starts)
        block = torch.zeros((int(sizes.max()), *rows.shape[1:]), dtype=rows.dtype, device=self._backend_device)
        block[: len(rows)] = rows.detach()
        blocks = [torch.empty_like(block) for _ in sizes]
        self._ledger.record_evaluation(block.nbytes)
        return self._run(
            "the metrics of all processes",
            lambda **options: dist.all_gather(blocks, block, **options),
            lambda: torch.cat([b[:size] for b, size in zip(blocks, sizes, strict=True)]).to(rows.device),
        )

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
        return self._run(
            "the rows that node 0 hands out",
            lambda **options: dist.scatter(own, parts, src=0, **options),
            lambda: own[: len(self._placement.nodes)].to(self._device),
        )

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
        return self._run(
            "all processes to agree",
            lambda **options: dist.all_reduce(reduced, op=dist.ReduceOp.MAX, **options),
            lambda: [int(value) for value in reduced.tolist()],
        )

    def barrier(self) -> None:
        """Returns when all processes have called it; not counted."""
        if self._placement.world_size > 1:
            arrived = self._to_backend(torch.zeros(1))
            # On NCCL the host waits only when it reads the result.
            self._run(
                "all processes to reach this point",
                lambda **options: dist.all_reduce(arrived, **options),
                lambda: arrived.cpu(),
            )

    def share(self, value: object) -> object:
        """Returns rank 0's ``value`` on every process; not counted."""
        if self._placement.world_size == 1:
            return value
        box = [value]
        with self._guarded("rank 0"):
            dist.broadcast_object_list(box, src=0)
        return box[0]

    def sum_over_processes(self, total: Tensor) -> Tensor:
        """Returns the sum of every process's ``total``, on every process; not counted."""
        if self._placement.world_size == 1:
            return total
        reduced = total.detach().to(self._backend_device, copy=True)
        return self._run(
            "the sum over all processes",
            lambda **options: dist.all_reduce(reduced, **options),
            lambda: reduced.to(total.device),
        )

    @property
    def _backend_device(self) -> torch.device:
        """Where the backend takes tensors from."""
        return self._device if self._uses_nccl else torch.device("cpu")

    def _to_backend(self, tensor: Tensor) -> Tensor:
        """``tensor`` where the backend takes it from."""
        return tensor.to(self._backend_device)

    def _run(self, what: str, start: Callable[..., dist.Work | None], read: Callable[[], _Result]) -> _Result:
        """Starts a collective, waits for it and returns what ``read`` does."""
        with self._guarded(what):
            work = start(async_op=True)
            assert work is not None
            self._waits.finish(work, lambda: self._silent(what))
            return read()

    def _guarded(self, what: str) -> AbstractContextManager[None]:
        """Inside the block failures become errors that say what this process waited for."""
        return self._waits.calling(lambda: self._silent(what), lambda error: self._lost(what, error))

    def _silent(self, what: str) -> SilentProcessError:
        rank, timeout_s = self._placement.rank, self._waits.timeout_s
        return SilentProcessError(f"rank {rank} waited {timeout_s:g} s for {what}, and one of them does not answer", -1)

    def _lost(self, what: str, error: RuntimeError) -> LostProcessError:
        rank = self._placement.rank
        return LostProcessError(f"rank {rank} waited for {what}, and one of them went away ({first_line(error)})", -1)
