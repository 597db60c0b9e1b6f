"""Pictures with one mark per node: its samples by class, and its accuracy. Shapes: M nodes, C classes."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from simulator.arrays import IntArray
from simulator.figures.style import (
    BAR_BLUE,
    GREEN,
    INK,
    ORANGE,
    TICK_SIZE,
    add_legend,
    dress,
    new_figure,
    save,
    sequential_colours,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Up to this number of nodes every node and class has a bubble; beyond it, a coloured cell.
_MOST_BUBBLE_ROWS = 20
# Beyond this number of nodes single nodes cannot be seen, and histograms over nodes are drawn instead.
_MOST_NODES_SHOWN = 100
# Up to this number of nodes every bar has the number of its node.
_MOST_NODES_NUMBERED = 40
_LARGEST_BUBBLE = 0.92  # diameter, in cells


def per_node_accuracy(values: npt.ArrayLike, path: Path) -> Path | None:
    """Accuracy of every node, sorted, with the mean and the 10th percentile; up to 40 nodes with their numbers.

    Args:
        values: accuracy of each node in 0..1, shape [M]; values that are not finite are left out.
        path: the PNG to write.
    """
    by_node = 100.0 * np.asarray(values, dtype=np.float64).ravel()
    nodes = np.argsort(by_node, kind="stable")
    nodes = nodes[np.isfinite(by_node[nodes])]
    accuracies = by_node[nodes]
    if len(accuracies) < 2 or not accuracies.any():
        return None
    has_numbers = len(accuracies) <= _MOST_NODES_NUMBERED
    figure = new_figure(float(np.clip(1.2 + 0.27 * len(accuracies), 6.4, 11.0)) if has_numbers else 6.4)
    axes = figure.add_subplot()
    width = 0.8 if len(accuracies) <= _MOST_NODES_SHOWN else 1.0
    axes.bar(np.arange(1, len(accuracies) + 1), accuracies, width=width, color=BAR_BLUE)
    mean, tenth = accuracies.mean(), np.percentile(accuracies, 10)
    axes.axhline(mean, color=INK, linewidth=1.6, label=f"mean {mean:.1f} %")
    axes.axhline(tenth, color=ORANGE, linewidth=1.6, linestyle="--", label=f"10th percentile {tenth:.1f} %")
    axes.set_xlim(0.3, len(accuracies) + 0.7)
    axes.set_ylim(0.0, min(1.28 * accuracies[-1], 118.0))
    axes.set_yticks([tick for tick in axes.get_yticks() if tick <= 100])
    if has_numbers:
        axes.set_xticks(np.arange(1, len(accuracies) + 1), [str(node) for node in nodes])
    else:
        _use_whole_ticks(axes, "x")
    x_label = "node, from worst to best" if has_numbers else "number of nodes, from worst to best"
    dress(axes, "Accuracy node by node", x_label, "test accuracy (%)")
    axes.legend(fontsize=TICK_SIZE, frameon=False, loc="upper left", ncols=2)
    return save(figure, path)


def partition(label_counts: npt.ArrayLike, path: Path) -> Path | None:
    """Training samples by node and class.

    A bubble per node and class for few of them, a coloured field up to 100 nodes, and counts of nodes beyond.

    Args:
        label_counts: training samples of every node by class, shape [M, C].
        path: the PNG to write.
    """
    counts = np.asarray(label_counts, dtype=np.int64)
    if counts.ndim != 2 or min(counts.shape) < 2 or not counts.any():
        return None
    if len(counts) > _MOST_NODES_SHOWN:
        return save(_draw_histograms(counts), path)
    num_nodes, num_classes = counts.shape
    figure = new_figure(
        width_inches=float(np.clip(2.0 + 0.32 * num_nodes, 5.6, 10.0)),
        height_inches=float(np.clip(2.2 + 0.22 * num_classes, 3.6, 6.5)),
    )
    totals, cells = figure.subplots(2, 1, sharex=True, height_ratios=(1, 3))
    totals.bar(np.arange(num_nodes), counts.sum(axis=1), width=0.75, color=BAR_BLUE)
    totals.margins(y=0.12)
    dress(totals, "Training samples by node and class", "", "samples")
    dress(cells, "", "node", "class", grid=False)
    if max(counts.shape) <= _MOST_BUBBLE_ROWS:
        _draw_bubbles(figure, cells, counts)
    else:
        _draw_field(figure, cells, counts)
    cells.set_xlim(-0.6, num_nodes - 0.4)
    cells.set_ylim(-0.6, num_classes - 0.4)
    _use_whole_ticks(cells, "x")
    _use_whole_ticks(cells, "y")
    return save(figure, path)


def _draw_bubbles(figure: "Figure", axes: "Axes", counts: IntArray) -> None:
    """One disc per (node, class), its area in proportion to the number of samples."""
    from matplotlib.collections import EllipseCollection

    node, label = np.nonzero(counts)
    largest = counts.max()
    diameters = _LARGEST_BUBBLE * np.sqrt(counts[node, label] / largest)
    # Cells are not square, so discs are sized by the cell's shorter side; this follows from the axes' final size.
    figure.draw_without_rendering()
    axes.set_xlim(-0.6, counts.shape[0] - 0.4)
    axes.set_ylim(-0.6, counts.shape[1] - 0.4)
    box = axes.get_window_extent()
    cell_pixels = min(box.width / (counts.shape[0] + 0.2), box.height / (counts.shape[1] + 0.2))
    points = diameters * cell_pixels * 72.0 / figure.dpi
    axes.add_collection(
        EllipseCollection(
            points, points, np.zeros_like(points), units="points", offsets=np.column_stack([node, label]),
            offset_transform=axes.transData, facecolor=GREEN, edgecolor="none", alpha=0.85,
        )
    )  # fmt: skip
    axes.grid(visible=True, color="#EEEEEE", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.set_title(f"area of a disc: number of samples; largest = {largest:,}", fontsize=TICK_SIZE, loc="left")


def _draw_field(figure: "Figure", axes: "Axes", counts: IntArray) -> None:
    """One coloured cell per (node, class); white where the node has none."""
    from matplotlib.colors import PowerNorm

    shown = np.ma.masked_equal(counts.T, 0)
    # Counts of a skewed partition span orders of magnitude; the square root keeps small ones apart from none.
    scale = PowerNorm(0.5, vmin=0, vmax=counts.max())
    image = axes.imshow(
        shown, aspect="auto", origin="lower", cmap=sequential_colours(), interpolation="nearest", norm=scale
    )
    bar = figure.colorbar(image, ax=axes, pad=0.01, aspect=30)
    bar.set_label("samples (white: none)", fontsize=TICK_SIZE)
    bar.ax.tick_params(labelsize=TICK_SIZE)


def _draw_histograms(counts: IntArray) -> "Figure":
    """For many nodes: how many of them hold how many samples, and how many classes."""
    figure = new_figure(9.0, 3.8)
    left, right = figure.subplots(1, 2)
    sizes = counts.sum(axis=1)
    left.hist(sizes, bins=30, color=BAR_BLUE)
    left.axvline(sizes.mean(), color=INK, linewidth=1.6, label=f"mean {sizes.mean():,.0f}")
    dress(left, f"Samples of a node ({len(counts):,} nodes)", "training samples", "nodes")
    add_legend(left)
    num_held = (counts > 0).sum(axis=1)
    values, frequency = np.unique(num_held, return_counts=True)
    right.bar(values, frequency, width=0.8, color=BAR_BLUE)
    right.axvline(num_held.mean(), color=INK, linewidth=1.6, label=f"mean {num_held.mean():.1f}")
    right.set_xlim(-0.6, counts.shape[1] + 0.6)
    _use_whole_ticks(right, "x")
    dress(right, f"Classes of a node (of {counts.shape[1]})", "classes with at least one training sample", "nodes")
    add_legend(right)
    return figure


def _use_whole_ticks(axes: "Axes", which: str) -> None:
    from matplotlib.ticker import MaxNLocator

    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_locator(MaxNLocator(nbins=20, integer=True, steps=[1, 2, 5, 10]))
