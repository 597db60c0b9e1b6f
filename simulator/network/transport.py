"""How bytes travel between processes: the messages of one round in flight.

There is one contiguous byte buffer per pair of processes and round, and all receives are posted before the first send.
On gloo these are ``irecv`` and ``isend`` in a fixed order, on NCCL one ``batch_isend_irecv``. CUDA tensors on gloo are
copied through pinned memory. Every wait is bounded, and every failure names the process and an edge; see
:mod:`simulator.network.waits`.

Several rounds may be in flight at once. All processes post them in the same order. On gloo every round has its own
tag; on NCCL messages of the same two processes are matched in the order of posting.
"""

from collections.abc import Callable, Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from simulator.graphs.base import Edges
from simulator.network.buffers import BufferPool
from simulator.network.failures import Messages
from simulator.network.link_plans import LinkPlan
from simulator.network.payload import payload_bytes, sections
from simulator.network.peer_rows import PeerRows
from simulator.network.plans import Plan
from simulator.network.waits import Waits
from simulator.network.wave_plans import WavePlan
from simulator.placement import Placement

# Far more than the rounds in flight at once. Where a tag is used twice, gloo matches messages in the order of posting.
_NUM_TAGS = 1024


def uses_nccl(placement: Placement) -> bool:
    """Whether the processes of ``placement`` communicate by NCCL."""
    return placement.world_size > 1 and dist.get_backend() == "nccl"


class Transport:
    """What this process sends and receives with.

    Args:
        placement: which process hosts which nodes.
        device: where the rows live.
        waits: how to wait for messages; watched on NCCL.

    Attributes:
        buffers: for messages; those that no round holds are free.
    """

    def __init__(self, placement: Placement, device: torch.device, waits: Waits) -> None:
        self.placement = placement
        self.device = device
        self.waits = waits
        self.uses_nccl = uses_nccl(placement)
        assert waits.watchdog is not None or not self.uses_nccl
        self.buffers = BufferPool(
            device if self.uses_nccl else torch.device("cpu"), pinned=device.type == "cuda" and not self.uses_nccl
        )
        self._num_posted = 0
        self._dropped: str | None = None

    def post(
        self, plan: Plan | LinkPlan | WavePlan, rows: Sequence[Tensor], edges: Callable[[], Edges], step: int
    ) -> "InFlight":
        """Posts the messages of round ``step`` and returns at once.

        Args:
            plan: of the round.
            rows: the tensors whose rows are sent. They may be sent from where they are, so they must not change until
                the round is finished.
            edges, step: of the round, named in errors.

        Raises:
            LostProcessError: when the connection to a process broke.
            RuntimeError: when a round was posted earlier and never finished.
        """
        self.check_dropped()
        self._num_posted += 1
        return InFlight(self, plan, rows, edges, step, tag=self._num_posted % _NUM_TAGS)

    def check_dropped(self) -> None:
        """Raises a RuntimeError when a round was posted and garbage collected without having been finished."""
        if self._dropped is not None:
            raise RuntimeError(self._dropped)

    def note_dropped(self, step: int) -> None:
        """Remembers for :meth:`check_dropped` that round ``step`` was never finished."""
        self._dropped = f"round {step} was posted and never finished: every Round needs one call such as mixed()"

    def sends_from(self, rows: Tensor) -> bool:
        """Whether ``rows`` can be sent from where they are, without a copy into a buffer."""
        return rows.is_contiguous() and (self.uses_nccl or rows.device.type == "cpu")


class InFlight:
    """The messages of one round; posted when this is made, finished by one ``with`` block.

    The buffers belong to the round from its posting until the block ends. Rounds may be finished in any order.

    Attributes:
        sent_bytes: handed to torch.distributed.
    """

    def __init__(
        self,
        transport: Transport,
        plan: Plan | LinkPlan | WavePlan,
        rows: Sequence[Tensor],
        edges: Callable[[], Edges],
        step: int,
        *,
        tag: int,
    ) -> None:
        self._is_open = False
        self._transport = transport
        self._rows = rows
        self._edges = edges
        self._step = step
        self._buffers: list[Tensor] = []
        self.sent_bytes = 0
        self._incoming: list[tuple[PeerRows, Tensor]] = []
        self._receives: list[tuple[dist.Work, Messages]] = []
        self._sends: list[tuple[dist.Work, Messages]] = []
        if plan.sends or plan.receives:
            self._post(plan, tag)
        self._is_open = True

    def __del__(self) -> None:
        if self._is_open:
            self._transport.note_dropped(self._step)

    def __enter__(self) -> list[Tensor]:
        """Waits for the receives.

        Returns:
            For each tensor that was sent the received rows [R, ...], in the plan's order; an empty list in a round in
            which nothing is received. The rows stand in the buffers of the round and must not be used after the block.

        Raises:
            LostProcessError, SilentProcessError: when a message did not come.
            RuntimeError: when the round was finished before.
        """
        self.require_open()
        self._is_open = False
        self._wait(self._receives)
        return self._received() if self._incoming else []

    def require_open(self) -> None:
        """Raises a RuntimeError when the round was finished before."""
        if not self._is_open:
            raise RuntimeError(f"round {self._step} was finished before: a round can be finished only once")

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        """Waits for the sends and gives the buffers back; after an error in the block it does neither.

        Raises:
            LostProcessError, SilentProcessError: when a message could not be delivered.
        """
        if error is None:
            self._wait(self._sends)
            self._transport.buffers.give_back(self._buffers)

    def _post(self, plan: Plan | LinkPlan | WavePlan, tag: int) -> None:
        payload = payload_bytes(self._rows)
        self._incoming = [(part, self._take(payload * part.nodes.size)) for part in plan.receives]
        outgoing = [(part, self._pack(part, payload)) for part in plan.sends]
        self.sent_bytes = sum(buffer.numel() for _, buffer in outgoing)
        parts = [(part, "receive") for part, _ in self._incoming] + [(part, "send") for part, _ in outgoing]
        if self._transport.uses_nccl:
            operations = [dist.P2POp(dist.irecv, buffer, part.peer) for part, buffer in self._incoming]
            operations += [dist.P2POp(dist.isend, buffer, part.peer) for part, buffer in outgoing]
            batch = self._messages(*parts)
            with self._transport.waits.calling(batch.silent, batch.lost):
                works = dist.batch_isend_irecv(operations)
            # Backends that coalesce a batch return one work for all its operations.
            messages = [batch] if len(works) < len(parts) else [self._messages(part) for part in parts]
            self._receives = list(zip(works, messages, strict=True))
            return
        for part, buffer in self._incoming:
            self._receives.append(self._begin(dist.irecv, buffer, self._messages((part, "receive")), tag))
        for part, buffer in outgoing:
            self._sends.append(self._begin(dist.isend, buffer, self._messages((part, "send")), tag))

    def _messages(self, *parts: tuple[PeerRows, str]) -> Messages:
        transport = self._transport
        return Messages(transport.placement, self._edges, self._step, transport.waits.timeout_s, parts)

    def _begin(
        self, operation: Callable[..., dist.Work | None], buffer: Tensor, message: Messages, tag: int
    ) -> tuple[dist.Work, Messages]:
        try:
            work = operation(buffer, message.parts[0][0].peer, tag=tag)
        except RuntimeError as error:
            raise message.lost(error) from error
        assert work is not None
        return work, message

    def _take(self, num_bytes: int) -> Tensor:
        buffer = self._transport.buffers.take(num_bytes)
        self._buffers.append(buffer)
        return buffer[:num_bytes]

    def _pack(self, part: PeerRows, payload: int) -> Tensor:
        """The bytes to send: a view of the rows where that is possible, otherwise a copy in a buffer."""
        block, rows = part.block, self._rows
        if block is not None and len(rows) == 1 and self._transport.sends_from(rows[0]):
            return rows[0].detach()[block].view(-1).view(torch.uint8)
        buffer = self._take(payload * part.rows.size)
        for x, section in zip(rows, sections(buffer, rows, part.rows.size), strict=True):
            x = x.detach()
            if block is not None:
                section.copy_(x[block])
            elif section.device == x.device:
                torch.index_select(x, 0, part.index.on(x.device), out=section)
            else:
                section.copy_(x.index_select(0, part.index.on(x.device)))
        return buffer

    def _received(self) -> list[Tensor]:
        columns: list[list[Tensor]] = [[] for _ in self._rows]
        for part, buffer in self._incoming:
            for column, section in zip(columns, sections(buffer, self._rows, part.nodes.size), strict=True):
                column.append(section.to(self._transport.device))
        return [torch.cat(column) if len(column) > 1 else column[0] for column in columns]

    def _wait(self, works: list[tuple[dist.Work, Messages]]) -> None:
        waits = self._transport.waits
        for work, messages in works:
            with waits.calling(messages.silent, messages.lost):
                waits.finish(work, messages.silent)
