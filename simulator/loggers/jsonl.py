"""metrics.jsonl: one JSON object per evaluation, ``{"step": 100, "train/loss": 0.25, ...}``.

The file is strict JSON, which cannot represent NaN and infinity: a value that is not finite is written as null
(and read back as NaN). Other numbers are written with enough digits to be read back bit by bit.
Every line is written to the operating system as one piece before the run continues.
"""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

from simulator.loggers.base import Logger, Metric

FILE_NAME = "metrics.jsonl"
Record = dict[str, Any]


class JsonlLogger(Logger):
    """Writes ``metrics.jsonl`` into the run folder.

    A resumed run keeps the lines up to its checkpoint and writes the later ones again, so that the file equals
    that of an uninterrupted run.
    """

    def __init__(self) -> None:
        self._file: TextIO | None = None

    def start(
        self,
        run_folder: Path,
        config: Mapping[str, Any],
        environment: Mapping[str, Any],
        resume_step: int | None = None,
    ) -> None:
        """Opens the file; removes lines after ``resume_step``, or all lines when it is None."""
        path = run_folder / FILE_NAME
        if resume_step is not None and path.exists():
            kept = [line for line, record in _lines(path) if record["step"] <= resume_step]
            rewritten = path.with_suffix(".jsonl.part")
            rewritten.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
            os.replace(rewritten, path)
            self._file = path.open("a", encoding="utf-8")
        else:
            self._file = path.open("w", encoding="utf-8")

    def log(self, metrics: Mapping[str, Metric], step: int) -> None:
        """Writes one line."""
        assert self._file is not None, "log before start"
        assert "step" not in metrics
        record = {"step": int(step)} | {name: _plain(value) for name, value in metrics.items()}
        self._file.write(json.dumps(record, allow_nan=False) + "\n")
        self._file.flush()

    def close(self, failed: bool) -> None:
        """Closes the file; the lines of a failed run stay."""
        if self._file is not None:
            self._file.close()
            self._file = None


def read_records(path: Path) -> list[Record]:
    """Reads a ``metrics.jsonl``: one dict per evaluation, in the order of the file; null becomes NaN.

    A last line that a crash cut short is left out.

    Raises:
        ValueError: when the file is not there, or another line is not a JSON object with a "step".
    """
    return [{name: _from_json(value) for name, value in record.items()} for _, record in _lines(path)]


def _lines(path: Path) -> list[tuple[str, Record]]:
    """The whole lines of the file, as text and parsed."""
    if not path.is_file():
        raise ValueError(f"{path}: no such file; a run writes it into its folder")
    texts = path.read_text(encoding="utf-8", errors="replace").split("\n")
    while texts and not texts[-1].strip():
        texts.pop()
    parsed: list[tuple[str, Record]] = []
    for number, text in enumerate(texts, start=1):
        try:
            record = json.loads(text)
        except json.JSONDecodeError as error:
            if number == len(texts):
                break
            raise ValueError(f"{path}, line {number}: not JSON ({error}); expected one object per line") from error
        if not isinstance(record, dict) or not isinstance(record.get("step"), int):
            raise ValueError(f'{path}, line {number}: expected a JSON object with an integer "step"')
        parsed.append((text, record))
    return parsed


def _plain(value: Any) -> Any:
    """Converts values of Python, NumPy and torch to numbers and lists of them; None for values that are not finite."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, int):
        return value
    number = float(value)
    return number if math.isfinite(number) else None


def _from_json(value: Any) -> Any:
    if isinstance(value, list):
        return [_from_json(item) for item in value]
    return math.nan if value is None else value
