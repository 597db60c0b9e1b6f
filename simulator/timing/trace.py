"""Durations of local steps read from a file.

Definition: ``path`` is a CSV file whose first line names the columns: ``node,k,step_s`` or ``node,start_s,step_s``. A
line says that local steps of ``node`` take ``step_s`` seconds from local step ``k`` on, or from simulated time
``start_s`` on, until the node's next line; the last line holds for ever. In the second form the value of a step is the
one in force at the time at which the step starts. A node's first line has k = 0 or start_s = 0. A file of n nodes
serves any number of nodes: node i takes the lines of node i mod n.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from simulator.timing.base import FloatArray, IntArray, Timing
from simulator.timing.files import StepTrace, read_step_trace


@dataclass(frozen=True, kw_only=True, eq=False)
class Trace(Timing):
    """Clocks from a file.

    Args:
        path: the file.

    The other arguments and the errors are those of the base class.
    """

    path: str

    @property
    def needs_starts(self) -> bool:
        """Whether the file says from when on a duration holds, instead of from which step on."""
        return self.trace.by_time

    @cached_property
    def trace(self) -> StepTrace:
        """The file's content."""
        return read_step_trace(self.path)

    def check(self) -> None:
        """Reads the files; see the base class."""
        super().check()
        _ = self.trace

    def compute_s(
        self, nodes: npt.ArrayLike, steps: npt.ArrayLike, starts_s: npt.ArrayLike | None = None
    ) -> FloatArray:
        """The value of the last line at or before the step or the time; shapes as in the base class."""
        trace = self.trace
        if trace.by_time:
            assert starts_s is not None, "this trace needs the times at which steps start"
        keys = np.asarray(starts_s if trace.by_time else steps, dtype=np.float64)
        row: IntArray = np.asarray(nodes, dtype=np.int64) % (trace.first.size - 1)
        # Bisection of all entries at once, each within the lines of its node: trace.begins[low] <= key always.
        low, high = np.broadcast_arrays(trace.first[row], trace.first[row + 1])
        low, high = low.copy(), high.copy()
        while True:
            middle = (low + high) // 2
            open_ = high - low > 1
            if not open_.any():
                durations: FloatArray = trace.step_s[low]
                return durations
            later = trace.begins[middle] > keys
            high = np.where(open_ & later, middle, high)
            low = np.where(open_ & ~later, middle, low)
