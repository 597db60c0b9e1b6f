"""Notices that a run diverges while its numbers are still finite."""

import math
from collections.abc import Mapping
from typing import Any

from simulator.metrics import Evaluation

LARGEST_GROWTH = 100.0
"""A number that is larger than this many times its first value, and than this, has diverged."""

SMALLEST_PROGRESS = 0.1
"""A run has learned where a loss is below its value at the start by this share of it."""


class Divergence:
    """Compares losses and iterates with their values at the first evaluation.

    A loss has diverged when it exceeds 100 times its first value and 100. The root mean square of the parameters, or of
    the hyperparameters, has diverged when it does so, or is NaN, and the run has not learned: a solution may be far
    from the start. Losses that only oscillate, or that rise with overfitting, stay far below.

    Only losses of the first evaluation tell whether the run has learned: those that are reported later begin where the
    run already is. Networks without weight decay may blow up in a step and then stay where their outputs are constant,
    with a loss a little below that of the start, so a little is not enough.
    """

    def __init__(self, state: Mapping[str, Any] | None = None) -> None:
        """Begins anew, or where the run that is resumed was: with the :meth:`state_dict` of its checkpoint."""
        state = state or {"first": {}, "losses_at_start": None, "is_noticed": False}
        self._first: dict[str, float] = dict(state["first"])
        self._losses_at_start: list[str] | None = state["losses_at_start"]
        self._is_noticed: bool = state["is_noticed"]
        self._has_diverged: bool = self._is_noticed

    def state_dict(self) -> dict[str, Any]:
        """Plain values for a checkpoint."""
        return {
            "first": self._first,
            "losses_at_start": self._losses_at_start,
            "is_noticed": self._is_noticed,
        }

    @property
    def has_diverged(self) -> bool:
        """Whether the run has grown without bound by its last evaluation, or did so earlier and has not learned."""
        return self._has_diverged

    def look(self, evaluation: Evaluation) -> str | None:
        """What has grown without bound until this evaluation, and how much, the first time; None otherwise."""
        losses = {
            name: value
            for name, value in evaluation.numbers.items()
            if name.endswith("/loss") and (math.isfinite(value) or (name in self._first and value > 0))
        }
        if self._losses_at_start is None:
            self._losses_at_start = list(losses)
        for name, value in {**losses, **evaluation.iterate_rms}.items():
            self._first.setdefault(name, value)
        has_learned = any(
            losses[name] < self._first[name] - SMALLEST_PROGRESS * abs(self._first[name])
            for name in self._losses_at_start
            if name in losses
        )
        suspects = losses if has_learned else {**losses, **evaluation.iterate_rms}
        grown = [name for name in self._first if name in suspects and not suspects[name] <= self._limit(name)]
        self._has_diverged = bool(grown) or (self._is_noticed and not has_learned)
        if not grown or self._is_noticed:
            return None
        self._is_noticed = True
        return f"{grown[0]} has grown from {self._first[grown[0]]:.3g} to {suspects[grown[0]]:.3g}"

    def _limit(self, name: str) -> float:
        return LARGEST_GROWTH * max(abs(self._first[name]), 1.0)
