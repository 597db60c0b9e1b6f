"""Range checks of settings. Every message names the setting as it is typed, its value and what is allowed."""

from collections.abc import Iterable
from typing import Literal

UnitInterval = Literal["[0, 1]", "[0, 1)", "(0, 1]", "(0, 1)"]


def require_positive(name: str, value: float) -> None:
    """Raises ValueError unless ``value`` is positive."""
    if not value > 0:
        raise ValueError(f"{name}={value}: expected a positive number")


def require_at_least(name: str, value: float, smallest: float) -> None:
    """Raises ValueError unless ``value`` is ``smallest`` or larger."""
    if not value >= smallest:
        raise ValueError(f"{name}={value}: expected at least {smallest}")


def require_within(name: str, value: float, interval: UnitInterval) -> None:
    """Raises ValueError unless ``value`` lies in ``interval``."""
    above = value >= 0 if interval[0] == "[" else value > 0
    below = value <= 1 if interval[-1] == "]" else value < 1
    if not (above and below):
        raise ValueError(f"{name}={value}: expected a number in {interval}")


def require_one_of(name: str, value: str, allowed: Iterable[str]) -> None:
    """Raises ValueError unless ``value`` is one of the words that are allowed."""
    *first, last = allowed
    if value not in (*first, last):
        raise ValueError(f"{name}={value!r}: expected {', '.join(first)} or {last}")
