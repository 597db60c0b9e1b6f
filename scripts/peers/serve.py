"""The protocol of a program of the comparison: JSON lines, the number of steps in, seconds out."""

import json
import sys
import time
from collections.abc import Callable


def serve(version: str, run: Callable[[int], object]) -> None:
    """Says what it is, then takes as many steps as each line of the standard input says, and answers with times.

    Args:
        version: of the library.
        run: takes a number of steps.
    """
    answers = sys.stdout
    sys.stdout = sys.stderr  # what a library prints is no answer
    print(json.dumps({"version": version}), file=answers, flush=True)
    for line in sys.stdin:
        wall, cpu = time.perf_counter(), time.process_time()
        run(int(line))
        times = {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}
        print(json.dumps(times), file=answers, flush=True)
