"""Runs a study and writes its tables: ``python scripts/study.py conf/study/NAME.yaml [--jobs N] [KEY=VALUE ...]``.

A study names methods with the grids of their settings, problems, graphs, kinds of heterogeneity, budgets and seeds; see
docs/howto/studies.md. The script runs what is missing, so that a stopped study goes on with the same command. It tunes
every method in every case with the same number of trials, runs the best again with several seeds, and writes into
``outputs/studies/NAME`` (or ``--output``): tables.md, tables.csv, tables.tex, trials.csv, checklist.md and figures/.
Overrides at the end are those of all runs, such as ``data_root=/data``.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from simulator.studies.engine import run_study  # noqa: E402
from simulator.studies.plan import read_study  # noqa: E402
from simulator.studies.report import write_report  # noqa: E402


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("study", type=Path, metavar="FILE", help="the study, such as conf/study/single_level.yaml")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="overrides of all runs")
    parser.add_argument("--jobs", type=int, default=1, help="runs at the same time, each on one core; 1 unless given")
    parser.add_argument("--output", type=Path, help="folder of runs and tables; outputs/studies/NAME unless given")
    parser.add_argument("--dry-run", action="store_true", help="only says how many runs there are")
    options = parser.parse_intermixed_args(arguments)
    command = ["python", "scripts/study.py", *(sys.argv[1:] if arguments is None else arguments)]
    try:
        study = read_study(options.study, options.overrides)
        folder: Path = (options.output or ROOT / "outputs" / "studies" / study.name).resolve()
        print(
            f"{study.name}: {len(study.cases)} cases, {len(study.methods)} methods, {study.num_runs} runs in {folder}",
            flush=True,
        )
        if options.dry_run:
            return 0
        cells = run_study(study, folder, options.jobs)
        print(write_report(study, cells, folder, command))
    except ValueError as error:
        print(f"study: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("study: stopped; the same command goes on", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
