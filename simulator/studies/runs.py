"""One run of a study: performed by a worker, and read again from its folder."""

import json
import math
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simulator import checkpoint, tables
from simulator.checkpoint import write_atomically
from simulator.config.overrides import root_of
from simulator.errors import RunError, describe_error
from simulator.interface import run
from simulator.loggers.jsonl import FILE_NAME as METRICS
from simulator.loggers.jsonl import read_records
from simulator.results import Run
from simulator.studies.plan import Spec
from simulator.summary import FILE_NAME as SUMMARY

BEGUN, OUTCOME = "begun.json", "outcome.json"
FINISHED, FAILED, REFUSED = "finished", "failed", "refused"
WITHOUT_EFFECT = (
    *("data_root", "device", "num_threads", "timeout_s", "launcher"),
    *("figures", "logger", "checkpoint", "objective"),
)
"""Root keys on which no result depends, but for the rounding of sums in another order: no run is repeated for them."""


@dataclass(frozen=True)
class Result:
    """What became of a run.

    Attributes:
        state: ``finished``, ``failed``, or ``refused`` where the configuration is not allowed.
        line: why it has not finished.
        seconds: what it took here, with its start.
        run: what it has left; without its configuration.
        at: the evaluation that counts.
    """

    spec: Spec
    state: str
    line: str
    seconds: float
    run: Run | None
    at: str

    def number(self, metric: str) -> float | None:
        """A metric; None where the run has none, has not finished or has diverged."""
        return None if self.loss else tables.numbers(self._finished, self.at)[metric]

    @property
    def loss(self) -> str:
        """Why the run is lost; empty where it is not."""
        if self.state != FINISHED or self.run is None:
            return self.line or self.state
        if (self.run.summary or {}).get("diverged"):
            return "diverged"
        missing = [name for name in (self.spec.case.select, self.spec.case.metric) if not self._has(name)]
        return f"no finite {self.at}/{missing[0]}" if missing else ""

    def _has(self, metric: str) -> bool:
        value = tables.numbers(self._finished, self.at).get(metric)
        return value is not None and math.isfinite(value)

    @property
    def _finished(self) -> Run:
        assert self.run is not None
        return self.run


def perform(spec: Spec, folder: Path) -> None:
    """Runs it in its folder, from its checkpoint if it was stopped, and writes what became of it.

    Raises:
        KeyboardInterrupt: when it was stopped; it can be performed again.
    """
    begun = folder / BEGUN
    if _deciding(_read(begun)) != _deciding({"overrides": spec.overrides}):
        shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(begun, json.dumps({"overrides": spec.overrides}))
    state, line, started = FINISHED, "", time.perf_counter()
    try:
        if checkpoint.find(folder) is not None:
            run(*filter(_is_without_effect, spec.overrides), resume=folder, folder=folder)
        else:
            run(*spec.overrides, folder=folder)
    except ValueError as error:
        state, line = REFUSED, describe_error(error)
    except RunError as error:
        state, line = FAILED, describe_error(error)
    except Exception as error:  # a fault of one method must not end the study; it is listed
        state, line = FAILED, f"{type(error).__name__}: {describe_error(error)}"
    outcome = {"state": state, "line": line, "seconds": time.perf_counter() - started, "overrides": spec.overrides}
    write_atomically(folder / OUTCOME, json.dumps(outcome))


def read(spec: Spec, folder: Path, at: str) -> Result | None:
    """What became of a run; None where it has to be run, still or again."""
    outcome = _read(folder / OUTCOME)
    if _deciding(outcome) != _deciding({"overrides": spec.overrides}):
        return None
    found = None
    if outcome["state"] == FINISHED:
        summary = _read(folder / SUMMARY)
        if not summary:
            return None
        found = Run(folder, {}, summary, read_records(folder / METRICS))
    return Result(spec, outcome["state"], outcome["line"], outcome["seconds"], found, at)


def _deciding(content: Mapping[str, Any]) -> dict[str, str]:
    """What the results depend on: the last value of every key of the overrides that a run was ordered with."""
    kept = (word for word in content.get("overrides", ()) if not _is_without_effect(word))
    return {key: value for key, _, value in (word.partition("=") for word in kept)}


def _is_without_effect(override: str) -> bool:
    return root_of(override) in WITHOUT_EFFECT


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
