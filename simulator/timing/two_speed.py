"""Two kinds of nodes: fast ones, and some that are slower by a factor (stragglers).

Definition: round(slow_share * M) nodes, drawn uniformly by the seed, are slow. compute_s(i, k) is step_s for the others
and slow_factor * step_s for them.
Source: standard; the usual setting of experiments with stragglers, as in Assran et al., "Stochastic gradient push",
ICML 2019, and Lian et al., "Asynchronous decentralized parallel SGD", ICML 2018.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from simulator.randomness import generator
from simulator.timing.base import FloatArray, Timing, check_number


@dataclass(frozen=True, kw_only=True, eq=False)
class TwoSpeed(Timing):
    """Fast and slow nodes.

    Args:
        step_s: seconds of a local step of a fast node, at least 0.
        slow_share: share of slow nodes, in [0, 1].
        slow_factor: how many times longer a slow node takes, positive.

    The other arguments and the errors are those of the base class.
    """

    step_s: float
    slow_share: float
    slow_factor: float

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("step_s", self.step_s, least=0.0)
        check_number("slow_share", self.slow_share, least=0.0, most=1.0)
        if not 0 < self.slow_factor < math.inf:
            raise ValueError(f"timing.slow_factor={self.slow_factor}: expected a positive number")

    @cached_property
    def is_slow(self) -> npt.NDArray[np.bool_]:
        """Which nodes are slow, shape [M]."""
        slow = np.zeros(self.num_nodes, dtype=np.bool_)
        order = generator(self.seed, "timing/slow").permutation(self.num_nodes)
        slow[order[: round(self.slow_share * self.num_nodes)]] = True
        return slow

    def compute_s(
        self, nodes: npt.ArrayLike, steps: npt.ArrayLike, starts_s: npt.ArrayLike | None = None
    ) -> FloatArray:
        """Depends on the node only; shapes as in the base class."""
        slow = self.is_slow[np.asarray(nodes, dtype=np.int64)]
        return np.where(slow, self.slow_factor * self.step_s, float(self.step_s))
