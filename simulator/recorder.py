"""Writes the results of a run: evaluations, checkpoints, and at its end the summary and the figures."""

import json
import logging
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from simulator import checkpoint, metrics
from simulator.algorithms.base import State
from simulator.checkpoint import Checkpoint, write_atomically
from simulator.divergence import Divergence
from simulator.environment import FILE_NAME as ENVIRONMENT
from simulator.loggers.base import Logger
from simulator.loggers.console import ConsoleLogger
from simulator.loggers.jsonl import FILE_NAME as METRICS
from simulator.loggers.jsonl import JsonlLogger, read_records
from simulator.simulation import Simulation
from simulator.summary import FILE_NAME as SUMMARY
from simulator.summary import build_summary, draw_figures, write_summary

log = logging.getLogger(__name__)


class Recorder:
    """Evaluates and saves on every process, and writes on rank 0; a context manager around the run.

    Args:
        simulation: the simulation whose results are recorded.
        folder: the run folder.
        resumed: the checkpoint that the run continues from; None for a new run.

    Attributes:
        is_first: whether this is rank 0.
    """

    def __init__(self, simulation: Simulation, folder: Path, resumed: Checkpoint | None) -> None:
        self.folder = folder
        self.is_first = simulation.network.placement.rank == 0
        self._simulation = simulation
        self._resumed = resumed
        self._clock = _Clock(resumed)
        self._last_finite_step = resumed.step if resumed else 0
        self._loggers: list[Logger] = []
        self._records: list[dict[str, Any]] = []
        self._divergence = Divergence(resumed.meta.get("divergence") if resumed else None)
        self._open = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._open.__exit__(kind, error, traceback)

    def open_loggers(self, environment: Mapping[str, Any], console: Logger | None) -> None:
        """Writes ``environment.json`` and starts the loggers, on rank 0 only."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_atomically(self.folder / ENVIRONMENT, json.dumps(environment, indent=1))
        resume_step = None
        if self._resumed is not None:
            # A checkpoint is written before the evaluation of its step, so that this evaluation is made (again) now.
            resume_step = self._resumed.step - 1
            earlier = self._resumed.run_folder / METRICS
            if earlier.is_file() and earlier.resolve() != (self.folder / METRICS).resolve():
                shutil.copyfile(earlier, self.folder / METRICS)
        (self.folder / SUMMARY).unlink(missing_ok=True)
        self._loggers = [console or ConsoleLogger(), JsonlLogger()]
        if self._simulation.components.logger is not None:
            self._loggers.append(self._simulation.components.logger)
        for logger in self._loggers:
            self._open.enter_context(logger)
            logger.start(self.folder, self._simulation.settings, environment, resume_step)
        if self._resumed is not None:
            self._records = read_records(self.folder / METRICS)
            log.info("resumed after step %d of %s", self._resumed.step, self._resumed.run_folder)

    def start_clock(self) -> None:
        """Starts the clock of the run's wall time."""
        self._clock.start()

    def progress(self, step: int) -> None:
        """Passes the number of completed steps to the loggers."""
        for logger in self._loggers:
            logger.progress(step, self._simulation.settings["num_steps"])

    def require_finite(self, state: State, step: int) -> None:
        """Checks the state after ``step`` completed steps.

        Raises:
            FloatingPointError: when it has diverged.
        """
        metrics.require_finite(state, step, self._last_finite_step, self._simulation.network.nodes)
        self._last_finite_step = step

    def save(self, state: State, step: int) -> None:
        """Writes a checkpoint; every process must call it."""
        self.require_finite(state, step)
        network = self._simulation.network
        meta = {
            "num_nodes": network.num_nodes,
            "wall_s": self._clock.wall_s(),
            "ledger": network.ledger.state_dict(),
            "clocks": None if network.clocks is None else network.clocks.state_dict(),
            "wire_totals": network.wire_totals(),
            "oracle_totals": network.totals(self._simulation.problem.calls.counts),
            "divergence": self._divergence.state_dict(),
            "compute": self._simulation.settings["compute"],
            "compute_choices": dict(self._simulation.choices),
        }
        checkpoint.save(self.folder, step, state, meta, network)

    def evaluate(self, state: State, step: int, *, is_last: bool = False) -> metrics.Evaluation:
        """Evaluates and logs the state after ``step`` completed steps; every process must call it."""
        self.require_finite(state, step)
        wall_s = self._clock.wall_s()
        evaluation = self._simulation.evaluate(state, step, is_last=is_last)
        evaluation.numbers["time/wall_s"] = wall_s
        steps_per_s = self._clock.steps_per_s(step, wall_s)
        if steps_per_s is not None:
            evaluation.numbers["throughput/node_steps_per_s"] = steps_per_s * self._simulation.network.num_nodes
        if self.is_first:
            self._records.append({"step": step, **evaluation.numbers})
            for logger in self._loggers:
                logger.log(evaluation.numbers, step)
            growth = self._divergence.look(evaluation)
            if growth is not None:
                log.warning("diverges: %s by step %d; a smaller learning rate or step size usually helps", growth, step)
        return evaluation

    def finish(self, state: State, step: int) -> None:
        """The end of the run: the last evaluation, the report, the summary and the figures."""
        simulation = self._simulation
        algorithm, problem, network = simulation.algorithm, simulation.problem, simulation.network
        state = algorithm.finish(state, step - 1, problem, network)
        with self._clock.reporting():
            report = algorithm.report(state, step - 1, problem, network)
        evaluation = self.evaluate(state, step, is_last=True)
        iterates = self._iterates(state) if problem.reports_iterates else {}
        if not self.is_first:
            return
        summary = build_summary(
            step=step,
            evaluation=evaluation,
            network=network,
            records=self._records,
            problem=problem,
            report=report,
            selection=algorithm.selection,
        )
        summary |= iterates
        if self._divergence.has_diverged:
            summary["diverged"] = True
        write_summary(self.folder, summary, report)
        figures = []
        if simulation.settings["figures"]:
            figures = draw_figures(
                self.folder, self._records, evaluation, algorithm, network, problem, report, simulation.settings
            )
        for logger in self._loggers:
            logger.finish(summary, figures)

    def _iterates(self, state: State) -> dict[str, Any]:
        """Evaluated hyperparameters ``x`` and parameters ``y`` of all nodes, as lists; every process must call it."""
        algorithm, problem, network = self._simulation.algorithm, self._simulation.problem, self._simulation.network
        with problem.uncounted():
            state = algorithm.prepare_evaluation(state, problem, network)
        x, y = algorithm.hparams(state, problem), algorithm.estimate(state)
        return {name: network.gather(rows.detach()).tolist() for name, rows in (("x", x), ("y", y))}


class _Clock:
    """The wall time of a run, including the time before it was resumed, and its speed since then."""

    def __init__(self, resumed: Checkpoint | None) -> None:
        self._first_step = resumed.step if resumed else 0
        self._before_s: float = resumed.meta["wall_s"] if resumed else 0.0
        self._report_s = 0.0
        self._started = time.perf_counter()

    def start(self) -> None:
        self._started = time.perf_counter()

    def wall_s(self) -> float:
        """Seconds that the run has taken."""
        return self._before_s + time.perf_counter() - self._started

    def steps_per_s(self, step: int, wall_s: float) -> float | None:
        """Steps a second until ``step`` was completed at ``wall_s``; None before the first."""
        if step <= self._first_step:
            return None
        return (step - self._first_step) / (wall_s - self._before_s - self._report_s)

    @contextmanager
    def reporting(self) -> Iterator[None]:
        """The report inside the block counts as wall time, and not as time for steps."""
        started = time.perf_counter()
        yield
        self._report_s = time.perf_counter() - started
