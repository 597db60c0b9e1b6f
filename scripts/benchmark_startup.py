"""One launch of two local ranks that prints the times of its stages as JSON; the benchmark passes the start time.

Everything runs as in ``python launch.py``: functions are only wrapped to note the time at which they begin or end.
"""

import sys
import time

FIRST_LINE_AT = time.time()

import functools  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
from collections.abc import Callable  # noqa: E402
from itertools import pairwise  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


def main() -> int:
    """Launches; the arguments are the time of the command, then overrides."""
    moments = [("command", float(sys.argv.pop(1))), ("python", FIRST_LINE_AT)]

    def reached(name: str) -> None:
        moments.append((name, time.time()))

    import hydra  # noqa: F401

    import launch

    reached("import hydra")

    import torch  # noqa: F401

    reached("import torch")

    from simulator.algorithms.gossip.sgp import SGP
    from simulator.problems.classification import Classification
    from simulator.simulation import Simulation

    reached("import the simulator")
    wrap(launch, "prepare", lambda: reached("compose"), lambda: reached("build and check"))
    wrap(Simulation, "build", lambda: reached("start and join"), lambda: None)
    wrap(Classification, "setup", lambda: None, lambda: reached("data and model"))
    wrap(Classification, "choose_compute", lambda: None, lambda: reached("tuning"))

    def first_step() -> None:
        reached("evaluation and first step")
        durations = {name: end - start for (_, start), (name, end) in pairwise(moments)}
        os.write(1, f"\nSTARTUP {json.dumps(durations)}\n".encode())

    wrap(SGP, "step", lambda: None, first_step)
    return launch.main()


def wrap(owner: Any, name: str, before: Callable[[], None], after: Callable[[], None]) -> None:
    """Calls ``before`` and ``after`` around ``owner.name``."""
    original = getattr(owner, name)

    @functools.wraps(original)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        before()
        result = original(*args, **kwargs)
        after()
        return result

    setattr(owner, name, wrapped)


if __name__ == "__main__":
    sys.exit(main())
