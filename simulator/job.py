"""One run: :func:`prepare` checks its configuration, :func:`run_job` runs it as one process."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf

from simulator import checkpoint, config
from simulator.algorithms.base import Algorithm, State
from simulator.checkpoint import Checkpoint, write_atomically
from simulator.devices import choose_compute
from simulator.environment import describe_environment
from simulator.loggers.base import Logger
from simulator.loop import Loop, StopRequest
from simulator.network.mailboxes import MAIL_PREFIX
from simulator.padding import copy_as
from simulator.process_group import process_group
from simulator.recorder import Recorder
from simulator.resume import continued_config
from simulator.simulation import Simulation
from simulator.world import World, set_threads

if TYPE_CHECKING:
    from torch._C._distributed_c10d import Store

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """The description of a run that rank 0 sends to all processes; all values can be written as JSON.

    Attributes:
        config: the resolved configuration.
        folder: the run folder, absolute.
        resume_from: run folder whose newest checkpoint the run continues from; empty for a new run.
        arguments: the command line.
    """

    config: dict[str, Any]
    folder: str
    resume_from: str = ""
    arguments: list[str] = field(default_factory=list)


def prepare(
    settings: dict[str, Any],
    overrides: Sequence[str],
    folder: Path,
    arguments: Sequence[str],
    *,
    world_size: int | None = None,
    restarted: bool = False,
) -> Job:
    """Checks a composed configuration and makes a job of it; writes ``config.yaml`` into the run folder.

    Args:
        settings: from :func:`simulator.config.compose`.
        overrides: the ``key=value`` overrides that ``settings`` was composed from.
        folder: the run folder, absolute; it exists.
        arguments: the command line, for ``environment.json``.
        world_size: the number of processes that torchrun or SLURM started; None when the run starts its own.
        restarted: whether ``folder`` may hold the checkpoint of an earlier attempt, from which the run then continues.

    Raises:
        ValueError: a user error, as one line.
    """
    resume_from = ""
    if settings["resume"]:
        resume_from = str(Path(settings["resume"]).expanduser().resolve())
        settings = continued_config(settings, Path(resume_from), overrides)
    if restarted and checkpoint.find(folder):
        resume_from = str(folder)
    num_processes = settings["launcher"]["num_processes"]
    if num_processes < 1:
        raise ValueError(f"launcher.num_processes={num_processes}: expected at least 1")
    if world_size is not None and num_processes > 1:
        raise ValueError(
            f"launcher.num_processes={num_processes}: {world_size} process(es) have been started from outside "
            "already; leave it out"
        )
    settings = with_fitting_defaults(settings, overrides, world_size or num_processes)
    components = config.build(settings)
    chosen = {override.split("=")[0].lstrip("+") for override in overrides}
    config.check_choices(settings["choices"], chosen, components)
    config.check(settings, components, world_size or num_processes)
    write_atomically(folder / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(settings)))
    return Job(settings, str(folder), resume_from, list(arguments))


def with_fitting_defaults(settings: dict[str, Any], overrides: Sequence[str], world_size: int) -> dict[str, Any]:
    """:func:`simulator.config.fit_defaults`, and one line about what it chose."""
    settings, fitted = config.fit_defaults(settings, overrides, world_size, config.compose)
    if fitted:
        choices = ", ".join(f"{group}={name}" for group, name in fitted.items())
        log.info("algorithm=%s: takes %s, because the defaults do not fit", settings["choices"]["algorithm"], choices)
    return settings


def has_config(folder: Path, settings: dict[str, Any]) -> bool:
    """Whether a run with these settings has begun in ``folder``."""
    path = folder / "config.yaml"
    return path.is_file() and bool(OmegaConf.to_container(OmegaConf.load(path)) == settings)


def run_job(job: Job, world: World, store: "Store | None", console: Logger | None = None) -> None:
    """Runs ``job`` as one process of ``world``.

    Args:
        console: shows the progress of the run on rank 0; a progress bar and log lines unless given.

    Raises:
        ValueError: a user error, before the first step.
        RuntimeError, FloatingPointError: a run that failed.
        SystemExit: after SIGTERM or SIGINT, when the checkpoint is written.
    """
    settings = job.config
    compute = choose_compute(settings["device"], world, store, settings["timeout_s"])
    threads = set_threads(settings["num_threads"])
    stop = StopRequest()
    with process_group(world, store, compute, settings["timeout_s"]) as watchdog, stop.listening():
        if world.rank == 0:
            counts = f"{settings['num_nodes']} nodes on {world.world_size} process(es), {threads} thread(s) each"
            log.info("%s: %s", counts, compute.note)
        resumed = _find_checkpoint(job)
        choices = resumed.compute_choices(settings["compute"]) if resumed else None
        simulation = Simulation.build(settings, world, device=compute.device, choices=choices, watchdog=watchdog)
        if world.rank == 0:
            _warn(settings, simulation.algorithm)
        with Recorder(simulation, Path(job.folder), resumed) as recorder:
            if world.rank == 0:
                environment = describe_environment(settings) | {
                    "arguments": job.arguments,
                    "world_size": world.world_size,
                    "threads_per_process": threads,
                    "communication": compute.note,
                    "compute_choices": simulation.choices,
                    "num_params": simulation.problem.num_params,
                    "num_hparams": simulation.problem.num_hparams,
                }
                recorder.open_loggers(environment, console)
            state = _initial_state(simulation, resumed)
            Loop(simulation, recorder, stop).run(state, resumed.step if resumed else 0)


def _warn(settings: dict[str, Any], algorithm: Algorithm) -> None:
    """Says what is allowed and seldom meant."""
    if settings["compressor"] and not algorithm.uses_compressor:
        log.warning(
            "compressor: algorithm=%s sends its messages as they are, the compressor is not used", algorithm.name
        )
    if remark := algorithm.remark(settings["num_steps"]):
        log.warning("algorithm=%s: %s", algorithm.name, remark)


def _find_checkpoint(job: Job) -> Checkpoint | None:
    if not job.resume_from:
        return None
    resumed = checkpoint.find(Path(job.resume_from))
    if resumed is None:
        raise ValueError(f"resume={job.resume_from}: there is no complete checkpoint in that run folder")
    if resumed.meta["num_nodes"] != job.config["num_nodes"]:
        raise ValueError(f"resume={job.resume_from}: it has num_nodes={resumed.meta['num_nodes']}, which cannot change")
    if resumed.step > job.config["num_steps"]:
        raise ValueError(f"resume={job.resume_from}: it is past num_steps={job.config['num_steps']} already")
    return resumed


def _initial_state(simulation: Simulation, resumed: Checkpoint | None) -> State:
    """The state before the first step, or that of the checkpoint; ledger, clocks and counts then continue."""
    state = simulation.init()
    if resumed is None:
        return state
    network = simulation.network
    loaded = resumed.load_rows(network.nodes)
    fits = all(
        loaded[name].shape == rows.shape for name, rows in state.items() if name in loaded and not _is_mail(name)
    )
    if set(loaded) != set(state) or not fits:
        raise ValueError(f"resume={resumed.run_folder}: its checkpoint does not fit this algorithm and problem")
    network.ledger.load_state_dict(resumed.meta["ledger"])
    if network.clocks is not None:
        network.clocks.load_state_dict(resumed.meta["clocks"])
    if network.placement.rank == 0:
        network.ledger.wire_bytes, network.ledger.evaluation_bytes = resumed.meta["wire_totals"]
    state = {
        name: rows.to(state[name]) if _is_mail(name) else copy_as(state[name], rows) for name, rows in loaded.items()
    }
    simulation.algorithm.resume(state, resumed.step, simulation.problem, network)
    # What the start of this attempt has asked is part of what the checkpoint has counted.
    totals = resumed.meta.get("oracle_totals", [0, 0, 0]) if network.placement.rank == 0 else [0, 0, 0]
    simulation.problem.calls.continue_from(totals)
    return state


def _is_mail(name: str) -> bool:
    return name.startswith(MAIL_PREFIX)
