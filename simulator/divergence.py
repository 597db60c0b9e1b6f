"""Notices that a run diverges while its numbers are still finite."""

import math
from collections.abc import Mapping

from simulator.metrics import Evaluation

LARGEST_GROWTH = 100.0
"""A number that is larger than this many times its first value, and than this, has diverged."""


class Divergence:
    """Compares losses and iterates with their values at the first evaluation.

    A loss has diverged when it exceeds 100 times its first value and 100. The root mean square of the parameters, or of
    the hyperparameters, has diverged when it does so and no loss is below its first value: a solution may be far from
    the start. Losses that only oscillate, or that rise with overfitting, stay far below.
    """

    def __init__(self) -> None:
        self._first: dict[str, float] = {}

    def add_losses(self, numbers: Mapping[str, float]) -> None:
        """Takes the losses among the metrics of an evaluation as first values, where there are none yet."""
        for name, value in numbers.items():
            if name.endswith("/loss") and math.isfinite(value):
                self._first.setdefault(name, value)

    def describe(self, evaluation: Evaluation) -> str | None:
        """What has grown without bound until this evaluation, and how much; None for nothing."""
        self.add_losses(evaluation.numbers)
        losses = {name: evaluation.numbers[name] for name in self._first if name in evaluation.numbers}
        has_learned = any(value < self._first[name] for name, value in losses.items())
        for name, value in evaluation.iterate_rms.items():
            self._first.setdefault(name, value)
        for name, value in {**losses, **({} if has_learned else evaluation.iterate_rms)}.items():
            first = self._first[name]
            if value > LARGEST_GROWTH * max(abs(first), 1.0):
                return f"{name} has grown from {first:.3g} to {value:.3g}"
        return None
