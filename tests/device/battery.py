"""Runs every case on the CPU and on the pretended device: ``python -m tests.device.battery TABLE.json [NAMES]``.

The table has for every case whether the states are equal bit for bit, which tensors of the state left the device, and
how often the host waited in the steps that are counted, by line. One process runs all cases, because the device must be
registered before anything uses autograd.
"""

import json
import os
import sys
import tempfile
import time
import traceback
from functools import partial
from pathlib import Path

import torch

from simulator.simulation import Simulation
from simulator.testing import pretended_device
from simulator.testing.compressors import keys_for, normal_rows
from simulator.testing.pretended_device import BLOCKING, UPLOAD, held

WARM_STEPS, COUNTED_STEPS = 4, 4
"""An outer step of four steps is counted; what a schedule that repeats keeps is there by then."""


def run(case, device):
    """The state, estimate and evaluation at the end, and the steps' events."""
    simulation = Simulation.build(case.settings, components=case.components(), device=device)
    case.change(simulation)
    state = simulation.run(simulation.init(), 0, WARM_STEPS)
    with pretended_device.in_use() as counts:
        state = simulation.run(state, WARM_STEPS, WARM_STEPS + COUNTED_STEPS)
    left = [key for key, rows in state.items() if rows.device.type != device.type]
    results = {key: held(rows).clone() for key, rows in state.items()}
    results["estimate"] = held(simulation.estimate(state)).clone()
    if case.evaluates:
        numbers = simulation.evaluate(state, WARM_STEPS + COUNTED_STEPS, is_last=True).numbers
        results["evaluation"] = torch.tensor([value for key, value in numbers.items() if not key.startswith(TIMES)])
    return results, left, counts


TIMES = ("time/", "throughput/")


def examine(case):
    """What the table says about a case."""
    expected, _, _ = run(case, torch.device("cpu"))
    with pretended_device.in_use():
        found, left, counts = run(case, pretended_device.install())
    different = [key for key in expected if not same(found[key], expected[key])]
    return {"different": different, "left": left, **summary(counts)}


def summary(counts, num_steps=COUNTED_STEPS):
    """Events per step by kind, and the lines of those that block."""
    per_step = {kind: counts.total(kind) / num_steps for kind in (*BLOCKING, UPLOAD)}
    return {"per_step": per_step, "lines": counts.lines(*BLOCKING)}


def same(one, other):
    """Whether two tensors have the same bits, but for the bits of NaN."""
    return one.shape == other.shape and one.dtype == other.dtype and torch.equal(one.nan_to_num(), other.nan_to_num())


def examine_compressor(compressor):
    """As :func:`examine`, of rows that are coded and decoded."""
    results, counted = [], []
    for device in (torch.device("cpu"), pretended_device.install()):
        with pretended_device.in_use():
            rows = normal_rows(3, 301).to(device)
            compressor.decode(compressor.encode(rows, keys_for(3)).packed, 301, rows.dtype)
            with pretended_device.in_use() as counts:
                coded = compressor.encode(rows, keys_for(3, step=1))
                decoded = compressor.decode(coded.packed, 301, rows.dtype)
        results.append({"packed": coded.packed, "values": coded.values, "decoded": decoded})
        counted.append(counts)
    expected, found = results
    different = [key for key in expected if not same(held(found[key]), expected[key])]
    left = [key for key, rows in found.items() if rows.device.type == "cpu"]
    return {"different": different, "left": left, **summary(counted[1], 1)}


def entry(name, make, look):
    """The table's entry of a case, or why there is none."""
    start = time.process_time()
    try:
        found = look(make())
    except Exception as error:
        where = [f"{frame.filename}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)]
        where = [line.rpartition("/simulator/")[2] for line in where if "/simulator/" in line] or where
        found = {"error": f"{type(error).__name__}: {str(error)[:500]} at {where[-1]}"}
    found = {**found, "seconds": time.process_time() - start}
    print(f"{name:40s} {found['seconds']:5.1f} s", found.get("error") or described(found), flush=True)
    return found


def main():
    pretended_device.install()
    torch.set_num_threads(1)
    # Only now, because importing them must find the device installed.
    from tests.compressors.building import CASE_NAMES, CASES, build
    from tests.device.cases import algorithm_cases, broken_cases, further_cases

    wanted = sys.argv[2:]
    compressors = ((name, partial(build, case[0], **case[1])) for name, case in zip(CASE_NAMES, CASES, strict=True))
    groups = {"algorithms": (algorithm_cases(), examine), "further": (further_cases(), examine)}
    groups["broken"] = (broken_cases(), examine)
    groups["compressors"] = (compressors, examine_compressor)
    table = {}
    for group, (cases, look) in groups.items():
        table[group] = {name: entry(name, make, look) for name, make in cases if not wanted or name in wanted}
    Path(sys.argv[1]).write_text(json.dumps(table, indent=1))


def described(found):
    per_step = {kind: count for kind, count in found["per_step"].items() if count}
    return f"{'equal' if not found['different'] else found['different']} {per_step} {found['left'] or ''}"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as cache:
        os.environ["XDG_CACHE_HOME"] = cache
        main()
