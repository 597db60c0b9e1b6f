"""Times candidates and stores which was fastest on this machine.

The choice is kept in a small file, so that a second run of the same work on the same machine computes in the same way
and gives the same bits.
"""

import json
import logging
import math
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

log = logging.getLogger(__name__)

_ROUNDS = 5
_MAX_ROUNDS = 30
_BUDGET_S = 0.3
_SLOW_S = 0.5


def choices_file() -> Path:
    """Where choices are kept: ``$XDG_CACHE_HOME/hypergossip/compute.json``, by default below ``~/.cache``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hypergossip" / "compute.json"


def time_candidates(candidates: Mapping[str, Callable[[], None]], device: torch.device) -> dict[str, float]:
    """Returns the best time in seconds of each candidate, measured in turn so that drift affects all alike.

    Short candidates run more often, because on a busy machine few of their runs are undisturbed. A candidate for which
    the device's memory is too small takes infinitely long.

    Raises:
        torch.OutOfMemoryError: when it is too small for all.
    """
    times = {name: _time(run, device) for name, run in candidates.items()}
    start = time.perf_counter()
    for done in range(_MAX_ROUNDS):
        if done >= _ROUNDS and time.perf_counter() - start > _BUDGET_S:
            break
        for name, run in candidates.items():
            if times[name] < _SLOW_S:
                times[name] = min(times[name], _time(run, device))
    if all(math.isinf(seconds) for seconds in times.values()):
        raise torch.OutOfMemoryError(f"compute: the memory of {device} is too small for each of {', '.join(times)}")
    return times


def _time(run: Callable[[], None], device: torch.device) -> float:
    start = time.perf_counter()
    try:
        run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
    except torch.OutOfMemoryError:
        if device.type == "cuda":
            torch.cuda.empty_cache()  # or what this candidate has left behind may be missing for the next one
        return math.inf
    return time.perf_counter() - start


def remembered_choice(key: str, candidates: Mapping[str, Callable[[], None]], device: torch.device) -> str:
    """Returns the name of the fastest candidate: the one stored for ``key``, or that of a new measurement."""
    path = choices_file()
    try:
        known = json.loads(path.read_text())
    except (OSError, ValueError):
        known = {}
    if not isinstance(known, dict):
        known = {}
    if isinstance(known.get(key), str) and known[key] in candidates:
        return str(known[key])
    times = time_candidates(candidates, device)
    choice = min(times, key=lambda name: times[name])
    listed = ", ".join(
        f"{name} out of memory" if math.isinf(seconds) else f"{name} {1e3 * seconds:.2f} ms"
        for name, seconds in times.items()
    )
    log.info("compute: %s is fastest (%s)", choice, listed)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f"{path.name}.{os.getpid()}")
        temporary.write_text(json.dumps({**known, key: choice}, indent=1))
        temporary.replace(path)
    except OSError as error:
        log.warning("compute: the choice could not be kept in %s (%s)", path, error)
    return choice
