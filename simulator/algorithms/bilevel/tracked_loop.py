"""Single loops with gradient tracking of every variable, in either order: sldbo and dsgda_gt.

Update equations (see corrected_loop.py for the loop), for each variable v with its direction d, its step size a and its
tracker T, which begins as d and is the memory of the correction:
    adapt_then_combine:  v <- W (v - a T)
    combine_and_adapt:   v <- W v - a T, as in DIGing (Nedic, Olshevsky and Shi, arXiv 1607.03218)
    both:                T <- W T + d(new) - d(old)
Both end at the same point and send the same; the first takes larger steps where mixing is slow.
"""

from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from simulator.algorithms.bilevel.corrected_loop import CorrectedLoop
from simulator.algorithms.corrections import CombineAndAdapt, Correction, GradientTracking
from simulator.checks import require_one_of

_ORDERS = MappingProxyType({"adapt_then_combine": GradientTracking(), "combine_and_adapt": CombineAndAdapt()})


@dataclass(frozen=True, kw_only=True)
class TrackedLoop(CorrectedLoop):
    """A single loop with gradient tracking.

    Args:
        order: ``adapt_then_combine`` or ``combine_and_adapt``.
    """

    order: Literal["adapt_then_combine", "combine_and_adapt"]

    def __post_init__(self) -> None:
        super().__post_init__()
        require_one_of("algorithm.order", self.order, _ORDERS)

    @property
    def tracking(self) -> Correction:
        """The correction of every variable."""
        return _ORDERS[self.order]
