"""Rounds in which every edge carries messages of its own."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from simulator.network.connected_nodes import ConnectedNodes
from simulator.network.link_plans import LinkPlan
from simulator.network.payload import payload_bytes


class EdgeMessages(ConnectedNodes):
    """Sends along each edge of a round, or along chosen ones, what is meant for its target alone."""

    def deliver(self, messages: Tensor, step: int, plan: LinkPlan | None = None) -> Tensor:
        """Sends a message of its own along edges of round ``step`` between different nodes.

        Args:
            messages: one row per edge that leaves a local node, in the order of the plan's ``out_source`` and
                ``out_target``; any dtype, [E_out, ...].
            step: index of the round in the graph schedule.
            plan: of the edges that carry a message, if not all of :meth:`link_plan`; from :meth:`links_among`.

        Returns:
            One row per edge that enters a local node, in the order of ``in_source`` and ``in_target``, [E_in, ...].

        Raises:
            LostProcessError, SilentProcessError: as :meth:`mix`.
        """
        self._require_punctual()
        plan = plan or self.link_plan(step)
        assert len(messages) == plan.out_source.size
        self._count(plan.links, payload_bytes((messages,)))
        return self._deliver(messages, step, plan)

    def deliver_many(
        self,
        rows: Tensor,
        counts: npt.NDArray[np.int64],
        step: int,
        plan: LinkPlan | None = None,
        *,
        known: npt.NDArray[np.int64] | None = None,
    ) -> tuple[Tensor, npt.NDArray[np.int64]]:
        """As :meth:`deliver`, with any number of rows per edge; their number is sent first, in 8 bytes.

        Args:
            rows: the rows of all edges one after the other, [sum of counts, ...].
            counts: rows of every edge that leaves a local node, [E_out].
            step, plan: as in :meth:`deliver`.
            known: number of rows that every node sends along each of its edges, [M], where every process knows it.
                Then the numbers are not sent.

        Returns:
            The rows of all edges that enter local nodes, one edge after the other, and their counts [E_in].

        Raises:
            LostProcessError, SilentProcessError: as :meth:`mix`.
        """
        self._require_punctual()
        plan = plan or self.link_plan(step)
        if known is not None:
            assert (counts == known[plan.out_source]).all()
            per_edge = known[plan.links.codes // self.num_nodes] * payload_bytes((rows,))
            self._count_each(plan.links, per_edge)
            arriving = known[plan.in_source]
            return self._deliver(rows, step, plan.widen(counts, arriving)), arriving
        arriving = self.deliver(torch.from_numpy(counts).to(self.device), step, plan).cpu().numpy()
        edge_counts = np.zeros(plan.links.size, dtype=np.int64)
        order = np.argsort(plan.links.codes)
        codes = plan.out_source * self.num_nodes + plan.out_target
        edge_counts[order[np.searchsorted(plan.links.codes, codes, sorter=order)]] = counts
        # The ledger of every process covers all edges, so it needs the counts of all processes.
        edge_counts = self._collectives.sum_over_processes(torch.from_numpy(edge_counts)).numpy()
        self._count_each(plan.links, edge_counts * payload_bytes((rows,)))
        return self._deliver(rows, step, plan.widen(counts, arriving)), arriving

    def _deliver(self, messages: Tensor, step: int, plan: LinkPlan) -> Tensor:
        """The messages [E_out, ...] of a round that the ledger has counted; returns those that arrive, [E_in, ...]."""
        with self._send(plan, (messages,), step) as received:
            kept = messages[plan.kept_index.on(messages.device)]
            arrived = torch.cat([kept, *received]) if received else kept
        return arrived[plan.arrival_index.on(messages.device)]
