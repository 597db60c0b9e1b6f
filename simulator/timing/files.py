"""CSV files of timings: durations of local steps, and links."""

import csv
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class StepTrace:
    """Durations of local steps that hold from a step or a time on.

    Attributes:
        by_time: whether ``begins`` are simulated times in seconds instead of local steps.
        first: where the lines of every node begin, and the number of lines at the end, shape [n + 1].
        begins: from where on a line holds, ascending within a node, shape [L].
        step_s: duration of a local step, seconds, shape [L].
    """

    by_time: bool
    first: IntArray
    begins: FloatArray
    step_s: FloatArray


@dataclass(frozen=True, eq=False)
class LinkTable:
    """Links of some ordered pairs of nodes.

    Attributes:
        codes: source * num_nodes + target, ascending, shape [L].
        latency_s: seconds, shape [L].
        bandwidth: bytes per second, infinite for no limit, shape [L].
    """

    codes: IntArray
    latency_s: FloatArray
    bandwidth: FloatArray


class _File:
    """A CSV file whose errors name it, its setting and the line."""

    def __init__(self, setting: str, path: str) -> None:
        self.setting = setting
        self.path = Path(path).expanduser()

    def error(self, what: str, line: int | None = None) -> ValueError:
        where = "" if line is None else f" line {line}:"
        return ValueError(f"timing.{self.setting}={str(self.path)!r}:{where} {what}")

    def rows(self, *headers: tuple[str, ...]) -> Iterator[tuple[int, list[str]]]:
        """Yields (line number, fields), first the columns' names; fields in the order of the header that fits."""
        if not self.path.is_file():
            raise self.error("there is no such file")
        try:
            lines = self.path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError as error:
            raise self.error("not a text file") from error
        wanted = " or ".join(",".join(header) for header in headers)
        order: list[int] | None = None
        names: list[str] = []
        for number, line in enumerate(lines, start=1):
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            fields = [field.strip() for field in next(csv.reader([line]))]
            if order is None:
                names = fields
                header = next((header for header in headers if set(header) <= set(names)), None)
                if header is None:
                    raise self.error(f"the columns are {','.join(names)}; expected {wanted}", number)
                order = [names.index(name) for name in header]
                yield number, list(header)
                continue
            if len(fields) != len(names):
                raise self.error(f"{len(fields)} fields; the first line names {len(names)} columns", number)
            yield number, [fields[column] for column in order]
        if order is None:
            raise self.error(f"it is empty; expected a first line {wanted}")

    def node(self, text: str, line: int, name: str, num_nodes: int | None = None) -> int:
        """A node index."""
        value = self.integer(text, line, name)
        if num_nodes is not None and value >= num_nodes:
            raise self.error(f"{name}={value}: nodes are 0 to {num_nodes - 1} (num_nodes={num_nodes})", line)
        return value

    def integer(self, text: str, line: int, name: str) -> int:
        """An integer of at least 0."""
        try:
            value = int(text)
        except ValueError:
            value = -1
        if value < 0:
            raise self.error(f"{name}={text}: expected an integer of at least 0", line)
        return value

    def number(self, text: str, line: int, name: str, *, positive: bool = False) -> float:
        """A finite number of at least 0, or above 0."""
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not (math.isfinite(value) and value >= 0 and (value > 0 or not positive)):
            expected = "a positive number" if positive else "a finite number of at least 0"
            raise self.error(f"{name}={text}: expected {expected}", line)
        return value


def read_step_trace(path: str) -> StepTrace:
    """Reads ``node,k,step_s`` or ``node,start_s,step_s``; nodes may come in any order, a node's lines in theirs.

    Raises:
        ValueError: one line with the path, and the line number where there is one.
    """
    file = _File("path", path)
    rows = file.rows(("node", "k", "step_s"), ("node", "start_s", "step_s"))
    _, (_, begin_name, _) = next(rows)
    by_time = begin_name == "start_s"
    lines: dict[int, list[tuple[float, float]]] = {}
    for number, (node_text, begin_text, step_text) in rows:
        node = file.node(node_text, number, "node")
        read = file.number if by_time else file.integer
        begin = float(read(begin_text, number, begin_name))
        own = lines.setdefault(node, [])
        if not own and begin > 0:
            raise file.error(f"node {node} begins at {begin_name}={begin:g}; its first line needs 0", number)
        if own and begin <= own[-1][0]:
            raise file.error(f"node {node} runs backwards, from {begin_name}={own[-1][0]:g} to {begin:g}", number)
        own.append((begin, file.number(step_text, number, "step_s")))
    if not lines:
        raise file.error("it names no node")
    num_nodes = max(lines) + 1
    missing = next((node for node in range(num_nodes) if node not in lines), None)
    if missing is not None:
        raise file.error(f"node {missing} is missing; the nodes are 0 to {num_nodes - 1}")
    table = np.array([entry for node in range(num_nodes) for entry in lines[node]])
    counts = [len(lines[node]) for node in range(num_nodes)]
    first = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return StepTrace(by_time, first, table[:, 0].copy(), table[:, 1].copy())


def read_link_file(path: str, num_nodes: int) -> LinkTable:
    """Reads ``source,target,latency_s,bandwidth``.

    Raises:
        ValueError: one line with the path, and the line number where there is one.
    """
    file = _File("links_path", path)
    rows = file.rows(("source", "target", "latency_s", "bandwidth"))
    next(rows)
    pairs: dict[int, tuple[float, float]] = {}
    for number, (source_text, target_text, latency_text, bandwidth_text) in rows:
        source = file.node(source_text, number, "source", num_nodes)
        target = file.node(target_text, number, "target", num_nodes)
        code = source * num_nodes + target
        if source == target:
            raise file.error(f"a link from node {source} to itself", number)
        if code in pairs:
            raise file.error(f"the link from node {source} to {target} stands there twice", number)
        bandwidth = file.number(bandwidth_text, number, "bandwidth", positive=True) if bandwidth_text else math.inf
        pairs[code] = (file.number(latency_text, number, "latency_s"), bandwidth)
    codes = np.array(sorted(pairs), dtype=np.int64)
    table = np.array([pairs[code] for code in codes.tolist()]).reshape(-1, 2)
    return LinkTable(codes, table[:, 0].copy(), table[:, 1].copy())
