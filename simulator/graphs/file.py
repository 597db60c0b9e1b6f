"""A static graph that is read from a file.

Definition: format=edges is text with a line "source target" or "source target weight" per edge (blanks, commas or
semicolons between), nodes numbered from 0, W[target, source] = weight; a first line with one number is the number of
nodes. format=matrix is a square array with W[row, column] in row, column, as .npy or as text. ``#`` and ``%`` start a
comment. gml, graphml and adjlist are read by networkx (nodes have the numbers that are their names, or else are
numbered in the order of the file; the edge attribute ``weight`` is W[target, source]), matrix_market (.mtx) by SciPy.
format=auto goes by the ending (.npy and .csv are matrices); other text is read as edges if its lines have 2 or 3
columns, otherwise as a matrix. directed=false reads an edge in both directions and requires a matrix with a symmetric
support.
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
from simulator.graphs.file_formats import FORMATS, read_content
from simulator.graphs.support import directed_support, undirected_support
from simulator.graphs.symmetry import is_symmetric
from simulator.graphs.weight_rules import AUTO, rule_of
from simulator.graphs.weights import SUM_TOLERANCE, stochasticity_of


class File(PeriodicGraph):
    """A static graph from an edge list or a matrix.

    Args:
        path: the file.
        format: one of :data:`simulator.graphs.file_formats.FORMATS`.
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
        if format not in FORMATS:
            raise ValueError(f"graph.format={format!r}: the formats are {', '.join(FORMATS)}")
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
        source, target, weight = self._entries()
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
            rule = "out_degree" if self._directed else "metropolis"
            raise self._error(
                f"neither the rows nor the columns of the mixing matrix sum to 1 within {SUM_TOLERANCE} (row {worst}: "
                f"{rows[worst]:.9g}); self-weights are part of it. If the weights of the file are something else, such "
                f"as lengths, set graph.weights={rule} to have them computed"
            )
        used = weight != 0
        return Edges.build(source[used], target[used], weight[used]), stochasticity

    def _entries(self) -> tuple[IntArray, IntArray, FloatArray | None]:
        """The entries of W or its support: an edge of an undirected graph in both directions."""
        try:
            content = read_content(self.path, self.format)
        except ValueError as error:
            raise self._error(str(error)) from error
        if content.num_nodes not in (None, self.num_nodes):
            raise self._error(f"a graph of {content.num_nodes} nodes, but num_nodes={self.num_nodes}")
        if content.directed and not self._directed:
            raise self._error("the graph of the file is directed; set graph.directed=true")
        nodes = np.stack([content.source, content.target])
        bad = np.flatnonzero(((nodes != np.floor(nodes)) | (nodes < 0) | (nodes >= self.num_nodes)).any(axis=0))
        if len(bad):
            shown = " ".join(f"{value:g}" for value in nodes[:, bad[0]])
            from_one = " The file seems to number them from 1." if nodes.min() == 1 else ""
            raise self._error(
                f"edge '{shown}': nodes are 0 to {self.num_nodes - 1} (num_nodes={self.num_nodes}).{from_one}"
            )
        source, target = nodes.astype(np.int64)
        weight = content.weight
        if content.is_matrix:
            self._require_symmetric_support(source, target)
            return source, target, weight
        # An undirected edge is in the file once, or twice with the same weight.
        if not self._directed or content.directed is False:
            mirrored = source != target
            source, target = (
                np.concatenate([source, target[mirrored]]),
                np.concatenate([target, source[mirrored]]),
            )
            weight = None if weight is None else np.concatenate([weight, weight[mirrored]])
        if weight is None:
            return source, target, None
        entries = np.unique(np.stack([target * self.num_nodes + source, weight]), axis=1)
        row, column = np.divmod(entries[0].astype(np.int64), self.num_nodes)
        again = np.flatnonzero(np.diff(entries[0]) == 0)
        if len(again):
            raise self._error(
                f"edge '{column[again[0]]} {row[again[0]]}' has two weights; give each edge once, or directed=true for "
                "both directions"
            )
        return column, row, entries[1]

    def _require_symmetric_support(self, source: IntArray, target: IntArray) -> None:
        if self._directed:
            return
        alone = np.setdiff1d(target * self.num_nodes + source, source * self.num_nodes + target)
        if len(alone):
            row, column = divmod(int(alone[0]), self.num_nodes)
            raise self._error(
                f"of entries ({row}, {column}) and ({column}, {row}) only one is not 0; set graph.directed=true"
            )

    def _error(self, what: str) -> ValueError:
        return ValueError(f"graph.path={str(self.path)!r}: {what}")
