"""Durations of local steps are lognormal: around a speed that each node keeps, anew in every step.

Definition: compute_s(i, k) = step_s * exp(node_sigma * a_i + sigma * b_ik) with independent standard normals a_i, keyed
by (seed, i), and b_ik, keyed by (seed, i, k). The median over nodes and steps is step_s.
Source: standard; lognormal step times are what clusters and phones are usually modelled with.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from simulator.randomness import normals
from simulator.timing.base import FloatArray, IntArray, Timing, check_number


@dataclass(frozen=True, kw_only=True, eq=False)
class Lognormal(Timing):
    """Random clocks.

    Args:
        step_s: median seconds of a local step, at least 0.
        sigma: standard deviation of the logarithm of a step's duration within a node, at least 0.
        node_sigma: standard deviation of the logarithm of a node's own median, over nodes, at least 0.

    The other arguments and the errors are those of the base class.
    """

    step_s: float
    sigma: float
    node_sigma: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("step_s", "sigma", "node_sigma"):
            check_number(name, getattr(self, name), least=0.0)

    @cached_property
    def medians_s(self) -> FloatArray:
        """The median duration of a local step of every node, seconds, shape [M]."""
        drawn = normals(self.seed, "timing/node", np.arange(self.num_nodes), 0, 1)[:, 0]
        medians: FloatArray = self.step_s * np.exp(self.node_sigma * drawn)
        return medians

    def compute_s(
        self, nodes: npt.ArrayLike, steps: npt.ArrayLike, starts_s: npt.ArrayLike | None = None
    ) -> FloatArray:
        """One draw per (node, step); shapes as in the base class."""
        index: IntArray = np.asarray(nodes, dtype=np.int64)
        medians = self.medians_s[index]
        if self.sigma == 0:
            return medians
        durations: FloatArray = medians * np.exp(self.sigma * normals(self.seed, "timing/step", index, steps, 1)[:, 0])
        return durations
