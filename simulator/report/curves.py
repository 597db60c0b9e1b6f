"""The evaluations of runs as columns of rounded numbers, thinned where there are too many for a page."""

import math
from collections.abc import Sequence
from typing import Any

from simulator.results import Run

Column = list[float | int | None]

MOST_NUMBERS = 220_000
"""Numbers of all curves together, about ten bytes each."""
_DIGITS = 7


def rounded(value: Any, digits: int = _DIGITS) -> float | int | None:
    """A number with so many significant digits; whole numbers as they are; None for what is no finite number."""
    if isinstance(value, int) or value is None:
        return value
    if not isinstance(value, float) or not math.isfinite(value):
        return None
    return float(f"{value:.{digits}g}")


def columns(run: Run, kept: Sequence[int]) -> dict[str, Column]:
    """One column per metric that is a number, ``step`` among them; None where an evaluation does not have it."""
    names = dict.fromkeys(name for record in run.records for name, value in record.items() if _is_number(value))
    records = [run.records[place] for place in kept]
    table = {
        name: [rounded(record[name]) if _is_number(record.get(name)) else None for record in records] for name in names
    }
    return {name: column for name, column in table.items() if any(value is not None for value in column)}


def kept_evaluations(runs: Sequence[Run], most_numbers: int = MOST_NUMBERS) -> tuple[list[list[int]], int]:
    """The evaluations of every run that a page shows, by position, and of how many successive ones it shows one.

    First, last and best evaluations are always kept, and so are those with a metric that most evaluations lack.
    """
    every = 1
    while True:
        kept = [_every(run, every) for run in runs]
        count = sum(len(run.records[place]) for run, places in zip(runs, kept, strict=True) for place in places)
        if count <= most_numbers or every >= max(len(run.records) for run in runs):
            return kept, every
        every = max(every + 1, math.ceil(every * count / most_numbers))


def _every(run: Run, every: int) -> list[int]:
    records = run.records
    if every == 1 or len(records) < 3:
        return list(range(len(records)))
    counts: dict[str, int] = {}
    for record in records:
        for name in record:
            counts[name] = counts.get(name, 0) + 1
    rare = {name for name, count in counts.items() if 2 * count < len(records)}
    best = (run.summary or {}).get("best/step")
    return [
        place
        for place, record in enumerate(records)
        if place % every == 0 or place == len(records) - 1 or record["step"] == best or not rare.isdisjoint(record)
    ]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
