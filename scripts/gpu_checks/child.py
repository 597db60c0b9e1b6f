"""Runs one line of the check: ``python -m scripts.gpu_checks.child NAME REPORT.json [--dry]``."""

import argparse
import importlib
import os
import tempfile
import traceback
from dataclasses import dataclass
from pathlib import Path

from scripts.gpu_checks.lines import LINES
from scripts.gpu_checks.reporting import Report


@dataclass(frozen=True)
class Task:
    """What a line gets.

    Attributes:
        report: where it writes what it finds.
        folder: for files of runs that it starts.
        dry: it must do without a GPU, in a small size.
    """

    report: Report
    folder: Path
    dry: bool


def main() -> None:
    """Runs the line; an error becomes a failure of its report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=LINES)
    parser.add_argument("report", type=Path)
    parser.add_argument("--dry", action="store_true")
    arguments = parser.parse_args()
    report = Report(arguments.report)
    module, _, function = LINES[arguments.name].function.partition(":")
    try:
        run = getattr(importlib.import_module(f"scripts.gpu_checks.{module}"), function)
        run(Task(report, arguments.report.parent, arguments.dry))
    except Exception as error:
        traceback.print_exc()
        where = traceback.extract_tb(error.__traceback__)[-1]
        report.fail(f"{type(error).__name__}: {str(error)[:400]} at {Path(where.filename).name}:{where.lineno}")
    report.finish()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as cache:
        os.environ["XDG_CACHE_HOME"] = cache  # nothing that an earlier run has chosen
        main()
