"""The command line: ``python launch.py ...``, ``torchrun ... launch.py ...`` or ``srun python launch.py ...``.

One process composes and checks the configuration with Hydra; all others receive it and follow.
"""

import contextlib
import json
import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, cast

from simulator import attempts, processes
from simulator.errors import SHOWS_TRACEBACKS, RunError, describe_error
from simulator.launchers import detect_world, is_submitted, timeout_of
from simulator.memory import keep_memory
from simulator.world import World

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from simulator.job import Job

keep_memory()

log = logging.getLogger("launch")

STOP = "stop"


def main() -> int:
    """Runs rank 0 or another rank; returns the exit status."""
    try:
        world = detect_world()
        if {"--help", "-h"} & set(sys.argv[1:]):
            return show_help() if world is None or world.rank == 0 else 0
        if world is not None and world.rank > 0:
            return follow(world)
        return lead(world)
    except (ValueError, RunError) as error:
        return fail(error)


def show_help() -> int:
    """Prints what ``--help`` asks for; returns the exit status."""
    from simulator.config.help import help_text
    from simulator.config.mistakes import overrides_among

    print(help_text(overrides_among(sys.argv[1:])))
    return 0


def lead(world: World | None) -> int:
    """Composes with Hydra and runs every job; returns the exit status."""
    import hydra
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    from simulator.config import compose, register_schema
    from simulator.config.hydra_versions import trust_callbacks, version_base
    from simulator.config.mistakes import check_words, overrides_among, with_similar_keys
    from simulator.config.swept_groups import settings_as_choices
    from simulator.resume import implied_overrides
    from simulator.run_folders import CommandFolders, removed_if_rejected

    register_schema()
    trust_callbacks()
    launch: processes.Launch | None = None
    status, has_met = 0, True
    objectives: list[str] = []
    previous = attempts.previous()
    if previous is not None:
        sys.argv += [f"hydra.run.dir={previous}", f"hydra.sweep.dir={previous}"]
    check_words(overrides_among(sys.argv[1:]))
    sys.argv[1:] = settings_as_choices([*sys.argv[1:], *implied_overrides(sys.argv[1:])])

    @hydra.main(**version_base(), config_path=str(Path(__file__).resolve().parent / "conf"), config_name="config")
    def run_job(composed: "DictConfig") -> Any:
        """Runs one job: the only one of the launch, or one of a multirun; returns its objective to the sweeper."""
        nonlocal launch, status, has_met, objectives
        if world is None and is_submitted():
            return run_submitted(composed)
        hydra_config = HydraConfig.get()
        objectives = names_of(composed.objective)
        is_sweep = hydra_config.mode == RunMode.MULTIRUN
        folder = Path(hydra_config.runtime.output_dir)
        attempts.remember(hydra_config.sweep.dir if is_sweep else str(folder))
        try:
            with removed_if_rejected(folder, [folder] if is_sweep else CommandFolders.made):
                job = prepare(composed, world, restarted=previous is not None)
                if job is not None:
                    if world is not None and launch is None:
                        has_met = False
                        launch = processes.Launch.join(world, composed.timeout_s)
                        has_met = True
                    execute(job, world, launch, is_sweep=is_sweep)
            return objective(composed, folder)
        except Exception as error:
            where = f"job {hydra_config.job.num} ({swept(hydra_config.overrides.task)}): " if is_sweep else ""
            status = fail(error, where, prints=launch is None or launch.speaks)
            if not has_met or (launch is not None and (launch.lost or launch.signals)):
                raise SystemExit(status) from error  # a rank is missing, has died or hangs: no further job can run
            raise ToldError(str(error)) from error  # Hydra, its callbacks and launchers see that the job has failed

    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises errors instead of printing its own report
    try:
        with contextlib.redirect_stderr(cast(TextIO, WithoutHydraReport(sys.stderr))):
            run_job()
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except KeyboardInterrupt:
        print("hypergossip: interrupted", file=sys.stderr)
        status = processes.STOPPED_EXIT_CODE
    except ToldError:
        status = 1
    except Exception as error:
        line = describe_error(error)
        told = with_similar_keys(line, overrides_among(sys.argv[1:]), compose)
        status = fail(error if told == line else ValueError(told))
    if status == 0:
        attempts.forget()
    if world is not None and world.world_size > 1 and has_met:
        dismiss(launch or processes.Launch.join(world, timeout_of(sys.argv)), status)
    if status in (0, 1):
        end_sweep(objectives)
    return status


def end_sweep(objectives: Sequence[str]) -> None:
    """Writes the table and the picture of a sweep, if this was one. What fails here is told, and fails nothing."""
    from simulator.run_folders import remove_empty_sweep
    from simulator.sweeps import SweepFolder, summarize_sweep

    if SweepFolder.folder is None:
        return
    remove_empty_sweep(SweepFolder.folder)
    try:
        text = summarize_sweep(SweepFolder.folder, objectives, with_report=SweepFolder.with_report)
    except Exception as error:
        print(f"hypergossip: warning: no table of the sweep: {describe_error(error)}", file=sys.stderr, flush=True)
    else:
        print(text, end="\n" if text else "", flush=True)


def dismiss(launch: processes.Launch, status: int) -> None:
    """Tells the other ranks that there are no more jobs."""
    launch.announce(json.dumps({"kind": STOP, "status": status}))
    launch.leave()


def run_submitted(composed: "DictConfig") -> Any:
    """Runs a job that submitit runs; its tasks are the processes of the run. Rank 0 returns the objective."""
    from hydra.core.hydra_config import HydraConfig

    from simulator.run_folders import removed_if_rejected

    world = detect_world()
    if world is not None and world.rank > 0:
        if follow(world):
            raise ToldError("rank 0 says why")
        return None
    launch: processes.Launch | None = None
    status = 0
    folder = Path(HydraConfig.get().runtime.output_dir)
    try:
        with removed_if_rejected(folder, [folder]):
            job = prepare(composed, world, restarted=False)
            if world is not None:
                launch = processes.Launch.join(world, composed.timeout_s)
            if job is not None:
                execute(job, world, launch, is_sweep=False)
        return objective(composed, folder)
    except Exception as error:
        status = fail(error)
        raise ToldError(str(error)) from error
    finally:
        if world is not None:
            dismiss(launch or processes.Launch.join(world, composed.timeout_s), status)


class ToldError(Exception):
    """A job has failed, and why has been printed."""


class WithoutHydraReport:
    """A stream without the line that Hydra writes about a failed job, which has been told in one line already."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Passes everything else on."""
        return len(text) if text.startswith("Error executing job with overrides: ") else self._stream.write(text)


def objective(composed: "DictConfig", folder: Path) -> Any:
    """What a finished run returns to a sweeper, see :mod:`simulator.objective`."""
    from omegaconf import OmegaConf

    from simulator import config
    from simulator.objective import objective_of

    settings = OmegaConf.to_container(OmegaConf.load(folder / "config.yaml"))
    assert isinstance(settings, dict)
    algorithm = config.build({str(key): value for key, value in settings.items()}).algorithm
    chosen = composed.objective
    names = chosen if isinstance(chosen, str | None) else names_of(chosen)
    return objective_of(json.loads((folder / "summary.json").read_text()), names, algorithm.selection)


def names_of(chosen: Any) -> list[str]:
    """The setting ``objective`` as a list."""
    return [] if chosen is None else [chosen] if isinstance(chosen, str) else [str(name) for name in chosen]


def prepare(composed: "DictConfig", world: World | None, restarted: bool) -> "Job | None":
    """Prepares a job from the composed configuration; None when an earlier attempt has finished it."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    from simulator import config, job

    hydra_config = HydraConfig.get()
    folder = Path(hydra_config.runtime.output_dir).resolve()
    overrides = list(hydra_config.overrides.task)
    settings = config.resolve(composed, hydra_config.runtime.choices)
    is_sweep = hydra_config.mode == RunMode.MULTIRUN
    if settings["figures"] == "auto":
        settings["figures"] = not is_sweep  # they would take longer than many a job of a sweep
    settings = job.with_fitting_defaults(settings, overrides, 1 if world is None else world.world_size)
    # A sweep that is repeated in its folder goes on: what is finished is not run again.
    goes_on = restarted or (is_sweep and job.has_config(folder, settings))
    if goes_on and (folder / "summary.json").is_file():
        log.info("%s is finished already", folder)
        return None
    return job.prepare(
        settings,
        overrides,
        folder,
        sys.argv,
        world_size=None if world is None else world.world_size,
        restarted=goes_on,
    )


def execute(job: "Job", world: World | None, launch: processes.Launch | None, *, is_sweep: bool) -> None:
    """Runs one job on the processes of the launch, or on local processes that it starts.

    A process that has computed gradients or used a GPU cannot be forked any more. A later job of a sweep may need
    several processes, so all its jobs run in forked ones.
    """
    from simulator.job import run_job

    num_processes = job.config["launcher"]["num_processes"]
    if launch is not None and world is not None:
        launch.announce(json.dumps({"kind": "job", "job": asdict(job), "attempt": attempts.previous()}))
        launch.run(lambda store: run_job(job, world, store))
    elif num_processes > 1 or is_sweep:
        from simulator.local_processes import run_local

        run_local(num_processes, lambda rank, store: run_job(job, rank, store))
    else:
        run_job(job, World(), None)


def follow(world: World) -> int:
    """Runs the jobs that rank 0 announces until there are no more; returns the exit status."""
    from simulator.job import Job, run_job  # while rank 0 composes

    launch = processes.Launch.join(world, timeout_of(sys.argv))
    while True:
        message = launch.next_message()
        if message is None:
            return 1
        order = json.loads(message)
        if order["kind"] == STOP:
            if order["status"] == 0:
                attempts.forget()
            launch.leave()
            return int(order["status"])
        if order["attempt"]:
            attempts.remember(order["attempt"])  # the next rank 0 may be on this machine
        job = Job(**order["job"])
        try:
            launch.run(partial(run_job, job, world))
        except SystemExit:
            continue  # stopped by a signal; rank 0 knows as well and says so
        except (ValueError, RunError) as error:
            # Rank 0 reports the cause, and the next job may be fine; unless there is no rank 0 any more.
            if launch.speaks:
                fail(error)
            if 0 in launch.lost:
                return 1


def fail(error: BaseException, where: str = "", *, prints: bool = True) -> int:
    """Writes the error as one line to standard error and to the log of the run; returns the exit status.

    HYDRA_FULL_ERROR=1 adds the traceback.

    Args:
        prints: whether the line goes to standard error; not when another rank has printed it.
    """
    line = f"{where}{describe_error(error)}"
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.FileHandler):
            handler.handle(log.makeRecord(log.name, logging.ERROR, __file__, 0, line, (), None))
    if SHOWS_TRACEBACKS:
        import traceback

        traceback.print_exception(error)
    if prints:
        print(f"hypergossip: {line}", file=sys.stderr, flush=True)
        attempts.tell_torchrun(line)
    return 1


def swept(overrides: Sequence[str]) -> str:
    """The overrides that make a job of a multirun differ from the others: those not typed in this form."""
    typed = {argument.lower() for argument in sys.argv}
    return ", ".join(override for override in overrides if override.lower() not in typed)


if __name__ == "__main__":
    sys.exit(main())
