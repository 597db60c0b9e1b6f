"""Picture of nodes that join late: their loss of accuracy against their distance from the other nodes."""

from pathlib import Path

import numpy as np

from simulator.arrays import FloatArray
from simulator.figures.style import BLUE, INK, dress, new_figure, save


def gap_against_distance(distances: FloatArray, gaps: FloatArray, path: Path) -> Path | None:
    """Loss of accuracy of late nodes, in percentage points, against the distance to the nearest node of the training.

    Args:
        distances: total-variation distances, [n]; gaps: of accuracies in 0..1, [n].
        path: file to write.
    """
    kept = np.isfinite(distances) & np.isfinite(gaps)
    if not kept.any():
        return None
    figure = new_figure(5.2, 4.2)
    axes = figure.add_subplot()
    axes.axhline(0.0, color=INK, linewidth=0.8)
    axes.scatter(distances[kept], 100 * gaps[kept], s=30, color=BLUE, alpha=0.8, linewidths=0)
    axes.set_xlim(left=0.0)
    dress(axes, "Nodes that come late", "total-variation distance to the nearest node", "accuracy gap (points)")
    return save(figure, path)
