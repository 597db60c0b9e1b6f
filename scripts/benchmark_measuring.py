"""Interleaved timing and the table that the benchmark prints."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

Candidate = Callable[[int], float | None]


@dataclass(frozen=True)
class Effort:
    """The duration and the clock of measurements.

    Attributes:
        repetitions: windows per candidate, taken in turn.
        window_s: shortest duration of a window, seconds.
        quick: leave the large cases out.
        clock: ``wall``, or ``cpu`` for processor time, which is more reliable on a machine with other work.
    """

    repetitions: int
    window_s: float
    quick: bool
    clock: str = "wall"


class Table:
    """Prints one line per measurement at once, and stores which targets were missed."""

    def __init__(self) -> None:
        self.missed: list[str] = []
        self._subject = ""

    def section(self, title: str) -> None:
        print(f"\n== {title}", flush=True)

    def line(self, what: str, measured: str, target: str = "", met: bool | None = None) -> None:
        """Prints one line, which continues the one before if ``what`` is empty; ``met`` is None without a target."""
        self._subject = what or self._subject
        verdict = "" if met is None else "met" if met else "MISSED"
        if met is False:
            self.missed.append(f"{self._subject}: {measured} (target {target})")
        print(f"{what:<56} {measured:<72} {target:<14} {verdict}".rstrip(), flush=True)


class Times(dict[str, list[float]]):
    """Seconds per step of each candidate, one per window; the windows with one index were measured side by side."""

    def median(self, name: str) -> float:
        """Median seconds per step."""
        return statistics.median(self[name])

    def speedup(self, name: str, baseline: str) -> float:
        """The speed relative to ``baseline``: the median over windows side by side, so that drift has no effect."""
        pairs = zip(self[baseline], self[name], strict=True)
        return statistics.median(other / own for other, own in pairs)


def measure(candidates: Mapping[str, Candidate], effort: Effort, multiple: int = 1) -> Times:
    """Measures all candidates in turn.

    Args:
        candidates: functions that take the number of steps to do; those that compute in other processes return the
            processor time that the busiest of these took.
        effort: the duration and the clock.
        multiple: windows have a multiple of this many steps (an epoch, so that each pays for one reshuffle).
    """
    steps = {}
    for name, run in candidates.items():
        run(multiple)
        per_step = _seconds(run, multiple, "wall") / multiple
        steps[name] = max(1, round(effort.window_s / per_step / multiple)) * multiple
    times = Times({name: [] for name in candidates})
    for _ in range(effort.repetitions):
        for name, run in candidates.items():
            times[name].append(_seconds(run, steps[name], effort.clock) / steps[name])
    return times


def _seconds(run: Candidate, steps: int, clock: str) -> float:
    wall, cpu = time.perf_counter(), time.process_time()
    elsewhere = run(steps)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    if clock == "wall":
        return time.perf_counter() - wall
    return time.process_time() - cpu if elsewhere is None else elsewhere


def rate(value: float) -> str:
    """A number with thousands separators and three digits."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
