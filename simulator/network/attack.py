"""What attackers send (``faults=byzantine``).

Shapes: N local nodes, M all nodes, D columns.
"""

import numpy as np
import torch
from torch import Tensor

from simulator.arrays import IntArray
from simulator.faults.byzantine import Byzantine
from simulator.network.collectives import Collectives
from simulator.padding import copy_as
from simulator.randomness import normals
from simulator.uploads import upload, upload_like


class Attack:
    """The attackers among the nodes of a process.

    Args:
        fault: who attacks, and how.
        nodes: the local nodes.
        collectives: for what attackers know of the honest nodes of all processes.
    """

    def __init__(self, fault: Byzantine, nodes: range, collectives: Collectives) -> None:
        self._fault = fault
        self._nodes = fault.attackers[(fault.attackers >= nodes.start) & (fault.attackers < nodes.stop)]
        self._rows = self._nodes - nodes.start
        self._honest_rows = np.setdiff1d(np.arange(len(nodes)), self._rows)
        self._collectives = collectives

    @property
    def rows(self) -> IntArray:
        """Which of the local rows are those of attackers, [A]."""
        return self._rows

    def sent(self, rows: Tensor, number: int, step: int) -> Tensor:
        """``rows`` [N, ...] with those of attackers replaced; every process must call it.

        Args:
            rows: the rows of the local nodes, which are not changed.
            number: of the tensor among those of the round, which keys its noise.
            step: index of the round.
        """
        assert rows.is_floating_point(), "only rows of numbers can be replaced"
        lie = self._lie(rows, number, step)
        if not self._rows.size:
            return rows
        sent = copy_as(rows)
        sent[upload(self._rows, rows.device)] = lie
        return sent

    def _lie(self, rows: Tensor, number: int, step: int) -> Tensor:
        """What the local attackers send, in the shape of their rows or of one row for all of them."""
        strength = self._fault.strength
        if self._fault.attack == "alie":
            mean, deviation = self._honest_moments(rows)
            return mean - strength * deviation
        own = rows[upload(self._rows, rows.device)]
        if self._fault.attack == "sign_flip":
            return own * -strength
        width = int(np.prod(rows.shape[1:], dtype=np.int64))
        drawn = normals(self._fault.seed, f"attack/{number}", self._nodes, step, width)
        return own + upload_like(drawn * strength, rows).view_as(own)

    def _honest_moments(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the rows of all honest nodes, by column."""
        honest, count = rows[upload(self._honest_rows, rows.device)], len(self._fault.honest)
        mean = self._collectives.sum_over_processes(honest.sum(dim=0)) / count
        squares = self._collectives.sum_over_processes((honest - mean).square().sum(dim=0))
        return mean, torch.sqrt(squares / max(count - 1, 1))
