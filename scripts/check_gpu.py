"""Checks the simulator on a machine with GPUs, in about 8 minutes on one GPU; more lines run with several.

    python scripts/check_gpu.py
    python scripts/check_gpu.py --only battery waits --out check.json
    python scripts/check_gpu.py --dry        # without a GPU: every line to its end, on the CPU or the pretended device

Every line runs in a process of its own with a limit of time, so a line that fails or hangs does not end the others. The
table says for each what it ran on, the verdict, and what was measured; the same is written as JSON. The exit status is
0 when no line failed. docs/gpus.md says how to read it.
"""

import argparse
import json
import signal
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])

from scripts.gpu_checks.lines import DRY_LIMIT_S, LINES  # noqa: E402
from scripts.gpu_checks.reporting import Findings  # noqa: E402
from scripts.gpu_checks.running import Ended, run_line  # noqa: E402

INVENTORY = "inventory"


def main() -> int:
    """Runs the lines, prints the table and writes the JSON file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dry", action="store_true", help="use no GPU, and small sizes")
    parser.add_argument("--only", nargs="+", choices=LINES, metavar="LINE", help=f"of: {', '.join(LINES)}")
    parser.add_argument("--out", type=Path, default=Path("check_gpu.json"), help="the JSON file (default %(default)s)")
    arguments = parser.parse_args()
    # An exit, so that what a line has started is ended too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    results: dict[str, Ended] = {}
    with tempfile.TemporaryDirectory() as folder:
        results[INVENTORY] = check(INVENTORY, Path(folder), dry=arguments.dry)
        num_gpus = gpus_in(results[INVENTORY].findings)
        if not num_gpus and not arguments.dry:
            print("no GPU here; --dry runs every line without one", file=sys.stderr)
            return 2
        for name, line in LINES.items():
            if name == INVENTORY or (arguments.only and name not in arguments.only):
                continue
            if line.num_gpus > num_gpus and not arguments.dry:
                results[name] = Ended(Findings(skipped=f"needs {line.num_gpus} GPUs"), "skipped", 0.0)
                show(name, results[name])
            else:
                results[name] = check(name, Path(folder), dry=arguments.dry)
    arguments.out.write_text(json.dumps({name: as_json(result) for name, result in results.items()}, indent=1))
    failed = [name for name, result in results.items() if result.verdict not in ("ok", "skipped")]
    print(f"\n{len(results) - len(failed)} of {len(results)} lines without a failure; written to {arguments.out}")
    return int(bool(failed))


def check(name: str, folder: Path, *, dry: bool) -> Ended:
    """Runs a line and prints its part of the table."""
    limit_s = DRY_LIMIT_S if dry else LINES[name].limit_s
    result = run_line(name, folder / name, ["--dry"] if dry else [], limit_s)
    show(name, result)
    return result


def show(name: str, result: Ended) -> None:
    """Prints a line of the table, and below it what was measured and what failed."""
    found = result.findings
    print(f"{name:<16} {result.verdict:<8} {result.seconds:6.1f} s  {found.device or '-':<44} {LINES[name].what}")
    for text in [found.skipped] * bool(found.skipped) + [row["text"] for row in found.rows]:
        print(f"{'':<19}{text}")
    for text in found.failures:
        print(f"{'':<19}FAILED: {text}")
    sys.stdout.flush()


def gpus_in(inventory: Findings) -> int:
    """The number of GPUs that the inventory has found."""
    return max((int(row.get("num_gpus", 0)) for row in inventory.rows), default=0)


def as_json(result: Ended) -> dict[str, object]:
    """A line of the table for programs."""
    return {"verdict": result.verdict, "seconds": result.seconds, **asdict(result.findings)}


if __name__ == "__main__":
    sys.exit(main())
