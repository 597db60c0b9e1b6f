"""Which launcher started this process: torchrun, SLURM, MPI, submitit, or none.

What a launcher says in environment variables is translated to those that torch.distributed reads: RANK, WORLD_SIZE,
LOCAL_RANK, MASTER_ADDR and MASTER_PORT.
"""

import os
import re
import zlib
from collections.abc import Mapping, MutableMapping, Sequence

from simulator.world import World

_FIRST_PORT = 29400
_LOCALHOST = "127.0.0.1"
DEFAULT_TIMEOUT_S = 300.0


def detect_world(environ: MutableMapping[str, str] | None = None) -> World | None:
    """Reads the variables of a launcher; None when this process is not one of several that a launcher started.

    Raises:
        ValueError: when the variables contradict each other or do not say where the ranks meet.
    """
    env = os.environ if environ is None else environ
    if "RANK" in env and "WORLD_SIZE" in env:
        return _checked(
            World(
                int(env["RANK"]),
                int(env["WORLD_SIZE"]),
                int(env.get("LOCAL_RANK", 0)),
                int(env.get("LOCAL_WORLD_SIZE", 1)),
            )
        )
    for detect in (_submitit, _slurm, _mpi):
        found = detect(env)
        if found is not None:
            world, host, key = found
            _checked(world)
            env.setdefault("MASTER_ADDR", host)
            env.setdefault("MASTER_PORT", str(_FIRST_PORT + key % 10000))
            env.update(RANK=str(world.rank), WORLD_SIZE=str(world.world_size), LOCAL_RANK=str(world.local_rank))
            env["LOCAL_WORLD_SIZE"] = str(world.local_world_size)
            return world
    return None


def is_submitted(environ: Mapping[str, str] | None = None) -> bool:
    """Whether submitit runs this process, which then learns only inside the job that it is one of several."""
    return "SUBMITIT_EXECUTOR" in (os.environ if environ is None else environ)


def timeout_of(arguments: Sequence[str]) -> float:
    """``timeout_s`` of a command line that has not been composed yet, in seconds."""
    found = [match[1] for word in arguments if (match := re.fullmatch(r"timeout_s=([\d.]+(?:e\d+)?)", word))]
    return float(found[-1]) if found else DEFAULT_TIMEOUT_S


def _submitit(env: Mapping[str, str]) -> tuple[World, str, int] | None:
    """Tasks of submitit's local executor; those of its SLURM executor are tasks of a SLURM step."""
    size = int(env.get("SUBMITIT_LOCAL_NTASKS", "1"))
    if size < 2 or "SUBMITIT_LOCAL_GLOBALID" not in env:
        return None
    world = World(int(env["SUBMITIT_LOCAL_GLOBALID"]), size, int(env["SUBMITIT_LOCAL_LOCALID"]), size)
    return world, _LOCALHOST, zlib.crc32(env.get("SUBMITIT_LOCAL_JOB_ID", "").encode())


def _slurm(env: Mapping[str, str]) -> tuple[World, str, int] | None:
    """Tasks of a SLURM step, which srun starts.

    A script of sbatch and a shell of salloc have the variables of the allocation too (SLURM_NTASKS, SLURM_PROCID), but
    none of a step with several tasks.
    """
    size = int(env.get("SLURM_STEP_NUM_TASKS") or (env.get("SLURM_NTASKS", "1") if "SLURM_STEP_ID" in env else "1"))
    if size < 2 or "SLURM_PROCID" not in env:
        return None
    tasks = env.get("SLURM_STEP_TASKS_PER_NODE") or env.get("SLURM_TASKS_PER_NODE", "1")
    local_size = _slurm_local_tasks(tasks, int(env.get("SLURM_NODEID", 0)))
    world = World(int(env["SLURM_PROCID"]), size, int(env.get("SLURM_LOCALID", 0)), local_size)
    return world, _first_slurm_host(env), int(env.get("SLURM_JOB_ID", 0))


def _mpi(env: Mapping[str, str]) -> tuple[World, str, int] | None:
    """Processes of Open MPI's or MPICH's mpirun.

    Raises:
        ValueError: on several machines without MASTER_ADDR, which MPI does not tell.
    """
    for size, rank, local_rank, local_size in (
        ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE"),
        ("PMI_SIZE", "PMI_RANK", "MPI_LOCALRANKID", "MPI_LOCALNRANKS"),
    ):
        if int(env.get(size, "1")) < 2 or rank not in env:
            continue
        world = World(
            int(env[rank]), int(env[size]), int(env.get(local_rank, env[rank])), int(env.get(local_size, env[size]))
        )
        if not world.is_one_machine and "MASTER_ADDR" not in env:
            raise ValueError(
                "mpirun on several machines: set the machine of rank 0 and a free port, as in "
                "mpirun -x MASTER_ADDR=<host> -x MASTER_PORT=29500 ..."
            )
        name = env.get("PMIX_NAMESPACE") or env.get("PMI_ID") or str(os.getppid())
        return world, _LOCALHOST, zlib.crc32(name.encode())
    return None


def _checked(world: World) -> World:
    if not 0 <= world.rank < world.world_size or not 0 <= world.local_rank < world.local_world_size:
        raise ValueError(f"the launcher's variables contradict each other: {world}")
    return world


def _slurm_local_tasks(text: str, node: int) -> int:
    """Tasks on one machine from SLURM's compressed list, such as ``4(x2),3``."""
    counts: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"(\d+)(?:\(x(\d+)\))?", part)
        if match is None:
            raise ValueError(f"SLURM_TASKS_PER_NODE={text!r} cannot be read; expected something like 4(x2),3")
        counts += [int(match[1])] * int(match[2] or 1)
    return counts[node]


def _first_slurm_host(env: Mapping[str, str]) -> str:
    """The first machine of the step, from SLURM's compressed list, such as ``gpu[03-05,9],login1``."""
    hosts = env.get("SLURM_STEP_NODELIST") or env.get("SLURM_JOB_NODELIST") or "localhost"
    match = re.match(r"([^\[,]+)(?:\[(\w+))?", hosts)
    assert match is not None
    return match[1] + (match[2] or "")
