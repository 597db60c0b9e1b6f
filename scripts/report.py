"""A page of runs: ``python scripts/report.py FOLDER`` writes ``FOLDER/report.html``.

The folder is that of a run, of a sweep, or any other with runs below it, finished or not. The page is one file that
needs neither a server nor a network: curves against steps, bytes, time or oracle calls with bands over seeds, a table
of runs with filters, values by node, the graph with its matrices, the partition, and how the runs' settings differ.
Needs the extra ``report`` (plotly).
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from simulator.report import write_report  # noqa: E402


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="of a run, or with runs below it")
    options = parser.parse_args(arguments)
    try:
        path = write_report(options.folder)
    except ValueError as error:
        print(f"report: {error}", file=sys.stderr)
        return 1
    print(f"{path} ({path.stat().st_size / 1e6:.1f} MB)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
