"""Measures compressors: rows encoded and decoded per second, in bytes of the rows, beside a plain copy of them.

Every compressor of conf/compressor and every way to write down columns, on rows of 10^4 to 10^6 columns, measured side
by side and in turn, with medians. Run on a quiet machine:

    python scripts/benchmark_compressors.py
    python scripts/benchmark_compressors.py --quick --only qsgd sign
"""

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])

from simulator.memory import keep_memory  # noqa: E402

keep_memory()  # as launch.py does

import numpy as np  # noqa: E402
import torch  # noqa: E402
from omegaconf import OmegaConf  # noqa: E402

from scripts.benchmark_measuring import Candidate, Effort, Table, measure  # noqa: E402
from simulator.compressors.base import Compressor  # noqa: E402
from simulator.config.hydra_versions import instantiate  # noqa: E402
from simulator.randomness import random_bits  # noqa: E402

CONF = Path(__file__).resolve().parents[1] / "conf" / "compressor"
NAMES = sorted(path.stem for path in CONF.glob("*.yaml") if path.stem != "none")
# Settings that change what is computed, besides those in conf/.
FURTHER: dict[str, list[dict[str, object]]] = {
    "cast": [{"dtype": "bfloat16"}],
    "qsgd": [{"levels": 127}],
    "random_k": [{"fraction": 0.05}],
    "top_k": [{"index_coding": "bitmap"}, {"index_coding": "golomb"}, {"fraction": 0.01, "index_coding": "auto"}],
}
SHAPES = ((64, 10_000), (8, 100_000), (1, 1_000_000))


@dataclass
class Arguments(argparse.Namespace):
    """The command line."""

    quick: bool = False
    only: list[str] | None = None
    threads: int = 1
    clock: str = "wall"
    dtype: str = "float32"
    device: str = "cpu"


def build(name: str, changes: dict[str, object]) -> Compressor:
    compressor = instantiate({**OmegaConf.load(CONF / f"{name}.yaml"), **changes})
    assert isinstance(compressor, Compressor)
    return compressor


def repeated(call: Callable[[], object]) -> Candidate:
    """Candidate that calls so many times."""

    def run(steps: int) -> None:
        for _ in range(steps):
            call()

    return run


def compare(table: Table, effort: Effort, names: list[str], shape: tuple[int, int], arguments: Arguments) -> None:
    """One line per compressor, measured between two copies."""
    num_rows, num_columns = shape
    draw = torch.Generator().manual_seed(0)
    dtype = getattr(torch, arguments.dtype)
    rows = torch.randn(num_rows, num_columns, generator=draw).to(arguments.device, dtype)
    target = torch.empty_like(rows)
    keys = random_bits(0, "benchmark", np.arange(num_rows), 0, 1)[:, 0]
    table.section(f"{num_rows} row(s) of {num_columns:,} columns, {arguments.dtype}: GB of rows per second")
    for name in names:
        for changes in [{}, *FURTHER.get(name, [])]:
            compressor = build(name, changes)
            coded = compressor.encode(rows, keys)
            candidates = {
                "copy": repeated(partial(target.copy_, rows)),
                "encode": repeated(partial(compressor.encode, rows, keys)),
                "decode": repeated(partial(compressor.decode, coded.packed, num_columns, dtype)),
            }
            times = measure(candidates, effort)
            assert torch.equal(compressor.decode(coded.packed, num_columns, dtype), coded.values)
            speeds = [f"{each} {rows.nbytes / times.median(each) / 1e9:6.2f}" for each in ("encode", "decode", "copy")]
            shares = [f"{times.speedup(each, 'copy'):.3f}" for each in ("encode", "decode")]
            bits = 8 * coded.packed.shape[1] / num_columns
            what = ", ".join([name, *(f"{key}={value}" for key, value in changes.items())])
            table.line(what, f"{', '.join(speeds)}; {' and '.join(shares)} of the copy; {bits:.2f} bits a column")


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description="Measures how fast compressors encode and decode.")
    parser.add_argument("--quick", action="store_true", help="short windows and rows of 10,000 columns only")
    parser.add_argument("--only", nargs="+", choices=NAMES, help="compressors to measure; all by default")
    parser.add_argument("--threads", type=int, default=1, help="threads of this process (default 1)")
    parser.add_argument("--dtype", choices=["float32", "float64"], default="float32", help="type of the rows")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="where the rows are")
    parser.add_argument(
        "--clock", choices=["wall", "cpu"], default="wall", help="cpu: processor time, on a machine with other work"
    )
    arguments = parser.parse_args(namespace=Arguments())
    if arguments.threads < 1:
        parser.error("--threads: expected at least 1")
    torch.set_num_threads(arguments.threads)
    effort = Effort(3, 0.01, True, arguments.clock) if arguments.quick else Effort(9, 0.03, False, arguments.clock)
    print(f"torch {torch.__version__}, {arguments.device}, {arguments.threads} thread(s), {arguments.clock} clock")
    table = Table()
    for shape in SHAPES[:1] if arguments.quick else SHAPES:
        compare(table, effort, arguments.only or NAMES, shape, arguments)


if __name__ == "__main__":
    main()
