"""Rounds in which every node sends its rows along all of its edges.

Shapes: N local nodes, D columns, L the largest delay.
"""

from collections.abc import Callable, Sequence

import numpy as np
from torch import Tensor

from simulator.faults.byzantine import Byzantine
from simulator.network.attack import Attack
from simulator.network.connected_nodes import ConnectedNodes
from simulator.network.payload import payload_bytes
from simulator.network.plans import Plan
from simulator.network.rounds import Inbox, OwnRows, Round


class RowRounds(ConnectedNodes):
    """Sends rows, and mixes those that arrive with the weights of W_t or hands them over."""

    def post(self, rows: Sequence[Tensor], step: int) -> Round:
        """Posts the messages of a round and returns at once; one message per edge carries a row of every tensor.

        Any number of rounds may be in flight. All processes post them in the same order, and each process may finish
        them in any order. The rows must not be changed until the round is finished, because they may be sent from
        where they are. The ledger counts the round here.

        Args:
            rows: tensors whose first axis is the local node: [N], [N, D] or [N, ...].
            step: index of the round in the graph schedule.

        Raises:
            LostProcessError: when a process died.
            RuntimeError: when an earlier round was garbage collected without having been finished.
        """
        self._require_punctual()
        return self._post(self.plan(step), rows, step)

    def mix(self, rows: Sequence[Tensor], step: int) -> tuple[Tensor, ...]:
        """Returns W_step @ X for each X of ``rows``; see :meth:`post` and :meth:`Round.mixed`.

        Args:
            rows: tensors of shape [N] or [N, D].
            step: index of the round in the graph schedule.

        Raises:
            LostProcessError: when a process died.
            SilentProcessError: when a message did not come within the timeout; names the edge.
        """
        return self.post(rows, step).mixed()

    def nothing_in_flight(self, rows: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """What is on its way before the first :meth:`push` of ``rows``: zeros [N, L, ...] for each of [N, ...].

        L is the largest delay of the schedule; without delays there are no tensors at all.
        """
        late = self.graph.max_delay
        return tuple(x.new_zeros(len(x), late, *x.shape[1:]) for x in rows) if late else ()

    def push(
        self, rows: Sequence[Tensor], step: int, in_flight: Sequence[Tensor]
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Mixes rows whose messages may be late, as push-sum does: x_i <- P_t[i, i] x_i + all shares that arrive now.

        A message that is d rounds late crosses in this round and waits in the mailbox of its receiver, so that the
        ledger counts it now. What nodes and mailboxes hold together is kept by a column-stochastic W_t.
        Without delays this is :meth:`mix`.

        Args:
            rows: tensors of shape [N] or [N, ...].
            step: index of the round in the graph schedule.
            in_flight: the mailboxes: for every tensor [N, L, ...], where entry [:, d] arrives d rounds after this one;
                from the last call, or from :meth:`nothing_in_flight`.

        Returns:
            The mixed rows, and the mailboxes after this round, in new tensors.

        Raises:
            LostProcessError, SilentProcessError: as :meth:`mix`.
        """
        if not self.graph.max_delay:
            return self.mix(rows, step), ()
        arriving = self._post(self._late_plan(step), rows, step).by_arrival()
        mixed, left = [], []
        for shares, waiting in zip(arriving, in_flight, strict=True):
            mixed.append(shares[:, 0] + waiting[:, 0])
            later = shares[:, 1:].clone()
            later[:, :-1] += waiting[:, 1:]
            left.append(later)
        return tuple(mixed), tuple(left)

    def mix_coded(self, values: Tensor, packed: Tensor, decode: Callable[[Tensor], Tensor], step: int) -> Tensor:
        """Returns W_step @ X, where the packed form of X's rows is what crosses the edges.

        Args:
            values: X [N, D], exactly what ``decode`` makes of ``packed``.
            packed: the messages, uint8 [N, B].
            decode: maps received messages [R, B] to their rows [R, D].
            step: index of the round in the graph schedule.

        Raises:
            LostProcessError, SilentProcessError: as :meth:`mix`.
        """
        return self.post((packed,), step).mixed_coded(values, decode)

    def exchange(self, rows: Sequence[Tensor], step: int) -> Inbox:
        """Sends row i of every tensor along all edges of round ``step`` that leave node i, unweighted.

        Args:
            rows: tensors of any dtype whose first axis is the local node; together one payload per node.
            step: index of the round in the graph schedule.

        Raises:
            LostProcessError, SilentProcessError: as :meth:`mix`.
        """
        return self.post(rows, step).inbox()

    def _late_plan(self, step: int) -> Plan:
        """The prepared round ``step`` with a slot for every round in which a message may arrive."""
        edges = self.graph.edges(step)
        delay = np.where(edges.source == edges.target, 0, self.graph.delays(edges.source, edges.target, step))
        return Plan.build(edges, self.placement, delay, 1 + self.graph.max_delay)

    def _post(self, plan: Plan, rows: Sequence[Tensor], step: int) -> Round:
        assert all(x.shape[0] == len(self.nodes) for x in rows)
        self._count(plan.links, payload_bytes(rows))
        if not isinstance(self.graph, Byzantine) or not self.graph.attackers.size:
            return Round(plan, tuple(rows), self._send(plan, rows, step))
        attack = Attack(self.graph, self.nodes, self._collectives)
        sent = [attack.sent(x, number, step) for number, x in enumerate(rows)]
        return Round(plan, tuple(sent), self._send(plan, sent, step), OwnRows(attack.rows, tuple(rows)))
