"""A static graph that is read from a file.

Definition: format=edges is text with a line "source target" or "source target weight" per edge (blanks or commas
between), nodes numbered from 0, W[target, source] = weight; format=matrix is a square array with W[row, column] in row,
column, as .npy or as text. ``#`` starts a comment. format=auto takes .npy and .csv for matrices, and other text for
edges if its lines have 2 or 3 columns, otherwise for a matrix. directed=false reads an edge line in both directions and
requires a matrix with a symmetric support.
Weights of the file are used as they are (a self-loop is a line "i i weight"). They must not be negative, and the rows,
the columns or both must sum to 1; the graph declares which. Doubly stochastic weights that are not symmetric make it
directed. Without weights (or with a matrix of zeros and ones) self-loops are added and the rule is Metropolis
(undirected: doubly stochastic) or 1/out-degree (directed: column-stochastic). A rule that is named (weights) is taken
instead of these, and of the weights of the file. Static.
Sends: 1 message per edge and round.
Source: none.
Departures: none.
"""

from functools import cached_property
from pathlib import Path

import numpy as np

from simulator.arrays import FloatArray, IntArray
from simulator.graphs.base import Edges, PeriodicGraph, Stochasticity
from simulator.graphs.support import directed_support, undirected_support
from simulator.graphs.symmetry import is_symmetric
from simulator.graphs.weight_rules import AUTO, rule_of
from simulator.graphs.weights import SUM_TOLERANCE, stochasticity_of

_FORMATS = ("auto", "edges", "matrix")


class File(PeriodicGraph):
    """A static graph from an edge list or a matrix.

    Args:
        path: the file.
        format: auto, edges or matrix.
        directed: whether an edge runs only in the direction in which it is written.
        weights: "auto", or the name of a weight rule, see :func:`simulator.graphs.weight_rules.rule_of`.
        gamma: of the rule nw_optimal, in (0, 1); other rules do not use it.

    Raises:
        ValueError: when ``format`` or ``weights`` is unknown; from the first use, when the file is missing, cannot be
            understood, or does not fit ``num_nodes``, ``directed`` or any kind of stochasticity.
    """

    def __init__(
        self,
        *,
        num_nodes: int,
        path: str,
        format: str = "auto",
        directed: bool = False,
        weights: str = AUTO,
        gamma: float = 0.95,
        seed: int = 0,
    ) -> None:
        super().__init__(num_nodes=num_nodes, seed=seed)
        if format not in _FORMATS:
            raise ValueError(f"graph.format={format!r}: the formats are {', '.join(_FORMATS)}")
        self.path = Path(path).expanduser()
        self.format = format
        self._directed = directed
        self.weights = weights
        self._rule, self._rule_stochasticity = rule_of(weights, num_nodes, gamma, directed=directed)

    @property
    def directed(self) -> bool:
        """As given; true of a doubly stochastic matrix that differs from its transpose by more than rounding."""
        edges, stochasticity = self._content
        return self._directed or (stochasticity == "double" and not is_symmetric(edges))

    @property
    def stochasticity(self) -> Stochasticity:
        """As found from the weights of the file."""
        return self._content[1]

    def build(self, phase: int) -> Edges:
        """Reads the file."""
        return self._content[0]

    @cached_property
    def _content(self) -> tuple[Edges, Stochasticity]:
        table = self._read()
        by_edge = self.format == "edges" or (
            self.format == "auto" and self.path.suffix not in (".npy", ".csv") and table.shape[1] in (2, 3)
        )
        source, target, weight = self._from_edges(table) if by_edge else self._from_matrix(table)
        if weight is None or self.weights != AUTO:
            joined = slice(None) if weight is None else weight != 0
            support = directed_support if self._directed else undirected_support
            source, target = support(source[joined], target[joined], self.num_nodes)
            weight = self._rule(source, target, self.num_nodes)
            return Edges.from_sorted(source, target, weight), self._rule_stochasticity
        if not np.isfinite(weight).all() or (weight < 0).any():
            raise self._error("weights must be finite and not negative")
        stochasticity = stochasticity_of(source, target, weight, self.num_nodes)
        if stochasticity is None:
            rows = np.bincount(target, weight, self.num_nodes)
            worst = int(np.argmax(np.abs(rows - 1.0)))
            raise self._error(
                f"neither the rows nor the columns of the mixing matrix sum to 1 within {SUM_TOLERANCE} (row {worst}: "
                f"{rows[worst]:.9g}); self-weights are part of it. Leave the weights out to have them computed"
            )
        used = weight != 0
        return Edges.build(source[used], target[used], weight[used]), stochasticity

    def _read(self) -> FloatArray:
        """The numbers of the file as a table of two dimensions."""
        if not self.path.is_file():
            raise self._error("there is no such file")
        if self.path.suffix == ".npy":
            try:
                array = np.load(self.path, allow_pickle=False)
                table = np.asarray(array, dtype=np.float64)
            except (ValueError, TypeError, OSError, EOFError) as error:
                raise self._error("not a NumPy array of numbers") from error
            if table.ndim != 2:
                raise self._error(f"an array of shape {table.shape}; two dimensions are needed")
            return table
        rows: list[list[float]] = []
        try:
            lines = self.path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError as error:
            raise self._error("not a text file") from error
        for number, line in enumerate(lines, start=1):
            fields = line.split("#")[0].replace(",", " ").split()
            if not fields:
                continue
            try:
                rows.append([float(field) for field in fields])
            except ValueError as error:
                raise self._error(f"line {number} is {line.strip()!r}; numbers are needed") from error
            if len(rows[-1]) != len(rows[0]):
                raise self._error(f"line {number} has {len(rows[-1])} columns, the lines before have {len(rows[0])}")
        if not rows:
            raise self._error("it holds no numbers")
        return np.array(rows)

    def _from_edges(self, table: FloatArray) -> tuple[IntArray, IntArray, FloatArray | None]:
        if table.shape[1] not in (2, 3):
            raise self._error(f"{table.shape[1]} columns; an edge is 'source target' or 'source target weight'")
        nodes = table[:, :2]
        bad = np.flatnonzero(((nodes != np.floor(nodes)) | (nodes < 0) | (nodes >= self.num_nodes)).any(axis=1))
        if len(bad):
            shown = " ".join(f"{value:g}" for value in nodes[bad[0]])
            raise self._error(f"edge '{shown}': nodes are 0 to {self.num_nodes - 1} (num_nodes={self.num_nodes})")
        source, target = nodes.astype(np.int64).T
        if table.shape[1] == 2:
            return source, target, None
        weight = table[:, 2]
        if not self._directed:
            mirrored = source != target
            source, target, weight = (
                np.concatenate([source, target[mirrored]]),
                np.concatenate([target, source[mirrored]]),
                np.concatenate([weight, weight[mirrored]]),
            )
        keys, counts = np.unique(target * self.num_nodes + source, return_counts=True)
        if (counts > 1).any():
            row, column = divmod(int(keys[np.argmax(counts > 1)]), self.num_nodes)
            raise self._error(
                f"edge '{column} {row}' has two weights; give each edge once, or directed=true for both directions"
            )
        return source, target, weight

    def _from_matrix(self, table: FloatArray) -> tuple[IntArray, IntArray, FloatArray | None]:
        if table.shape != (self.num_nodes, self.num_nodes):
            raise self._error(f"a matrix of shape {table.shape}, but num_nodes={self.num_nodes}")
        support = table != 0
        if not self._directed and (support != support.T).any():
            row, column = np.argwhere(support != support.T)[0]
            raise self._error(
                f"of entries ({row}, {column}) and ({column}, {row}) only one is not 0; set graph.directed=true"
            )
        target, source = np.nonzero(support)
        weight = table[support]
        return source, target, (None if (weight == 1).all() else weight)

    def _error(self, what: str) -> ValueError:
        return ValueError(f"graph.path={str(self.path)!r}: {what}")
