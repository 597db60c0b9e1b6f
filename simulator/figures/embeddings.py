"""The embeddings of nodes that an algorithm has learned, and the classes of their data.

Shapes: N nodes, d dimensions, C classes.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from simulator.arrays import FloatArray, IntArray
from simulator.figures.style import INK, TICK_SIZE, dress, new_figure, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


# Colours beyond these cannot be told apart one by one and become a scale.
_MOST_COLOURS = 20
# Radius of a node's disc, as a share of the longer side of the axes.
_RADIUS = 0.022


def principal_plane(points: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The two directions in which points differ most.

    Args:
        points: [N, d]

    Returns:
        Coordinates [N, 2] about the mean, each with its largest entry positive, and the share of the variance along
        each, [2]; zeros for a direction that does not exist.
    """
    centred = points - points.mean(axis=0)
    left, lengths, _ = np.linalg.svd(centred, full_matrices=False)
    plane = np.zeros((len(points), 2))
    shares = np.zeros(2)
    kept = min(2, len(lengths))
    plane[:, :kept] = left[:, :kept] * lengths[:kept]
    plane *= np.where(plane[np.abs(plane).argmax(axis=0), [0, 1]] < 0, -1.0, 1.0)
    total = np.square(lengths).sum()
    if total > 0:
        shares[:kept] = np.square(lengths[:kept]) / total
    return plane, shares


def node_embeddings(embeddings: npt.ArrayLike, label_counts: npt.ArrayLike, path: Path) -> Path | None:
    """Embeddings of nodes in their principal plane; every node is a disc divided by the classes of its data.

    Args:
        embeddings: [N, d].
        label_counts: training samples of the same nodes by class, [N, C].
        path: the PNG to write.
    """
    points = np.asarray(embeddings, dtype=np.float64)
    counts = np.asarray(label_counts, dtype=np.int64)
    assert len(points) == len(counts)
    shown = np.isfinite(points).all(axis=1) & (counts.sum(axis=1) > 0)
    points, counts = points[shown], counts[shown]
    if len(points) < 3 or not np.ptp(points, axis=0).any():
        return None
    plane, shares = principal_plane(points)
    figure = new_figure(7.2, 5.6)
    axes = figure.add_subplot()
    axes.set_aspect("equal", adjustable="datalim")
    _draw_discs(figure, axes, plane, counts)
    first, second = (f"principal direction ({100 * share:.0f} %)" for share in shares)
    dress(axes, "Embeddings of the nodes, coloured by the classes of their data", f"1st {first}", f"2nd {second}")
    return save(figure, path)


def _draw_discs(figure: "Figure", axes: "Axes", plane: FloatArray, counts: IntArray) -> None:
    """One disc per node, with a sector for every class in proportion to its samples."""
    import matplotlib
    from matplotlib.cm import ScalarMappable
    from matplotlib.collections import PatchCollection
    from matplotlib.colors import Normalize
    from matplotlib.patches import Patch, Wedge

    num_classes = counts.shape[1]
    if num_classes <= _MOST_COLOURS:
        palette = matplotlib.colormaps["tab10" if num_classes <= 10 else "tab20"]
        colours = [palette(label) for label in range(num_classes)]
        held = np.flatnonzero(counts.any(axis=0))
        figure.legend(
            handles=[Patch(color=colours[label], label=str(label)) for label in held],
            loc="outside right upper", title="class", fontsize=TICK_SIZE, frameon=False,
        )  # fmt: skip
    else:
        norm, scale = Normalize(0, num_classes - 1), matplotlib.colormaps["turbo"]
        colours = [scale(norm(label)) for label in range(num_classes)]
        figure.colorbar(ScalarMappable(norm, scale), ax=axes, pad=0.01, aspect=30, label="class")
    radius = _RADIUS * float(np.ptp(plane, axis=0).max())
    sectors, faces = [], []
    for centre, node_counts in zip(plane, counts, strict=True):
        ends = np.concatenate([[0.0], 360.0 * np.cumsum(node_counts) / node_counts.sum()])
        for label in np.flatnonzero(node_counts):
            sectors.append(Wedge((centre[0], centre[1]), radius, ends[label], ends[label + 1]))
            faces.append(colours[label])
    axes.add_collection(PatchCollection(sectors, facecolor=faces, edgecolor=INK, linewidth=0.3, zorder=2))
    axes.autoscale_view()
