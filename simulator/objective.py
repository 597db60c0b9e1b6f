"""The number, or the numbers, that a run returns to whoever tunes its settings, such as a sweeper of Hydra."""

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

FALLBACKS = ("outer/loss", "train/loss")
"""Taken, in this order, where a run has no metric to select by."""


def objective_of(summary: Mapping[str, Any], chosen: str | Sequence[str] | None, selection: str) -> Any:
    """The objective of a finished run.

    Args:
        summary: from ``summary.json``.
        chosen: the setting ``objective``: a name in the summary, several of them, or None for the best value of
            ``selection``, and without one for the first of :data:`FALLBACKS`.
        selection: the metric that the algorithm selects by.

    Returns:
        A float, or a tuple of floats for several names.

    Raises:
        ValueError: when the summary has no number of that name.
    """
    if isinstance(chosen, str):
        return _number(summary, chosen)
    if chosen is not None:
        return tuple(_number(summary, name) for name in chosen)
    names = (f"best/{selection}", selection, *FALLBACKS)
    found = next((name for name in names if _is_number(summary.get(name))), None)
    return None if found is None else float(summary[found])


def _number(summary: Mapping[str, Any], name: str) -> float:
    if _is_number(summary.get(name)):
        return float(summary[name])
    names = [key for key, value in summary.items() if _is_number(value)]
    alike = difflib.get_close_matches(name, names, n=4, cutoff=0.3)
    raise ValueError(
        f"objective={name}: summary.json has no number of this name; similar: {', '.join(alike or names[:4])}"
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
