"""This process within a launch: its rank, the launcher that started it, and its threads."""

import os
import re
from dataclasses import dataclass

_DEFAULT_SLURM_PORT = 29400


@dataclass(frozen=True)
class World:
    """This process among the processes of a launch."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    local_world_size: int = 1

    @property
    def is_one_machine(self) -> bool:
        """Whether all processes of the launch are on this machine."""
        return self.local_world_size == self.world_size


def detect_world(environ: dict[str, str] | None = None) -> World | None:
    """Reads torchrun's or SLURM's variables; None when no launcher started this process.

    Under SLURM (``srun python launch.py``) the variables that torch.distributed reads are derived and set.

    Raises:
        ValueError: when the variables contradict each other.
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
    if int(env.get("SLURM_NTASKS", "1")) > 1 and "SLURM_PROCID" in env:
        world = World(
            int(env["SLURM_PROCID"]),
            int(env["SLURM_NTASKS"]),
            int(env.get("SLURM_LOCALID", 0)),
            _slurm_local_tasks(env.get("SLURM_TASKS_PER_NODE", "1"), int(env.get("SLURM_NODEID", 0))),
        )
        port = _DEFAULT_SLURM_PORT + int(env.get("SLURM_JOB_ID", 0)) % 10000
        env.setdefault("MASTER_ADDR", _first_slurm_host(env))
        env.setdefault("MASTER_PORT", str(port))
        env.update(RANK=str(world.rank), WORLD_SIZE=str(world.world_size), LOCAL_RANK=str(world.local_rank))
        return _checked(world)
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


def _first_slurm_host(env: dict[str, str] | os._Environ[str]) -> str:
    """The first machine of the step, from SLURM's compressed list, such as ``gpu[03-05,9],login1``."""
    hosts = env.get("SLURM_STEP_NODELIST") or env.get("SLURM_JOB_NODELIST") or "localhost"
    match = re.match(r"([^\[,]+)(?:\[(\w+))?", hosts)
    assert match is not None
    return match[1] + (match[2] or "")


def set_threads(requested: int | None) -> int:
    """Sets and returns the number of threads of this process: one, unless asked otherwise.

    The models of nodes are small, so threads gain little and lose much on a machine that is busy with other work;
    more cores are better used by more processes. Where the user has set ``OMP_NUM_THREADS`` that holds.
    """
    import torch

    threads = requested or 1
    if requested is None and "OMP_NUM_THREADS" in os.environ and "TORCHELASTIC_RUN_ID" not in os.environ:
        threads = int(os.environ["OMP_NUM_THREADS"])
    torch.set_num_threads(threads)
    return threads
