"""The curves that a schedule is compared with in figures: alone, rings of several sizes, exact averaging."""

from collections.abc import Sequence

import numpy as np

from simulator.arrays import FloatArray
from simulator.topology.invariance import InvariantSpectra
from simulator.topology.neighbors import (
    doubling_num_neighbors,
    effective_num_neighbors,
    infinite_ring_num_neighbors,
)
from simulator.topology.quadratic import Rates, ScalarRates, rate_alone, rate_complete
from simulator.topology.walk import InvariantWalk


def ring_walk(num_nodes: int) -> InvariantWalk:
    """The ring with weights 1/3 (1/2 for two nodes, 1 for one)."""
    row = np.zeros(num_nodes)
    neighbourhood = np.unique(np.array([-1, 0, 1]) % num_nodes)
    row[neighbourhood] = 1.0 / len(neighbourhood)
    return InvariantWalk(InvariantSpectra((num_nodes,), np.fft.fft(row)[None]))


def decay_references(num_nodes: int, gammas: FloatArray) -> dict[str, tuple[FloatArray, FloatArray]]:
    """n_W of well-known schedules of as many nodes, by name, each with its gammas."""
    ring = ring_walk(num_nodes)
    curves = {
        "alone": [1.0 for _ in gammas],
        "ring": [effective_num_neighbors(ring, gamma) for gamma in gammas],
        "complete": [float(num_nodes) for _ in gammas],
    }
    if num_nodes & (num_nodes - 1) == 0:
        curves["one-peer exponential"] = [doubling_num_neighbors(num_nodes, gamma) for gamma in gammas]
    return {name: (gammas, np.array(values)) for name, values in curves.items()}


def rate_references(
    names: Sequence[str], num_nodes: int, lrs: FloatArray, zeta: float
) -> dict[str, tuple[FloatArray, FloatArray]]:
    """Rates on quadratics, by name, each with its learning rates.

    Args:
        names: ``alone``, ``complete`` and ``ring`` (of ``num_nodes`` nodes), ``ring K``, ``infinite ring``.
        num_nodes: M.
        lrs: learning rates, [L].
        zeta: noise level.
    """
    found = {}
    for name in names:
        if name == "alone":
            values = [rate_alone(lr, zeta) for lr in lrs]
        elif name == "complete":
            values = [rate_complete(lr, zeta, num_nodes) for lr in lrs]
        else:
            rates = _ring_rates(name, num_nodes, zeta)
            values = [rates.rate(lr) for lr in lrs]
        found[name] = (lrs, np.array(values))
    return found


def _ring_rates(name: str, num_nodes: int, zeta: float) -> Rates:
    if name == "infinite ring":
        return ScalarRates(infinite_ring_num_neighbors, zeta)
    walk = ring_walk(num_nodes if name == "ring" else int(name.removeprefix("ring ")))
    return ScalarRates(lambda gamma: effective_num_neighbors(walk, gamma), zeta)
