"""The only entry point: ``python launch.py ...``, ``torchrun ... launch.py ...`` or ``srun python launch.py ...``.

One process composes and checks the configuration with Hydra; all others receive it and follow.
"""

import time

STARTED_AT = time.time()

import json  # noqa: E402
import logging  # noqa: E402
import os  # noqa: E402
import sys  # noqa: E402
import tempfile  # noqa: E402
from dataclasses import asdict  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

from simulator import processes  # noqa: E402

log = logging.getLogger("launch")

STOP = "stop"


def main() -> int:
    """Leads or follows; returns the exit status."""
    try:
        world = processes.detect_world()
    except ValueError as error:
        return fail(error)
    if world is not None and world.rank > 0:
        return follow(world)
    return lead(world)


def fail(error: BaseException) -> int:
    """Prints the one line with which a launch ends that failed; HYDRA_FULL_ERROR=1 adds the traceback."""
    if os.environ.get("HYDRA_FULL_ERROR") == "1":
        import traceback

        traceback.print_exception(error)
    print(f"hypergossip: {processes.describe_error(error)}", file=sys.stderr, flush=True)
    return 1


def follow(world: processes.World) -> int:
    """Runs whatever rank 0 announces until there is nothing any more."""
    import simulator.run  # while rank 0 composes

    launch = processes.Launch.join(world)
    while True:
        message = launch.next_message()
        if message is None:
            return 1
        order = json.loads(message)
        if order["kind"] == STOP:
            return int(order["status"])
        job = simulator.run.Job(**order["job"])
        try:
            launch.run(lambda store, job=job: simulator.run.run(job, world, store))
        except Exception as error:
            # Rank 0 reports the cause; the next job may be fine.
            log.debug("rank %d: %s", world.rank, error)


def lead(world: processes.World | None) -> int:
    """Composes with Hydra and runs every job."""
    import hydra
    from omegaconf import DictConfig

    from simulator.config import register_schema

    register_schema()
    launch: processes.Launch | None = None
    previous = previous_attempt() if world is not None else None
    if previous is not None:
        sys.argv += [f"hydra.run.dir={previous}", f"hydra.sweep.dir={previous}"]

    @hydra.main(version_base="1.3", config_path="conf", config_name="config")
    def run_job(composed: DictConfig) -> None:
        nonlocal launch
        if world is not None:
            remember_attempt(world)
        try:
            job = prepare(composed, world, restarted=previous is not None)
            if job is None:
                return
            if world is not None and launch is None:
                launch = processes.Launch.join(world, composed.timeout_s)
            execute(job, world, launch)
        except Exception as error:
            log.error("%s", processes.describe_error(error))
            error.already_logged = True  # type: ignore[attr-defined]
            raise

    asked_for_traceback = os.environ.get("HYDRA_FULL_ERROR") == "1"
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors come to us instead of Hydra's own report
    status = 0
    try:
        run_job()
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except KeyboardInterrupt:
        status = processes.STOPPED_EXIT_CODE
    except Exception as error:
        os.environ["HYDRA_FULL_ERROR"] = "1" if asked_for_traceback else "0"
        status = 1 if getattr(error, "already_logged", False) and not asked_for_traceback else fail(error)
    if world is not None and world.world_size > 1:
        if launch is None:
            launch = processes.Launch.join(world)
        launch.announce(json.dumps({"kind": STOP, "status": status}))
        launch.leave()
    return status


def prepare(composed: Any, world: processes.World | None, restarted: bool) -> Any:
    """Resolves and checks the configuration; None for a job that an earlier attempt has finished."""
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf

    from simulator import config
    from simulator.checkpoint import find, write_atomically
    from simulator.resume import continued_config
    from simulator.run import Job

    hydra_config = HydraConfig.get()
    folder = Path(hydra_config.runtime.output_dir).resolve()
    overrides = list(hydra_config.overrides.task)
    resume_from = ""
    if restarted:
        if (folder / "summary.json").is_file():
            log.info("%s is finished already", folder)
            return None
        resume_from = str(folder) if find(folder) else ""
    settings = OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
    assert isinstance(settings, dict)
    if settings["resume"] and not resume_from:
        resume_from = str(Path(settings["resume"]).resolve())
        settings = continued_config(settings, Path(resume_from), overrides)
    num_processes = settings["launcher"]["num_processes"]
    if num_processes < 1:
        raise ValueError(f"launcher.num_processes={num_processes}: expected at least 1")
    if world is not None and num_processes > 1:
        raise ValueError(
            f"launcher.num_processes={num_processes}: {world.world_size} process(es) have been started from outside "
            "already; leave it out"
        )
    components = config.build(settings)
    chosen = {override.split("=")[0].lstrip("+") for override in overrides}
    config.check_choices(hydra_config.runtime.choices, chosen, components)
    config.check(settings, components, world.world_size if world else num_processes)
    write_atomically(folder / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(settings)))
    return Job(settings, str(folder), resume_from, sys.argv, STARTED_AT)


def execute(job: Any, world: processes.World | None, launch: processes.Launch | None) -> None:
    """Runs one job on the processes that there are, or on local ones that it starts."""
    from simulator.run import run

    if launch is not None and world is not None:
        launch.announce(json.dumps({"kind": "job", "job": asdict(job)}))
        launch.run(lambda store: run(job, world, store))
    elif job.config["launcher"]["num_processes"] > 1:
        processes.run_local(job.config["launcher"]["num_processes"], lambda rank, store: run(job, rank, store))
    else:
        run(job, processes.World(), None)


def attempts_file() -> Path:
    """Where a restarted launch finds what the attempt before it was writing; one per torchrun."""
    name = f"hypergossip-{os.environ.get('TORCHELASTIC_RUN_ID', 'none')}-{os.getppid()}"
    return Path(tempfile.gettempdir()) / name


def previous_attempt() -> str | None:
    """The folder of the attempt before this one, when torchrun (``--max-restarts``) has restarted us."""
    if int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) == 0 or not attempts_file().is_file():
        return None
    return attempts_file().read_text().strip() or None


def remember_attempt(world: processes.World) -> None:
    """Notes the folder for the next attempt."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return
    hydra_config = HydraConfig.get()
    is_sweep = hydra_config.mode == RunMode.MULTIRUN
    folder = hydra_config.sweep.dir if is_sweep else hydra_config.runtime.output_dir
    attempts_file().write_text(str(Path(folder).resolve()))


if __name__ == "__main__":
    sys.exit(main())
