"""What a line of the check writes down while it runs, so that nothing is lost when it is ended."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Findings:
    """What is known of a line.

    Attributes:
        device: where it truly ran; never a GPU unless one was used.
        rows: what was measured: a text, its numbers under ``numbers``.
        failures: what is wrong, one line each.
        skipped: why it did not run; empty when it did.
        finished: whether it came to its end.
    """

    device: str = ""
    rows: list[dict[str, Any]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    skipped: str = ""
    finished: bool = False


class Report:
    """Findings in a file that is written again at every change.

    Args:
        path: of the JSON file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._findings = Findings()
        self._write()

    def ran_on(self, device: str) -> None:
        """Says where the line computes."""
        self._findings.device = device
        self._write()

    def row(self, text: str, **numbers: Any) -> None:
        """Adds a line of text, with the numbers in it for programs to read."""
        self._findings.rows.append({"text": text, **numbers})
        self._write()

    def fail(self, text: str) -> None:
        """Adds something that is wrong."""
        self._findings.failures.append(" ".join(text.split()))
        self._write()

    def skip(self, why: str) -> None:
        """Says that there is nothing to run."""
        self._findings.skipped = why
        self._write()

    def finish(self) -> None:
        """Says that the line has come to its end."""
        self._findings.finished = True
        self._write()

    def _write(self) -> None:
        temporary = self._path.with_suffix(".part")
        temporary.write_text(json.dumps(asdict(self._findings)))
        temporary.replace(self._path)


def read_findings(path: Path) -> Findings:
    """What a report has written; nothing where there is none."""
    return Findings(**json.loads(path.read_text())) if path.is_file() else Findings()
