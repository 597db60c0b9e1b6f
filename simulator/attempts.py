"""Attempts of torchrun: the run folder for the next one (``--max-restarts``), and why this one has failed."""

import contextlib
import json
import os
import tempfile
import time
from pathlib import Path


def previous() -> str | None:
    """The run folder of the previous attempt, when torchrun has restarted this process."""
    path = _file()
    return path.read_text().strip() or None if path is not None and path.is_file() else None


def remember(folder: str) -> None:
    """Writes the run folder to the file for the next attempt. Every rank does, as the next rank 0 may be elsewhere."""
    path = _file()
    if path is not None:
        path.write_text(str(Path(folder).resolve()))


def forget() -> None:
    """Removes the file when there will be no further attempt."""
    path = _file()
    if path is not None:
        path.unlink(missing_ok=True)


def tell_torchrun(line: str) -> None:
    """Has torchrun end its own report of failures with this line."""
    path = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if path:
        extra = {"py_callstack": line, "timestamp": str(int(time.time()))}
        with contextlib.suppress(OSError):
            Path(path).write_text(json.dumps({"message": {"message": line, "extraInfo": extra}}))


def _file() -> Path | None:
    """The file that names the run folder for the next attempt of torchrun; None outside torchrun.

    Every torchrun process has a file of its own. Its name holds the process id and the start time, because process ids
    are reused.
    """
    if int(os.environ.get("TORCHELASTIC_MAX_RESTARTS", "0")) == 0:
        return None
    stat = Path(f"/proc/{os.getppid()}/stat")
    started_at = stat.read_text().rpartition(")")[2].split()[19] if stat.is_file() else ""
    return Path(tempfile.gettempdir()) / f"hypergossip-{os.getppid()}-{started_at}"
