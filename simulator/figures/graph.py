"""The graph of a schedule, drawn on a circle, and its mixing matrices W_t."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from simulator.arrays import FloatArray
from simulator.figures.style import (
    BLUE,
    INK,
    LABEL_SIZE,
    TICK_SIZE,
    TITLE_SIZE,
    dress,
    new_figure,
    save,
    sequential_colours,
)
from simulator.graphs.base import Edges, Graph

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


_MOST_ROUNDS = 4
_MOST_NODES_DRAWN = 60
_MOST_EDGES_DRAWN = 400
# A larger matrix has more rows than the picture has pixels, and needs too much memory.
_MOST_ROWS_SHOWN = 400
_MOST_ROWS_WITH_NUMBERS = 6


def graph_and_mixing_matrix(graph: Graph, path: Path, step: int = 0) -> Path | None:
    """The first rounds of a schedule from ``step`` on: the graph, and W_t below it (beside it for a static graph).

    At most four rounds, and no more than the schedule's period. Beyond 60 nodes or 400 edges a round the graph
    itself is left out, beyond 400 nodes the whole picture.
    """
    if not 2 <= graph.num_nodes <= _MOST_ROWS_SHOWN:
        return None
    rounds = [graph.edges(step + later) for later in range(min(graph.period or _MOST_ROUNDS, _MOST_ROUNDS))]
    most_edges = max(int(np.sum(edges.source != edges.target)) for edges in rounds)
    if most_edges == 0:
        return None
    with_graph = graph.num_nodes <= _MOST_NODES_DRAWN and most_edges <= _MOST_EDGES_DRAWN
    single = len(rounds) == 1
    # One round: side by side. Several: a column for each.
    num_rows = 2 if with_graph and not single else 1
    num_columns = 2 if with_graph and single else len(rounds)
    size = 2.9 if num_columns > 2 else 3.8
    figure = new_figure(max(size * num_columns + 1.0, 6.8), size * num_rows + 1.1)
    figure.set_layout_engine("compressed")
    panels = figure.subplots(num_rows, num_columns, squeeze=False).ravel()
    if with_graph:
        for index, edges in enumerate(rounds):
            _draw_graph(panels[index], edges, graph.num_nodes, graph.directed)
    matrices = [edges.to_matrix(graph.num_nodes) for edges in rounds]
    _draw_matrices(figure, list(panels[-len(rounds) :]), matrices)
    for index in range(len(rounds)):
        title = "graph" if single and with_graph else f"round {step + index}"
        panels[index].set_title(title, fontsize=LABEL_SIZE, color=INK)
    if single:
        panels[-1].set_title("mixing matrix W", fontsize=LABEL_SIZE, color=INK)
    figure.suptitle(describe_schedule(graph, most_edges), fontsize=TITLE_SIZE, color=INK)
    return save(figure, path)


def describe_schedule(graph: Graph, most_edges: int) -> str:
    """Two lines about a schedule with so many messages a round: name and size; edges, period, stochasticity."""
    words = {"double": "doubly stochastic", "column": "columns sum to 1", "row": "rows sum to 1"}
    kind, num_edges = ("directed", most_edges) if graph.directed else ("undirected", most_edges // 2)
    period = "random rounds" if graph.period is None else "static" if graph.period == 1 else f"period {graph.period}"
    name = f"{graph.description} on {graph.num_nodes} nodes"
    return f"{name}\n{num_edges} {kind} edges a round, {period}, {words[graph.stochasticity]}"


def _draw_matrices(figure: "Figure", panels: "Sequence[Axes]", matrices: Sequence[FloatArray]) -> None:
    """The matrices [M, M] side by side on one colour scale."""
    num_nodes = len(matrices[0])
    lowest = min(0.0, min(float(matrix.min()) for matrix in matrices))
    highest = max(float(matrix.max()) for matrix in matrices)
    images = []
    for axes, matrix in zip(panels, matrices, strict=True):
        shown = np.ma.masked_equal(matrix, 0.0)
        image = axes.imshow(shown, cmap=sequential_colours(), vmin=lowest, vmax=highest, interpolation="nearest")
        images.append(image)
        if num_nodes <= _MOST_ROWS_WITH_NUMBERS:
            _write_numbers(axes, matrix, lowest, highest)
        dress(axes, "", "sending node j", "receiving node i" if axes is panels[0] else "", grid=False)
        axes.spines[["top", "right"]].set_visible(True)
        _use_node_ticks(axes, num_nodes)
    bar = figure.colorbar(images[0], ax=list(panels), shrink=0.9, aspect=25, pad=0.02)
    bar.set_label("weight W[i, j] (white: 0)", fontsize=TICK_SIZE)
    bar.ax.tick_params(labelsize=TICK_SIZE)


def _draw_graph(axes: "Axes", edges: Edges, num_nodes: int, directed: bool) -> None:
    """Nodes on a circle, clockwise from the top; arrows point from sender to receiver."""
    from matplotlib.collections import LineCollection
    from matplotlib.patches import FancyArrowPatch

    angles = 2.0 * np.pi * np.arange(num_nodes) / num_nodes
    places: FloatArray = np.column_stack([np.sin(angles), np.cos(angles)])
    area = float(np.clip(4200.0 / num_nodes, 40.0, 320.0))
    other = edges.source != edges.target
    source, target = edges.source[other], edges.target[other]
    if directed:
        radius_points = np.sqrt(area) / 2.0
        for start, end in zip(places[source], places[target], strict=True):
            arrow = FancyArrowPatch(
                start, end, arrowstyle="-|>", mutation_scale=9, linewidth=0.9, color="#666666",
                shrinkA=radius_points, shrinkB=radius_points, connectionstyle="arc3,rad=0.12",
            )  # fmt: skip
            axes.add_patch(arrow)
    else:
        axes.add_collection(
            LineCollection(list(np.stack([places[source], places[target]], axis=1)), colors="#888888", linewidths=0.9)
        )
    axes.scatter(places[:, 0], places[:, 1], s=area, color=BLUE, zorder=3)
    if num_nodes <= 32:
        for node, (x, y) in enumerate(places):
            axes.text(
                x,
                y,
                str(node),
                color="white",
                fontsize=9 if num_nodes <= 16 else 6,
                ha="center",
                va="center_baseline",
                zorder=4,
            )
    axes.set_xlim(-1.2, 1.2)
    axes.set_ylim(-1.2, 1.2)
    axes.set_aspect("equal")
    axes.set_axis_off()


def _write_numbers(axes: "Axes", matrix: FloatArray, lowest: float, highest: float) -> None:
    middle = (lowest + highest) / 2.0
    for row, column in zip(*np.nonzero(matrix), strict=True):
        weight = matrix[row, column]
        axes.text(
            column,
            row,
            f"{weight:.2g}",
            ha="center",
            va="center",
            fontsize=9,
            color="white" if weight > middle else INK,
        )


def _use_node_ticks(axes: "Axes", num_nodes: int) -> None:
    from matplotlib.ticker import MaxNLocator

    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(nbins=min(num_nodes, 8), integer=True, steps=[1, 2, 5, 10]))
