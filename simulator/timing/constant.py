"""Every local step of every node takes the same time.

Definition: compute_s(i, k) = step_s.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from simulator.timing.base import FloatArray, Timing, check_number


@dataclass(frozen=True, kw_only=True, eq=False)
class Constant(Timing):
    """Equal clocks.

    Args:
        step_s: seconds of a local step, at least 0.

    The other arguments and the errors are those of the base class.
    """

    step_s: float

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("step_s", self.step_s, least=0.0)

    def compute_s(
        self, nodes: npt.ArrayLike, steps: npt.ArrayLike, starts_s: npt.ArrayLike | None = None
    ) -> FloatArray:
        """The same for all; shapes as in the base class."""
        return np.full(np.shape(nodes), float(self.step_s))
