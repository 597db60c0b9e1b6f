"""What a run may spend before it ends: bytes between nodes, and calls of the problem's gradients and products."""

import math

from simulator.simulation import Simulation


class Budget:
    """The section ``budget`` of a run, and whether it is used up.

    Args:
        simulation: has the settings, and counts what is spent.
    """

    def __init__(self, simulation: Simulation) -> None:
        section = simulation.settings["budget"]
        self._bytes: float = section["bytes"] or math.inf
        self._oracle_calls: float = section["oracle_calls"] or math.inf
        self._network, self._problem = simulation.network, simulation.problem

    def is_used_up(self) -> bool:
        """Whether the run ends after the present step.

        Every process must call it, and all get the same answer. All know the bytes; each knows the calls of its own
        nodes only, so that with ``oracle_calls`` and several processes they meet here after every step.
        """
        if self._network.ledger.bytes >= self._bytes:
            return True
        if self._oracle_calls == math.inf:
            return False
        gradients, hessian_products, _ = self._network.totals(self._problem.calls.counts)
        return gradients + hessian_products >= self._oracle_calls * self._network.num_nodes
