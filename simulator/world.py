"""This process within a launch: its rank, and its threads."""

import os
from dataclasses import dataclass


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
