"""The console: a progress bar on a terminal or in a notebook, one line per evaluation everywhere else.

Lines go through Python's logging, so that launch.log has them all. A bar shows the same numbers, so that handlers
that write to its terminal or notebook do not get the lines of evaluations. If standard error is neither a terminal nor
a notebook, there is no bar, and every handler gets the lines.
"""

import importlib.util
import logging
import math
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from simulator.loggers.base import Logger, Metric

if TYPE_CHECKING:
    from tqdm import tqdm

_log = logging.getLogger(__name__)

# The metrics that the bar and the lines show, and their short names on the bar.
KEY_METRICS = {
    "train/loss": "loss",
    "test/accuracy": "accuracy",
    "consensus_distance": "consensus",
    "hypergradient/error": "hypergradient error",
    "outer/grad_norm": "outer gradient",
    "penalty/grad_norm": "penalty gradient",
    "comm/bytes": "sent",
}
# Shown as well where the nodes have clocks of their own.
TIME_METRICS = {"time/sim_s": "simulated s"}
SECONDS_BETWEEN_UPDATES = 0.1


class ConsoleLogger(Logger):
    """The progress bar (standard error) and the log lines of a run."""

    def __init__(self) -> None:
        self._run_folder: Path | None = None
        self._shown = KEY_METRICS
        self._bar: tqdm[Any] | None = None
        self._last_update_s = -math.inf
        self._numbers = ""
        self._quietened: list[tuple[logging.Handler, _BesideBar]] = []
        self._last_step: int | None = None

    def start(
        self,
        run_folder: Path,
        config: Mapping[str, Any],
        environment: Mapping[str, Any],
        resume_step: int | None = None,
    ) -> None:
        """Stores the run folder, which the last line names, and whether simulated time is shown."""
        self._run_folder = run_folder
        self._shown = KEY_METRICS | (TIME_METRICS if config.get("timing") else {})

    def log(self, metrics: Mapping[str, Metric], step: int) -> None:
        """Writes one line with the key numbers, and shows them on the bar if there is one."""
        self._last_step = step
        self._numbers = describe_metrics(metrics, self._shown)
        names = {name: name for name in self._shown}
        _say(logging.INFO, f"step {step}  {describe_metrics(metrics, names)}".rstrip(), on_bar=True)
        if self._bar is not None:
            self._bar.set_postfix_str(self._numbers, refresh=True)

    def progress(self, step: int, num_steps: int) -> None:
        """Updates the bar at most ten times a second; does nothing without a bar."""
        self._last_step = step
        now = time.monotonic()
        if now - self._last_update_s < SECONDS_BETWEEN_UPDATES and step < num_steps:
            return
        self._last_update_s = now
        if self._bar is None:
            if not _in_notebook() and not _can_draw(sys.stderr):
                return
            self._bar = self._make_bar(step, num_steps)
        self._bar.update(step - self._bar.n)

    def finish(self, summary: Mapping[str, Any], figures: Sequence[Path]) -> None:
        """Writes the last line: the key numbers of the summary and where the results are."""
        self._drop_bar()
        names = {name: name for name in self._shown}
        parts = ["finished", describe_metrics(summary, names), f"results in {self._run_folder}"]
        _say(logging.INFO, "  ".join(part for part in parts if part))

    def close(self, failed: bool) -> None:
        """Removes the bar; writes at which step a failed run ended."""
        self._drop_bar()
        if failed and self._run_folder is not None:
            where = "before the first step" if self._last_step is None else f"after step {self._last_step}"
            _say(logging.ERROR, f"failed {where}  results so far in {self._run_folder}")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """A run that was asked to stop has not failed; the loop says where it stopped."""
        self.close(failed=kind is not None and not issubclass(kind, SystemExit))

    def _make_bar(self, step: int, num_steps: int) -> "tqdm[Any]":
        bar_class, bar_field = _bar_class()
        bar = bar_class(
            total=num_steps,
            initial=step,
            unit="step",
            unit_scale=False,
            dynamic_ncols=True,
            mininterval=0.0,  # progress() limits the rate
            miniters=1,
            file=sys.stderr,
            bar_format="{percentage:3.0f}%|"
            + bar_field
            + "| {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_fmt}{postfix}]",
        )
        bar.set_postfix_str(self._numbers, refresh=False)
        for handler in _handlers():
            if isinstance(handler, logging.StreamHandler) and _is_beside_bar(handler.stream):
                beside = _BesideBar(bar)
                handler.addFilter(beside)
                self._quietened.append((handler, beside))
        return bar

    def _drop_bar(self) -> None:
        for handler, beside in self._quietened:
            handler.removeFilter(beside)
        self._quietened.clear()
        if self._bar is not None:
            self._bar.close()
            self._bar = None


class _BesideBar(logging.Filter):
    """Lets a handler share a terminal with the bar.

    Lines whose numbers the bar shows are not written. Before any other line the bar is cleared, and the next update
    draws it again below.
    """

    def __init__(self, bar: "tqdm[Any]") -> None:
        super().__init__()
        self._bar = bar

    def filter(self, record: logging.LogRecord) -> bool:
        if getattr(record, "on_bar", False):
            return False
        self._bar.clear()
        return True


def _say(level: int, line: str, on_bar: bool = False) -> None:
    """Writes one line to the log, or to standard error when logging is not set up."""
    if _log.hasHandlers():
        _log.log(level, line, extra={"on_bar": on_bar})
    else:
        print(line, file=sys.stderr, flush=True)


def _handlers() -> list[logging.Handler]:
    """All handlers that get the lines."""
    handlers: list[logging.Handler] = []
    logger: logging.Logger | None = _log
    while logger is not None:
        handlers += logger.handlers
        logger = logger.parent if logger.propagate else None
    return handlers


def _in_notebook() -> bool:
    """Whether this interpreter is the kernel of a notebook."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return type(shell).__name__ == "ZMQInteractiveShell"


def _bar_class() -> "tuple[type[tqdm[Any]], str]":
    """The bar of a notebook that has ipywidgets, or a bar of characters; and its field in ``bar_format``."""
    if _in_notebook() and importlib.util.find_spec("ipywidgets") is not None:
        from tqdm.notebook import tqdm as notebook_tqdm

        return notebook_tqdm, "{bar}"
    from tqdm import tqdm

    return tqdm, "{bar:20}"


def _is_beside_bar(stream: Any) -> bool:
    """Whether lines on this stream are seen where the bar is."""
    return _is_terminal(stream) or (_in_notebook() and stream in (sys.stdout, sys.stderr))


def _is_terminal(stream: Any) -> bool:
    return bool(getattr(stream, "isatty", lambda: False)())


def _can_draw(stream: Any) -> bool:
    """Whether a bar would be seen; a terminal of no size, as some containers give, shows none."""
    if not _is_terminal(stream):
        return False
    try:
        size = os.get_terminal_size(stream.fileno())
    except OSError:
        return True
    return size.lines > 0 and size.columns > 0


def describe_metrics(metrics: Mapping[str, Any], names: Mapping[str, str]) -> str:
    """The key numbers among the metrics, as "name value" with two spaces between."""
    parts = []
    for metric, name in names.items():
        value = metrics.get(metric)
        if value is not None:
            text = format_bytes(value) if metric == "comm/bytes" else f"{float(value):.4g}"
            parts.append(f"{name} {text}")
    return "  ".join(parts)


def format_bytes(num_bytes: float) -> str:
    """A number of bytes in decimal units: 999 B, 1.5 kB, 2.35 GB."""
    value, units = float(num_bytes), ["B", "kB", "MB", "GB", "TB", "PB"]
    while float(f"{value:.3g}") >= 1000.0 and len(units) > 1:
        value /= 1000.0
        units.pop(0)
    return f"{value:.3g} {units[0]}"
