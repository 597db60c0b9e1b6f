"""torchrun that tells in one line what went wrong: ``python -m simulator.torchrun --nproc-per-node 2 launch.py ...``.

torchrun itself adds a report of more than forty lines about the ranks that failed, of which one has said why already,
and begins with a notice about ``OMP_NUM_THREADS``. All options are torchrun's.
"""

import logging
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from simulator.process_group import GAVE_UP_EXIT_CODE
from simulator.processes import STOPPED_EXIT_CODE

_TOLD = (1, GAVE_UP_EXIT_CODE, STOPPED_EXIT_CODE)
"""Exit statuses of ranks that say by themselves why they end."""


def main(arguments: Sequence[str], run: Callable[[Sequence[str]], Any] | None = None) -> int:
    """Runs torchrun with these arguments; returns the exit status.

    Args:
        run: torchrun's entry point unless given.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from torch.distributed import run as torchrun
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    for name in logging.root.manager.loggerDict:
        if name.startswith("torch.distributed.elastic.multiprocessing."):
            logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        (run or torchrun.main)(arguments)
    except ChildFailedError as error:
        statuses = {rank: failure.exitcode for rank, failure in error.failures.items()}
        if not set(statuses.values()) & set(_TOLD):
            ended = ", ".join(f"local rank {rank} with status {status}" for rank, status in sorted(statuses.items()))
            print(f"hypergossip: ended: {ended}", file=sys.stderr, flush=True)
        return STOPPED_EXIT_CODE if set(statuses.values()) == {STOPPED_EXIT_CODE} else 1
    except SignalException as error:
        return 128 + error.sigval
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
