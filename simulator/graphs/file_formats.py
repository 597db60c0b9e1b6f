"""What graph files hold, as numbers: edge lists, matrices, and the formats that networkx and SciPy read.

Errors are ValueErrors that say what is wrong within the file; the caller adds its path.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from simulator.arrays import FloatArray


@dataclass(frozen=True)
class Content:
    """The entries of a graph file.

    Attributes:
        is_matrix: whether entries are those of a matrix, W[target, source]; otherwise they are edges, each named once
            if the graph is undirected.
        source, target: nodes as the file numbers them, float64 [E].
        weight: float64 [E]; None when the file has none.
        num_nodes: None when the file does not say it.
        directed: None when the format leaves it open.
    """

    is_matrix: bool
    source: FloatArray
    target: FloatArray
    weight: FloatArray | None
    num_nodes: int | None = None
    directed: bool | None = None


def read_content(path: Path, file_format: str) -> Content:
    """Reads a file in one of :data:`FORMATS`.

    Raises:
        ValueError: when it is not such a file.
    """
    if not path.is_file():
        raise ValueError("there is no such file")
    if file_format == "auto":
        file_format = _BY_SUFFIX.get(path.suffix.lower(), "text")
    return _READERS[file_format](path)


def _read_array(path: Path) -> Content:
    try:
        table = np.asarray(np.load(path, allow_pickle=False), dtype=np.float64)
    except (ValueError, TypeError, OSError, EOFError) as error:
        raise ValueError("not a NumPy array of numbers") from error
    if table.ndim != 2:
        raise ValueError(f"an array of shape {table.shape}; two dimensions are needed")
    return _from_matrix(table)


def _read_text(path: Path) -> Content:
    """Text without an ending that says more: edges if its lines have 2 or 3 columns, otherwise a matrix."""
    count, table = _read_table(path)
    return _from_edges(count, table) if table.shape[1] in (2, 3) else _from_matrix(table)


def _read_edges(path: Path) -> Content:
    return _from_edges(*_read_table(path))


def _read_matrix(path: Path) -> Content:
    return _read_array(path) if path.suffix == ".npy" else _from_matrix(_read_table(path)[1])


def _read_table(path: Path) -> tuple[int | None, FloatArray]:
    """The number of nodes, if it stands alone in a first line before longer ones, and the numbers of the lines."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError("not a text file") from error
    rows: list[list[float]] = []
    count: int | None = None
    for number, line in enumerate(lines, start=1):
        fields = line.split("#")[0].split("%")[0].replace(",", " ").replace(";", " ").split()
        if not fields:
            continue
        try:
            row = [float(field) for field in fields]
        except ValueError as error:
            raise ValueError(f"line {number} is {line.strip()!r}; numbers are needed") from error
        if len(rows) == 1 and len(rows[0]) == 1 and len(row) > 1 and rows[0][0].is_integer():
            count = int(rows.pop()[0])
        if rows and len(row) != len(rows[0]):
            raise ValueError(f"line {number} has {len(row)} columns, the lines before have {len(rows[0])}")
        rows.append(row)
    if not rows:
        raise ValueError("it holds no numbers")
    return count, np.array(rows)


def _from_edges(count: int | None, table: FloatArray) -> Content:
    if table.shape[1] not in (2, 3):
        raise ValueError(f"{table.shape[1]} columns; an edge is 'source target' or 'source target weight'")
    weight = table[:, 2] if table.shape[1] == 3 else None
    return Content(is_matrix=False, source=table[:, 0], target=table[:, 1], weight=weight, num_nodes=count)


def _from_matrix(table: FloatArray) -> Content:
    if table.shape[0] != table.shape[1]:
        raise ValueError(f"a matrix of shape {table.shape}; it must be square")
    target, source = np.nonzero(table)
    return _matrix_entries(target, source, table[target, source], len(table))


def _matrix_entries(target: Any, source: Any, weight: FloatArray, num_nodes: int) -> Content:
    """Entries that are all 1 say only who is a neighbour."""
    return Content(
        is_matrix=True,
        source=source.astype(np.float64),
        target=target.astype(np.float64),
        weight=None if (weight == 1).all() else weight,
        num_nodes=num_nodes,
    )


def _read_matrix_market(path: Path) -> Content:
    from scipy.io import mmread
    from scipy.sparse import coo_array

    try:
        entries = coo_array(mmread(path))
    except (ValueError, TypeError, OSError, OverflowError) as error:
        raise ValueError(f"not a MatrixMarket file ({_first_line(error)})") from error
    if entries.shape[0] != entries.shape[1]:
        raise ValueError(f"a matrix of shape {entries.shape}; it must be square")
    if np.iscomplexobj(entries.data):
        raise ValueError("a matrix of complex numbers; real weights are needed")
    entries.sum_duplicates()
    entries.eliminate_zeros()
    target, source = entries.coords
    return _matrix_entries(target, source, entries.data.astype(np.float64), entries.shape[0])


def _networkx_reader(name: str) -> Callable[[Path], Content]:
    def read(path: Path) -> Content:
        """Reads through networkx.

        Nodes are numbered by their names if these are the integers from 0, otherwise in the order of the file.
        """
        # Imported here: it takes a third of a second, and few runs need it.
        import networkx

        try:
            if name == "read_gml":
                graph = networkx.parse_gml(_with_parallel_edges(path.read_text(encoding="utf-8-sig")), label=None)
            else:
                graph = getattr(networkx, name)(path)
        except (networkx.NetworkXException, ValueError, TypeError, LookupError, OSError, SyntaxError) as error:
            raise ValueError(f"networkx.{name} cannot read it ({_first_line(error)})") from error
        names = list(graph)
        numbers = {str(number) for number in range(len(names))}
        numbered = numbers == {str(each) for each in names}
        index = {each: int(each) if numbered else position for position, each in enumerate(names)}
        edges = list(graph.edges(data="weight"))
        weights = [weight for _, _, weight in edges]
        if any(weight is None for weight in weights) and any(weight is not None for weight in weights):
            raise ValueError("some edges have a weight and others have none")
        try:
            weight = np.array(weights, dtype=np.float64) if weights and weights[0] is not None else None
        except (TypeError, ValueError) as error:
            raise ValueError(f"the weights of edges are not all numbers ({_first_line(error)})") from error
        return Content(
            is_matrix=False,
            source=np.array([index[source] for source, _, _ in edges], dtype=np.float64),
            target=np.array([index[target] for _, target, _ in edges], dtype=np.float64),
            weight=weight,
            num_nodes=len(names),
            # An adjacency list does not say which it is.
            directed=None if name == "read_adjlist" else graph.is_directed(),
        )

    return read


def _with_parallel_edges(gml: str) -> str:
    """Says that parallel edges are allowed: files of the Internet Topology Zoo have some without saying so."""
    return gml if "multigraph" in gml else re.sub(r"\bgraph\s*\[", "graph [\n  multigraph 1", gml, count=1)


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__


_READERS: dict[str, Callable[[Path], Content]] = {
    "text": _read_text,
    "edges": _read_edges,
    "matrix": _read_matrix,
    "gml": _networkx_reader("read_gml"),
    "graphml": _networkx_reader("read_graphml"),
    "adjlist": _networkx_reader("read_adjlist"),
    "matrix_market": _read_matrix_market,
}
_BY_SUFFIX = {
    ".npy": "matrix",
    ".csv": "matrix",
    ".gml": "gml",
    ".graphml": "graphml",
    ".adjlist": "adjlist",
    ".mtx": "matrix_market",
}
FORMATS = ("auto", *(name for name in _READERS if name != "text"))
"""What ``graph.format`` may be; auto goes by the ending of the file."""
