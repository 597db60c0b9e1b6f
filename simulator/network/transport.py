"""How bytes travel between processes: the messages of one round in flight.

One contiguous byte buffer per pair of processes and round; all receives are posted before the first send. On gloo plain
``irecv`` and ``isend`` in a fixed order, on NCCL one ``batch_isend_irecv``; CUDA tensors on gloo are staged through
pinned memory. Every wait has a timeout, and every failure names the process and an edge.
"""

import math
from collections.abc import Sequence
from datetime import timedelta

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from simulator.graphs.base import Graph
from simulator.network.plans import LinkPlan, PeerRows, Plan
from simulator.placement import Placement


class LostProcessError(RuntimeError):
    """Another process went away; ``peer`` is its rank, or -1 when it may be any."""

    def __init__(self, message: str, peer: int) -> None:
        super().__init__(message)
        self.peer = peer


class SilentProcessError(TimeoutError):
    """Another process did not answer within the timeout; ``peer`` is its rank, or -1 when it may be any."""

    def __init__(self, message: str, peer: int) -> None:
        super().__init__(message)
        self.peer = peer


class Transport:
    """What this process sends with.

    Args:
        placement: which process hosts which nodes.
        device: where the rows live.
        timeout_s: how long one message may take before the run is given up.
    """

    def __init__(self, placement: Placement, device: torch.device, timeout_s: float) -> None:
        self.placement = placement
        self.device = device
        self.timeout_s = timeout_s
        self.uses_nccl = placement.world_size > 1 and dist.get_backend() == "nccl"
        self._pool: dict[tuple[str, int], Tensor] = {}

    def sends_from(self, rows: Tensor) -> bool:
        """Whether ``rows`` can be sent from where they are, without a copy into a buffer."""
        return rows.is_contiguous() and (self.uses_nccl or rows.device.type == "cpu")

    def buffer(self, direction: str, peer: int, num_bytes: int) -> Tensor:
        """A byte buffer on the transport's device, reused from round to round."""
        key = (direction, peer)
        if key not in self._pool or self._pool[key].numel() < num_bytes:
            device = self.device if self.uses_nccl else torch.device("cpu")
            pinned = self.device.type == "cuda" and not self.uses_nccl
            self._pool[key] = torch.empty(num_bytes, dtype=torch.uint8, device=device, pin_memory=pinned)
        return self._pool[key][:num_bytes]


class RoundTrip:
    """The messages of one round in flight, between their posting and :meth:`release`.

    Attributes:
        sent_bytes: handed to torch.distributed.
    """

    def __init__(
        self, transport: Transport, graph: Graph, plan: Plan | LinkPlan, rows: Sequence[Tensor], step: int
    ) -> None:
        self._transport = transport
        self._graph = graph
        self._plan = plan
        self._rows = rows
        self._step = step
        self._incoming = [
            (part, transport.buffer("receive", part.peer, payload_bytes(rows) * part.nodes.size))
            for part in plan.receives
        ]
        outgoing = [(part, self._pack(part)) for part in plan.sends]
        self.sent_bytes = sum(buffer.numel() for _, buffer in outgoing)
        self._receives: list[dist.Work]
        self._sends: list[dist.Work]
        if not self._incoming and not outgoing:
            self._receives, self._sends = [], []
        elif transport.uses_nccl:
            operations = [dist.P2POp(dist.irecv, buffer, part.peer) for part, buffer in self._incoming]
            operations += [dist.P2POp(dist.isend, buffer, part.peer) for part, buffer in outgoing]
            works = dist.batch_isend_irecv(operations)
            self._receives, self._sends = works, []
        else:
            self._receives = [self._post(dist.irecv, part, buffer) for part, buffer in self._incoming]
            self._sends = [self._post(dist.isend, part, buffer) for part, buffer in outgoing]

    def finish(self) -> list[Tensor]:
        """Waits for the receives; returns for each tensor the received rows, in the plan's order."""
        for work, (part, _) in zip(self._receives, self._incoming, strict=False):
            self._wait(work, part, "receive")
        for work in self._receives[len(self._incoming) :]:
            work.wait()
        num_received = sum(part.nodes.size for part, _ in self._incoming)
        columns: list[list[Tensor]] = [[] for _ in self._rows]
        for part, buffer in self._incoming:
            for column, section in zip(columns, sections(buffer, self._rows, part.nodes.size), strict=True):
                column.append(section.to(self._transport.device))
        if num_received == 0:
            return [x[:0] for x in self._rows]
        return [torch.cat(column) if len(column) > 1 else column[0] for column in columns]

    def release(self) -> None:
        """Waits until the sent buffers may be used again."""
        for work, part in zip(self._sends, self._plan.sends, strict=False):
            self._wait(work, part, "send")

    def _pack(self, part: PeerRows) -> Tensor:
        local = part.rows
        contiguous = local[-1] - local[0] + 1 == local.size
        if contiguous and len(self._rows) == 1 and self._transport.sends_from(self._rows[0]):
            return self._rows[0].detach()[int(local[0]) : int(local[-1]) + 1].view(-1).view(torch.uint8)
        buffer = self._transport.buffer("send", part.peer, payload_bytes(self._rows) * part.nodes.size)
        index = None if contiguous else torch.from_numpy(local).to(self._transport.device)
        for x, section in zip(self._rows, sections(buffer, self._rows, local.size), strict=True):
            if index is None:
                section.copy_(x[int(local[0]) : int(local[-1]) + 1])
            elif section.device == x.device and not x.requires_grad:
                torch.index_select(x, 0, index, out=section)
            else:
                section.copy_(x.index_select(0, index))
        return buffer

    def _post(self, operation: object, part: PeerRows, buffer: Tensor) -> dist.Work:
        assert callable(operation)
        try:
            work = operation(buffer, part.peer)
        except RuntimeError as error:
            raise self._lost(part, error) from error
        assert isinstance(work, dist.Work)
        return work

    def _wait(self, work: dist.Work, part: PeerRows, direction: str) -> None:
        try:
            work.wait(timedelta(seconds=self._transport.timeout_s))
        except RuntimeError as error:
            if is_timeout(error):
                rank, timeout_s = self._transport.placement.rank, self._transport.timeout_s
                preposition = "from" if direction == "receive" else "to"
                raise SilentProcessError(
                    f"round {self._step}: rank {rank} waited {timeout_s:g} s to {direction} {self._describe(part)} "
                    f"{preposition} rank {part.peer}",
                    part.peer,
                ) from error
            raise self._lost(part, error) from error

    def _lost(self, part: PeerRows, error: RuntimeError) -> LostProcessError:
        nodes = self._transport.placement.nodes_of(part.peer)
        return LostProcessError(
            f"round {self._step}: rank {self._transport.placement.rank} lost rank {part.peer}, which hosts nodes "
            f"{nodes.start}..{nodes.stop - 1} ({first_line(error)})",
            part.peer,
        )

    def _describe(self, part: PeerRows) -> str:
        """Names the rows and one edge among them."""
        edges = self._graph.edges(self._step)
        other = self._transport.placement.nodes if part.nodes[0] not in self._transport.placement.nodes else range(0)
        if not other:
            other = self._transport.placement.nodes_of(part.peer)
        chosen = np.isin(edges.source, part.nodes) & (edges.target >= other.start) & (edges.target < other.stop)
        edge = int(np.flatnonzero(chosen)[0])
        plural = "s" if part.nodes.size > 1 else ""
        return (
            f"the row{plural} of {part.nodes.size} node{plural} (such as edge {edges.source[edge]} -> "
            f"{edges.target[edge]})"
        )


def payload_bytes(rows: Sequence[Tensor]) -> int:
    """Bytes of one row of every tensor."""
    return sum(_row_bytes(x) for x in rows)


def sections(buffer: Tensor, rows: Sequence[Tensor], num_rows: int) -> list[Tensor]:
    """Views of a byte buffer, one per tensor, each [num_rows, ...]; wide element types first keeps them aligned."""
    views: dict[int, Tensor] = {}
    offset = 0
    for index in sorted(range(len(rows)), key=lambda i: -rows[i].element_size()):
        x = rows[index]
        length = _row_bytes(x) * num_rows
        views[index] = buffer[offset : offset + length].view(x.dtype).view(num_rows, *x.shape[1:])
        offset += length
    return [views[i] for i in range(len(rows))]


def _row_bytes(x: Tensor) -> int:
    return x.element_size() * math.prod(x.shape[1:])


def first_line(error: BaseException) -> str:
    """The first line of an error's text, at most 200 characters."""
    return str(error).splitlines()[0][:200] if str(error) else type(error).__name__


def is_timeout(error: BaseException) -> bool:
    """Whether torch.distributed gave up waiting."""
    text = str(error).lower()
    return "timed out" in text or "timeout" in text
