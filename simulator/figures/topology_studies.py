"""Pictures of studies of training on a schedule: second moments by step, and how alike the nodes' parameters are."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from simulator.arrays import FloatArray
from simulator.figures.style import (
    BLUE,
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

_QUANTITIES = {
    "squared_norm": ("mean of ||x_i||²", BLUE),
    "squared_mean": ("||mean of x_i||²", ORANGE),
    "squared_distance": ("mean of ||x_i - mean||²", GREEN),
}
# Half the width of a band, in standard errors.
_BAND = 2.0
_NEGLIGIBLE = 1e-12


def moments_by_step(measured: Mapping[str, FloatArray], exact: Mapping[str, FloatArray], path: Path) -> Path | None:
    """Squared norms and consensus distance of simulated D-SGD against the step, logarithmic, over what is expected.

    Args:
        measured: by quantity, mean over repetitions and standard error, [2, S + 1].
        exact: by quantity, the expectation, [S + 1]; may be empty.
        path: file to write.
    """
    from matplotlib.ticker import MaxNLocator

    figure = new_figure(6.8, 4.4)
    axes = figure.subplots()
    for name, (label, colour) in _QUANTITIES.items():
        mean, error = measured[name]
        kept = mean > _NEGLIGIBLE
        steps = np.flatnonzero(kept)
        if not len(steps):
            continue
        low = np.maximum(mean - _BAND * error, mean / 10.0)
        axes.fill_between(steps, low[kept], (mean + _BAND * error)[kept], color=colour, alpha=0.2, linewidth=0)
        axes.plot(steps, mean[kept], color=colour, linewidth=1.8, label=label)
        if name in exact:
            axes.plot(steps, exact[name][kept], color=INK, linestyle="--", linewidth=1.0)
    if exact:
        axes.plot([], [], color=INK, linestyle="--", linewidth=1.0, label="exact expectation")
    axes.set_yscale("log")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    dress(axes, "Random quadratics: second moments", "step", "mean over repetitions, ± 2 standard errors")
    add_legend(axes)
    return save(figure, path)


def covariances_between_nodes(measured: FloatArray, walk: FloatArray, gamma: float | None, path: Path) -> Path | None:
    """Covariances between nodes over repetitions of training beside those of the walk, over their mean diagonals.

    Args:
        measured, walk: [M, M].
        gamma: of the walk; None where it does not matter.
        path: file to write.
    """
    figure = new_figure(9.2, 4.4)
    panels = figure.subplots(1, 2)
    # 1 is a node's own variance; sampling errors make some covariances of 0 negative.
    largest = max(1.0, float(walk.max()))
    titles = ("Between nodes, in training", "Of the walk" if gamma is None else f"Of the walk, gamma = {gamma:.4g}")
    for panel, values, title in zip(panels, (measured, walk), titles, strict=True):
        picture = panel.imshow(values, cmap=sequential_colours(), vmin=0.0, vmax=largest)
        dress(panel, title, "node", "node" if panel is panels[0] else "", grid=False)
    bar = figure.colorbar(picture, ax=panels)
    bar.set_label("covariance / mean variance", color=INK)
    bar.ax.tick_params(labelsize=TICK_SIZE, colors=INK)
    return save(figure, path)
