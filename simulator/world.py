"""This process within a launch: its rank, its device, backend and threads."""

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


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


@dataclass(frozen=True)
class Compute:
    """Where a process computes and how its messages travel."""

    device: "torch.device"
    backend: str
    note: str


def choose_compute(requested: str, world: World) -> Compute:
    """Chooses device and backend: one GPU per process with NCCL when there are enough, gloo otherwise.

    Args:
        requested: ``auto``, ``cpu`` or ``cuda``.

    Raises:
        ValueError: when CUDA is requested and there is none, or ``requested`` is another string.
    """
    import torch

    if requested not in ("auto", "cpu", "cuda"):
        raise ValueError(f"device={requested!r}: expected auto, cpu or cuda")
    if requested == "cpu":
        return Compute(torch.device("cpu"), "gloo", "CPU, gloo")
    num_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if num_gpus == 0:
        if requested == "cuda":
            raise ValueError("device=cuda: torch sees no GPU on this machine; use device=cpu or device=auto")
        return Compute(torch.device("cpu"), "gloo", "CPU, gloo")
    device = torch.device("cuda", world.local_rank % num_gpus)
    if world.local_world_size <= num_gpus:
        return Compute(device, "nccl", f"one GPU per process ({torch.cuda.get_device_name(device)}), NCCL")
    return Compute(
        device,
        "gloo",
        f"{world.local_world_size} processes on {num_gpus} GPU(s): NCCL refuses two ranks on one GPU, so messages are "
        "staged through pinned memory and gloo",
    )


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
