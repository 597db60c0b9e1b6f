"""One round in flight, and the ways to finish it.

Shapes: N local nodes, M all nodes, E entries of W_t that end at local nodes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from simulator.network.plans import Plan
from simulator.network.transport import InFlight
from simulator.uploads import upload, upload_like


@dataclass(frozen=True)
class Inbox:
    """What arrived at the local nodes in one round, unweighted.

    Attributes:
        source, target: global nodes of every entry of W_t that ends at a local node (self-loops included), int64 [E].
        weight: W_t[target, source], float64 [E].
        row: for every entry the row of its message in each tensor of ``rows``, int64 [E].
        rows: for every tensor that was sent, the local rows followed by the received ones, and by what nodes keep for
            themselves that send other rows.
    """

    source: npt.NDArray[np.int64]
    target: npt.NDArray[np.int64]
    weight: npt.NDArray[np.float64]
    row: npt.NDArray[np.int64]
    rows: tuple[Tensor, ...]


@dataclass(frozen=True)
class OwnRows:
    """What nodes keep for themselves that send other rows.

    Attributes:
        nodes: which of the local nodes they are, ascending, int64 [A].
        rows: every tensor that was posted as the nodes have it, [N, ...].
    """

    nodes: npt.NDArray[np.int64]
    rows: tuple[Tensor, ...]


class Round:
    """Rows on their way along the edges of W_t; made by :meth:`Network.post`.

    Exactly one of :meth:`mixed`, :meth:`mixed_by`, :meth:`mixed_coded`, :meth:`by_arrival` and :meth:`inbox` is called,
    once; it waits until the messages have come. The rows that were posted must not be changed before it returns.

    A round that is garbage collected without such a call makes the next :meth:`Network.post` or
    :meth:`Network.barrier` raise a RuntimeError.
    """

    def __init__(self, plan: Plan, rows: tuple[Tensor, ...], in_flight: InFlight, own: OwnRows | None = None) -> None:
        self._plan = plan
        self._rows = rows
        self._in_flight = in_flight
        self._own = own

    def mixed(self) -> tuple[Tensor, ...]:
        """Returns W_t @ X for each X that was posted, in its shape.

        Raises:
            LostProcessError: when a process died.
            SilentProcessError: when a message did not come within the timeout; names the edge.
            RuntimeError: when the round was finished before.
        """
        return self.mixed_by([self._plan] * len(self._rows))

    def mixed_by(self, plans: Sequence[Plan]) -> tuple[Tensor, ...]:
        """As :meth:`mixed`, where the weights of each X are those of a plan of its own.

        Args:
            plans: one for every tensor that was posted, of rounds with the edges of this one.

        Raises:
            LostProcessError, SilentProcessError, RuntimeError: as :meth:`mixed`.
        """
        mixed = tuple(out.reshape(x.shape) for out, x in zip(self._products(plans), self._rows, strict=True))
        if self._own is not None and self._own.nodes.size:
            nodes = upload(self._own.nodes, mixed[0].device)
            for plan, out, sent, kept in zip(plans, mixed, self._rows, self._own.rows, strict=True):
                weight = upload_like(plan.own_weight[self._own.nodes], out).view(-1, *(1,) * (out.dim() - 1))
                out[nodes] += weight * (kept[nodes] - sent[nodes])
        return mixed

    def by_arrival(self) -> tuple[Tensor, ...]:
        """Returns the shares of W_t @ X by the round in which they arrive, [N, S, ...] for each X [N, ...].

        S is the number of slots of the plan; entry [:, d] is what arrives d rounds after this one.

        Raises:
            LostProcessError, SilentProcessError, RuntimeError: as :meth:`mixed`.
        """
        parts = zip(self._products([self._plan] * len(self._rows)), self._rows, strict=True)
        return tuple(out.reshape(len(x), -1, *x.shape[1:]) for out, x in parts)

    def mixed_coded(self, values: Tensor, decode: Callable[[Tensor], Tensor]) -> Tensor:
        """Returns W_t @ X, where the one tensor that was posted holds the rows of X in packed form.

        Args:
            values: X [N, D], exactly what ``decode`` makes of the packed rows.
            decode: maps received packed rows [R, B] to rows of X [R, D].

        Raises:
            LostProcessError, SilentProcessError, RuntimeError: as :meth:`mixed`.
        """
        self._in_flight.require_open()
        mixed = self._plan.local.multiply(values)
        with self._in_flight as received:
            if received:
                self._plan.remote.add_product_(mixed, decode(received[0]))
        return mixed

    def _products(self, plans: Sequence[Plan]) -> list[Tensor]:
        """The rows of W_t times each X, flat: [rows of the plan's blocks, columns]."""
        self._in_flight.require_open()
        flat = [x if x.dim() == 2 else x.reshape(len(x), -1) for x in self._rows]
        mixed = [plan.local.multiply(x) for plan, x in zip(plans, flat, strict=True)]
        with self._in_flight as received:
            if received:
                for plan, out, rows in zip(plans, mixed, received, strict=True):
                    plan.remote.add_product_(out, rows.reshape(len(rows), out.shape[1]))
        return mixed

    def inbox(self) -> Inbox:
        """Returns the rows that were posted and those that arrived, unweighted.

        Raises:
            LostProcessError, SilentProcessError, RuntimeError: as :meth:`mixed`.
        """
        plan, row = self._plan, self._plan.in_row
        with self._in_flight as received:
            parts = [self._rows, received] if received else [self._rows]
            if self._own is not None and self._own.nodes.size:
                nodes, first = self._own.nodes, plan.nodes.start
                parts.append(tuple(x[upload(nodes, x.device)] for x in self._own.rows))
                loops = (plan.in_source == plan.in_target) & np.isin(plan.in_target - first, nodes)
                row = row.copy()
                row[loops] = sum(len(p[0]) for p in parts[:-1]) + np.searchsorted(nodes, plan.in_target[loops] - first)
            stacked = tuple(torch.cat(x) for x in zip(*parts, strict=True)) if len(parts) > 1 else self._rows
        return Inbox(plan.in_source, plan.in_target, plan.in_weight, row, stacked)
