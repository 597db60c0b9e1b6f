"""A CSV file of absences: ``node,leave_s,return_s``, simulated seconds; an empty ``return_s`` means for ever."""

import csv
import math
from pathlib import Path

import numpy as np

from simulator.arrays import FloatArray

HEADER = ["node", "leave_s", "return_s"]


def read_absences(path: str, num_nodes: int) -> FloatArray:
    """Reads the file; shape [L, 3] with columns node, leave_s, return_s (infinite where empty).

    Raises:
        ValueError: one line that names ``faults.path``, and the line number where there is one.
    """

    def error(what: str, line: int | None = None) -> ValueError:
        return ValueError(f"faults.path={path!r}:{'' if line is None else f' line {line}:'} {what}")

    file = Path(path).expanduser()
    if not file.is_file():
        raise error("there is no such file")
    with file.open(newline="", encoding="utf-8") as text:
        lines = list(enumerate(csv.reader(text), start=1))
    if not lines or [field.strip() for field in lines[0][1]] != HEADER:
        raise error(f"expected a first line {','.join(HEADER)}")
    rows: list[tuple[float, float, float]] = []
    ends: dict[int, float] = {}
    for number, fields in lines[1:]:
        if not any(field.strip() for field in fields):
            continue
        try:
            node, leave = int(fields[0]), float(fields[1])
            back = float(fields[2]) if fields[2].strip() else math.inf
        except (ValueError, IndexError):
            raise error("expected node,leave_s,return_s", number) from None
        if not 0 <= node < num_nodes:
            raise error(f"node={node}: nodes are 0 to {num_nodes - 1} (num_nodes={num_nodes})", number)
        if not 0 <= leave < back:
            raise error(f"leave_s={leave:g}, return_s={back:g}: expected 0 <= leave_s < return_s", number)
        if leave < ends.get(node, 0.0):
            raise error(f"node {node} leaves at {leave:g} and is away until {ends[node]:g}", number)
        ends[node] = back
        rows.append((float(node), leave, back))
    return np.array(rows, dtype=np.float64).reshape(-1, 3)
