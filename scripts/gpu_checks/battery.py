"""Runs every case on the CPU and on a device: ``python -m scripts.gpu_checks.battery TABLE.json --device pretended``.

The table has for every case how far the results are apart, whether the device gives the same bits twice, which tensors
of the state left the device, and how often the host waited in the steps that are counted, by line. One process runs all
cases, because the pretended device must be registered before anything uses autograd.
"""

import argparse
import json
import os
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from scripts.gpu_checks.waits import Waits, usable, watched
from simulator.compressors.base import Compressor
from simulator.simulation import Simulation
from simulator.testing import pretended_device
from simulator.testing.compressors import keys_for, normal_rows
from simulator.testing.pretended_device import held

if TYPE_CHECKING:
    from scripts.gpu_checks.cases import Case

WARM_STEPS, COUNTED_STEPS = 4, 4
"""An outer step of four steps is counted; what a schedule that repeats keeps is there by then."""
TIMES = ("time/", "throughput/")
CPU = torch.device("cpu")
Results = dict[str, Tensor]
Entry = dict[str, Any]


def on_host(rows: Tensor) -> Tensor:
    """A copy of a tensor of any device in the memory of the host."""
    return held(rows).detach().cpu().clone()


def run(case: "Case", device: torch.device, *, refuses: bool = False) -> tuple[Results, list[str], Waits]:
    """The state, estimate and evaluation at the end, what has left the device, and the waits of the counted steps."""
    simulation = Simulation.build(case.settings, components=case.components(), device=device)
    case.change(simulation)
    state = simulation.run(simulation.init(), 0, WARM_STEPS)
    with watched(device, refuses=refuses) as waits:
        state = simulation.run(state, WARM_STEPS, WARM_STEPS + COUNTED_STEPS)
    left = [key for key, rows in state.items() if rows.device.type != device.type]
    results = {key: on_host(rows) for key, rows in state.items()}
    results["estimate"] = on_host(simulation.estimate(state))
    if case.evaluates:
        numbers = simulation.evaluate(state, WARM_STEPS + COUNTED_STEPS, is_last=True).numbers
        results["evaluation"] = torch.tensor([value for key, value in numbers.items() if not key.startswith(TIMES)])
    return results, left, waits


def examine(case: "Case", *, device: torch.device, twice: bool = False, refuses: bool = False) -> Entry:
    """What the table says about a case.

    Args:
        twice: run it on the device a second time, which must give the same bits.
        refuses: on a GPU, the first wait is an error.
    """
    expected, _, _ = run(case, CPU)
    with usable(device):
        found, left, waits = run(case, device, refuses=refuses)
        again = run(case, device)[0] if twice else found
    return compared(expected, found, again, waits) | {"left": left}


def examine_compressor(compressor: Compressor, *, device: torch.device, twice: bool, refuses: bool) -> Entry:
    """As :func:`examine`, of rows that are coded and decoded."""

    def code(where: torch.device) -> tuple[Results, list[str], Waits]:
        with usable(where):
            rows = normal_rows(3, 301).to(where)
            compressor.decode(compressor.encode(rows, keys_for(3)).packed, 301, rows.dtype)
            with watched(where, refuses=refuses) as waits:
                coded = compressor.encode(rows, keys_for(3, step=1))
                decoded = compressor.decode(coded.packed, 301, rows.dtype)
        results = {"packed": coded.packed, "values": coded.values, "decoded": decoded}
        left = [key for key, tensor in results.items() if tensor.device.type != where.type]
        return {key: on_host(tensor) for key, tensor in results.items()}, left, waits

    expected, _, _ = code(CPU)
    found, left, waits = code(device)
    again = code(device)[0] if twice else found
    return compared(expected, found, again, waits, num_steps=1) | {"left": left}


def compared(
    expected: Results, found: Results, again: Results, waits: Waits, *, num_steps: int = COUNTED_STEPS
) -> Entry:
    """The table's entry of two runs on a device and one on the CPU."""
    return {
        "different": [key for key in expected if not same(found[key], expected[key])],
        "distance": max((distance(found[key], expected[key]) for key in expected), default=0.0),
        "unstable": [key for key in found if not same(found[key], again[key])],
        "waits": waits.blocking / num_steps,
        "uploads": waits.uploads / num_steps,
        "lines": waits.lines,
    }


def same(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors have the same bits, but for the bits of NaN."""
    return one.shape == other.shape and one.dtype == other.dtype and torch.equal(one.nan_to_num(), other.nan_to_num())


def distance(one: Tensor, other: Tensor) -> float:
    """The largest difference, relative to the largest entry where that is above 1; infinite between other shapes."""
    if one.shape != other.shape or bool((one.isnan() != other.isnan()).any()):
        return float("inf")
    if not one.numel():
        return 0.0
    a, b = one.double().nan_to_num(), other.double().nan_to_num()
    return float((a - b).abs().max() / b.abs().max().clamp(min=1.0))


def entry(name: str, make: Callable[[], Any], look: Callable[..., Entry], **options: Any) -> Entry:
    """The table's entry of a case, or why there is none."""
    start = time.process_time()
    try:
        found = look(make(), **options)
    except Exception as error:
        where = [f"{frame.filename}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)]
        where = [line.rpartition("/simulator/")[2] for line in where if "/simulator/" in line] or where
        found = {"error": f"{type(error).__name__}: {str(error)[:500]} at {where[-1]}"}
    found = {**found, "seconds": time.process_time() - start}
    print(f"{name:40s} {found['seconds']:5.1f} s", found.get("error") or described(found), flush=True)
    return found


def described(found: Entry) -> str:
    """An entry as a line."""
    equal = "equal" if not found["different"] else f"{found['different']} apart by {found['distance']:.1e}"
    counts = {kind: found[kind] for kind in ("waits", "uploads") if found[kind]}
    return " ".join(str(part) for part in (equal, counts or "", found["left"] or "", found["unstable"] or "") if part)


def groups() -> Iterator[tuple[str, list[tuple[str, Callable[[], Any]]], Callable[..., Entry]]]:
    """The groups of the table: name, cases, and what looks at one; imported late, when the device is installed."""
    from scripts.gpu_checks.cases import algorithm_cases, broken_cases, further_cases
    from simulator.testing.compressor_cases import CASE_NAMES, CASES, build

    yield "algorithms", list(algorithm_cases()), examine
    yield "further", list(further_cases()), examine
    yield "broken", list(broken_cases()), examine
    built = zip(CASE_NAMES, CASES, strict=True)
    yield (
        "compressors",
        [(name, partial(build, kind, **changes)) for name, (kind, changes) in built],
        examine_compressor,
    )


def main() -> None:
    """Writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path)
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="cases; all by default")
    parser.add_argument("--device", choices=["pretended", "cuda"], required=True)
    parser.add_argument("--twice", action="store_true", help="run every case a second time on the device")
    parser.add_argument("--budgets", type=Path, metavar="FILE", help="a wait is an error where FILE has no budget")
    parser.add_argument("--share", default="0/1", help="K/N: of the cases every N-th, beginning with K")
    arguments = parser.parse_args()
    device = pretended_device.install() if arguments.device == "pretended" else torch.device("cuda", 0)
    torch.set_num_threads(1)
    first, count = map(int, arguments.share.split("/"))
    may_wait: dict[str, float] = json.loads(arguments.budgets.read_text()) if arguments.budgets else {}
    table: dict[str, dict[str, Entry]] = {}
    for group, cases, look in groups():
        wanted = [(name, make) for name, make in cases if not arguments.only or name in arguments.only]
        refuses = arguments.budgets is not None and group != "broken"
        table[group] = {
            name: entry(
                name, make, look, device=device, twice=arguments.twice, refuses=refuses and name not in may_wait
            )
            for name, make in wanted[first::count]
        }
        arguments.table.write_text(json.dumps(table, indent=1))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as cache:
        os.environ["XDG_CACHE_HOME"] = cache
        main()
