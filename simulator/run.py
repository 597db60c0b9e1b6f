"""One process of one run: build, loop, report."""

import json
import logging
import platform
import shutil
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from simulator import checkpoint, config, metrics
from simulator.algorithms.base import State
from simulator.checkpoint import Checkpoint, write_atomically
from simulator.loggers.base import Logger
from simulator.network.ledger import LinkModel
from simulator.network.network import Network
from simulator.placement import Placement
from simulator.problems.base import Setting
from simulator.processes import STOPPED_EXIT_CODE, process_group
from simulator.summary import build_summary, draw_figures, write_summary
from simulator.world import World, choose_compute, git_commit, set_threads

if TYPE_CHECKING:
    from torch._C._distributed_c10d import Store

log = logging.getLogger(__name__)

_CONTROL_INTERVAL_S = 0.5


@dataclass(frozen=True)
class Job:
    """One run, as rank 0 tells it to all processes.

    Attributes:
        config: the resolved configuration.
        folder: the run folder, absolute.
        resume_from: run folder whose newest checkpoint the run continues from; empty for a new run.
        arguments: the command line.
        started_at: seconds since the epoch at which the command started.
    """

    config: dict[str, Any]
    folder: str
    resume_from: str = ""
    arguments: list[str] = field(default_factory=list)
    started_at: float = 0.0


class StopRequest:
    """Whether SIGTERM or SIGINT has asked this process to stop at the next step that all agree on."""

    def __init__(self) -> None:
        self.received = 0

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Replaces the handlers inside the block; a second SIGINT ends the process at once."""
        previous = {number: signal.signal(number, self._receive) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _receive(self, number: int, _: object) -> None:
        if self.received == signal.SIGINT and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = number


def run(job: Job, world: World, store: "Store | None") -> None:
    """Runs ``job`` as one process of ``world``.

    Raises:
        ValueError: what the user can mend, before the first step.
        RuntimeError, FloatingPointError: a run that failed.
        SystemExit: after SIGTERM or SIGINT, when the checkpoint is written.
    """
    settings = job.config
    compute = choose_compute(settings["device"], world)
    threads = set_threads(settings["num_threads"])
    components = config.build(settings)
    config.check(settings, components, world.world_size)
    stop = StopRequest()
    with process_group(world, store, compute, settings["timeout_s"]), stop.listening():
        placement = Placement(settings["num_nodes"], world.world_size, world.rank)
        network = Network(
            components.graph,
            placement,
            compute.device,
            timeout_s=settings["timeout_s"],
            link_model=LinkModel(**settings["link"]),
        )
        if world.rank == 0:
            counts = f"{placement.num_nodes} nodes on {world.world_size} process(es), {threads} thread(s) each"
            log.info("%s: %s", counts, compute.note)
            if settings["compressor"] and not components.algorithm.uses_compressor:
                name = type(components.algorithm).__name__
                log.warning("compressor: algorithm %s sends its messages as they are, the compressor is not used", name)
        resumed = _find_checkpoint(job)
        choices = _set_up(settings, components, network, compute.device, resumed)
        environment = _environment(job, world, compute.note, threads, choices)
        _Run(job, settings, components, network, stop, environment, resumed, choices).execute()


def _find_checkpoint(job: Job) -> Checkpoint | None:
    if not job.resume_from:
        return None
    found = checkpoint.find(Path(job.resume_from))
    if found is None:
        raise ValueError(f"resume={job.resume_from}: there is no complete checkpoint in that run folder")
    if found.meta["num_nodes"] != job.config["num_nodes"]:
        raise ValueError(f"resume={job.resume_from}: it has num_nodes={found.meta['num_nodes']}, which cannot change")
    if found.step > job.config["num_steps"]:
        raise ValueError(f"resume={job.resume_from}: it is past num_steps={job.config['num_steps']} already")
    return found


def _set_up(
    settings: Mapping[str, Any],
    components: config.Components,
    network: Network,
    device: torch.device,
    resumed: Checkpoint | None,
) -> dict[str, str]:
    """Rank 0 downloads, all read; rank 0 chooses how to compute, all follow. Returns these choices."""
    if components.dataset is not None and network.placement.rank == 0:
        components.dataset.prepare()
    network.barrier()
    components.problem.setup(
        Setting(
            nodes=network.nodes,
            num_nodes=network.num_nodes,
            seed=settings["seed"],
            dtype=getattr(torch, settings["dtype"]),
            device=device,
            dataset=components.dataset,
            partition=components.partition,
            build_model=components.build_model,
            compute=settings["compute"],
        )
    )
    config.check_hyperparameters(components)
    config.finish_graph(components)
    operations = ["first_order"] + ["second_order"] * components.algorithm.needs_bilevel
    choices: object = None
    if resumed is not None and resumed.meta["compute"] == settings["compute"]:
        choices = resumed.meta["compute_choices"]
    if choices is None and network.placement.rank == 0:
        choices = components.problem.choose_compute(operations)
    choices = network.share(choices)
    assert isinstance(choices, dict)
    components.problem.adopt_compute(choices)
    return choices


def _environment(job: Job, world: World, note: str, threads: int, choices: dict[str, str]) -> dict[str, Any]:
    return {
        "git_commit": git_commit(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "platform": platform.platform(),
        "host": platform.node(),
        "arguments": job.arguments,
        "world_size": world.world_size,
        "threads_per_process": threads,
        "communication": note,
        "compute_choices": choices,
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_initialized() else None,
    }


class _Run:
    """The loop of one run on one process."""

    def __init__(
        self,
        job: Job,
        settings: dict[str, Any],
        components: config.Components,
        network: Network,
        stop: StopRequest,
        environment: dict[str, Any],
        resumed: Checkpoint | None,
        choices: dict[str, str],
    ) -> None:
        self.job = job
        self.settings = settings
        self.components = components
        self.network = network
        self.stop = stop
        self.environment = environment
        self.resumed = resumed
        self.choices = choices
        self.folder = Path(job.folder)
        self.is_first = network.placement.rank == 0
        self.loggers: list[Logger] = []
        self.last_finite_step = 0
        self.wall_before_s = 0.0
        self.report_s = 0.0
        self.first_step = 0
        self.records: list[dict[str, float]] = []

    def execute(self) -> None:
        """Runs to the end, or to the step at which everybody agrees to stop."""
        with ExitStack() as stack:
            if self.is_first:
                self.loggers = self._open_loggers(stack)
            state = self._initial_state()
            self.started = time.perf_counter()
            if self.first_step < self.settings["num_steps"] and self._is_evaluated(self.first_step):
                self._evaluate(state, self.first_step)
            state, step = self._loop(state)
            if step < self.settings["num_steps"]:
                if self.is_first:
                    name = signal.Signals(self.stop.received).name
                    log.warning("stopped by %s after step %d; continue with resume=%s", name, step, self.folder)
                raise SystemExit(STOPPED_EXIT_CODE)
            self._finish(state, step)

    def _open_loggers(self, stack: ExitStack) -> list[Logger]:
        from simulator.loggers.console import ConsoleLogger
        from simulator.loggers.jsonl import FILE_NAME, JsonlLogger

        self.folder.mkdir(parents=True, exist_ok=True)
        write_atomically(self.folder / "environment.json", json.dumps(self.environment, indent=1))
        resume_step = None
        if self.resumed is not None:
            # A checkpoint is written before the evaluation of its step, which therefore comes (again) now.
            resume_step = self.resumed.step - 1
            earlier = Path(self.job.resume_from) / FILE_NAME
            if earlier.is_file() and earlier.resolve() != (self.folder / FILE_NAME).resolve():
                shutil.copyfile(earlier, self.folder / FILE_NAME)
        (self.folder / "summary.json").unlink(missing_ok=True)
        loggers: list[Logger] = [ConsoleLogger(), JsonlLogger()]
        if self.components.logger is not None:
            loggers.append(self.components.logger)
        for logger in loggers:
            stack.enter_context(logger)
            logger.start(self.folder, self.settings, self.environment, resume_step)
        if resume_step is not None:
            from simulator.figures import read_records

            self.records = read_records(self.folder / FILE_NAME)
            log.info("resumed after step %d of %s", resume_step + 1, self.job.resume_from)
        return loggers

    def _initial_state(self) -> State:
        state = self.components.algorithm.init(self.components.problem, self.network)
        if self.resumed is None:
            return state
        loaded = self.resumed.load_rows(self.network.nodes)
        if set(loaded) != set(state) or any(loaded[name].shape != rows.shape for name, rows in state.items()):
            raise ValueError(f"resume={self.job.resume_from}: its checkpoint does not fit this algorithm and problem")
        self.first_step = self.last_finite_step = self.resumed.step
        meta = self.resumed.meta
        self.wall_before_s = meta["wall_s"]
        self.network.ledger.load_state_dict(meta["ledger"])
        if self.is_first:
            self.network.ledger.wire_bytes, self.network.ledger.evaluation_bytes = meta["wire_totals"]
        return {name: rows.to(state[name]) for name, rows in loaded.items()}

    def _loop(self, state: State) -> tuple[State, int]:
        algorithm, problem, network = self.components.algorithm, self.components.problem, self.network
        num_steps = self.settings["num_steps"]
        checkpoint_every = self.settings["checkpoint"]["every"]
        control_step, control_time = self.first_step + 1, time.perf_counter()
        since_control = self.first_step
        for step in range(self.first_step, num_steps):
            state = algorithm.step(state, step, problem, network)
            done = step + 1
            if self.is_first:
                for logger in self.loggers:
                    logger.progress(done, num_steps)
            saved = checkpoint_every > 0 and (done % checkpoint_every == 0 or done == num_steps)
            if saved:
                self._save(state, done)
            if done == num_steps:
                break
            if done == control_step:
                # All processes meet here about twice a second; the next meeting is where the fastest expects it.
                elapsed = max(time.perf_counter() - control_time, 1e-6)
                ahead = max(1, int((done - since_control) * _CONTROL_INTERVAL_S / elapsed))
                self._require_finite(state, done)
                stop, minus_ahead = network.agree([self.stop.received, -ahead])
                if stop:
                    self.stop.received = stop
                    if not saved:
                        self._save(state, done)
                    return state, done
                since_control, control_time = done, time.perf_counter()
                control_step = done - minus_ahead
            if self._is_evaluated(done):
                self._evaluate(state, done)
        return state, num_steps

    def _is_evaluated(self, step: int) -> bool:
        """Whether ``step`` completed steps are a time to evaluate; the end of the run always is."""
        if step == 0 or step % self.settings["eval_every"] == 0:
            return True
        return self.components.algorithm.evaluates_after(step - 1)

    def _require_finite(self, state: State, step: int) -> None:
        metrics.require_finite(state, step, self.last_finite_step, self.network.nodes)
        self.last_finite_step = step

    def _wall_s(self) -> float:
        return self.wall_before_s + time.perf_counter() - self.started

    def _save(self, state: State, step: int) -> None:
        self._require_finite(state, step)
        meta = {
            "num_nodes": self.network.num_nodes,
            "wall_s": self._wall_s(),
            "ledger": self.network.ledger.state_dict(),
            "wire_totals": self.network.wire_totals(),
            "compute": self.settings["compute"],
            "compute_choices": self.choices,
        }
        checkpoint.save(self.folder, step, state, meta, self.network)

    def _evaluate(self, state: State, step: int, is_last: bool = False) -> metrics.Evaluation:
        self._require_finite(state, step)
        wall_s = self._wall_s()
        evaluation = metrics.evaluate(
            self.components.algorithm, state, step, self.components.problem, self.network, is_last=is_last
        )
        evaluation.numbers["time/wall_s"] = wall_s
        if step > self.first_step:
            steps_per_s = (step - self.first_step) / (wall_s - self.wall_before_s - self.report_s)
            evaluation.numbers["throughput/node_steps_per_s"] = steps_per_s * self.network.num_nodes
        if self.is_first:
            self.records.append({"step": step, **evaluation.numbers})
            for logger in self.loggers:
                logger.log(evaluation.numbers, step)
        return evaluation

    def _iterates(self, state: State) -> dict[str, Any]:
        """The hyperparameters ``x`` and parameters ``y`` of all nodes, as lists; every process must call it."""
        algorithm, network = self.components.algorithm, self.network
        x, y = algorithm.hparams(state, self.components.problem), algorithm.estimate(state)
        return {name: network.gather(rows.detach()).tolist() for name, rows in (("x", x), ("y", y))}

    def _finish(self, state: State, step: int) -> None:
        if step > self.first_step or self.resumed is not None:
            state = self.components.algorithm.finish(state, step - 1, self.components.problem, self.network)
        started = time.perf_counter()
        report = self.components.algorithm.report(state, step - 1, self.components.problem, self.network)
        self.report_s = time.perf_counter() - started
        evaluation = self._evaluate(state, step, is_last=True)
        iterates = self._iterates(state) if self.components.problem.reports_iterates else {}
        if not self.is_first:
            return
        algorithm, problem = self.components.algorithm, self.components.problem
        ledger, records = self.network.ledger, self.records
        summary = build_summary(step, evaluation, ledger, records, problem, report, algorithm.selection)
        summary |= iterates
        write_summary(self.folder, summary, report)
        figures = []
        if self.settings["figures"]:
            figures = draw_figures(
                self.folder, self.records, evaluation, self.components.graph, self.components.problem, report
            )
        for logger in self.loggers:
            logger.finish(summary, figures)
