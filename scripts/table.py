"""Tables from run folders: ``python scripts/table.py FOLDER [FOLDER ...] [--at best|last] [--grid KEY,KEY]``.

Looks for finished runs below the folders, sweeps in any depth. Runs that differ by their seed alone are one row; its
columns are the settings that differ between rows, then means and standard deviations over seeds (n - 1), the number of
seeds, and the chosen values of ``--grid``: of settings that differ by its keys alone the row is the one with the best
``--choose-by``, mean over seeds. Every column says which evaluation its number is from, as in ``best/test/accuracy``:

* ``--at best``: the evaluation with the best validation accuracy (or what else the algorithm selects by); for runs with
  outer steps the end of an outer step. The default where every run has such an evaluation.
* ``--at last``: the last evaluation. The default where a run has no best one.

Shows accuracies in per cent (mean over nodes, mean over all their test samples, and the n/10-th smallest of n nodes),
or losses where there are none, megabytes over all edges, steps, and seconds of wall time, all until that evaluation;
``--metrics`` shows others. An empty cell is a missing number.
Writes OUTPUT.md and OUTPUT.csv (with all digits), or Markdown to standard output.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from simulator import tables  # noqa: E402


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
    parser.add_argument("--at", choices=tables.EVALUATIONS, help="the evaluation that counts")
    parser.add_argument("--grid", default="", help="settings of which the best is shown, as in algorithm.lr,problem.x")
    parser.add_argument("--choose-by", default="valid/accuracy", help="metric that chooses among the grid")
    parser.add_argument("--metrics", default="", help="what is shown, as in test/accuracy,comm/bytes")
    parser.add_argument("--output", type=Path, help="writes OUTPUT.md and OUTPUT.csv")
    options = parser.parse_args(arguments)
    grid = [key for key in options.grid.split(",") if key]
    metrics = [name for name in options.metrics.split(",") if name]
    try:
        runs = tables.finished_runs(options.folders)
        at = tables.which_evaluation(runs, options.at)
        groups = tables.best_settings(runs, grid, options.choose_by, at)
    except ValueError as error:
        print(f"table: {error}", file=sys.stderr)
        return 1
    if note := tables.repeated_seeds(groups):
        print(f"table: {note}", file=sys.stderr)
    frame = tables.table(groups, at, metrics)
    if options.output is None:
        print(tables.to_markdown(frame), end="")
        return 0
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.with_suffix(".md").write_text(tables.to_markdown(frame), encoding="utf-8")
    frame.to_csv(options.output.with_suffix(".csv"), index=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
