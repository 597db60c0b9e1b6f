"""Learning rates as functions of the step within a training run."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from simulator.checks import require_positive


class Schedule(ABC):
    """The factor of the learning rate at a step."""

    @abstractmethod
    def factor(self, step: int) -> float:
        """The factor at ``step``, counted from 0 at the start of training; positive, as algorithms divide by rates."""


class Constant(Schedule):
    """1 at every step."""

    def factor(self, step: int) -> float:
        return 1.0


class MultiStep(Schedule):
    """``decay`` to the power of the number of milestones that have been reached.

    Args:
        milestones: steps at which the rate is multiplied once more with ``decay``.
        decay: positive, usually 0.1.

    Raises:
        ValueError: when ``decay`` is not positive.
    """

    def __init__(self, *, milestones: Sequence[int], decay: float = 0.1) -> None:
        require_positive("lr_schedule.decay", decay)
        self.milestones = tuple(milestones)
        self.decay = decay

    def factor(self, step: int) -> float:
        return float(self.decay ** sum(milestone <= step for milestone in self.milestones))


class InverseRoot(Schedule):
    """1 / sqrt(step + 1)."""

    def factor(self, step: int) -> float:
        return float((step + 1) ** -0.5)


class Inverse(Schedule):
    """1 / (step + 1)."""

    def factor(self, step: int) -> float:
        return 1.0 / (step + 1)
