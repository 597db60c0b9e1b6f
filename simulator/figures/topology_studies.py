"""Pictures of studies of training on a schedule: second moments by step, and how alike the nodes' parameters are."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from simulator.figures.style import BLUE, GREEN, INK, ORANGE, add_legend, dress, new_figure, save

FloatArray = npt.NDArray[np.float64]

_QUANTITIES = {
    "squared_norm": ("mean of ||x_i||²", BLUE),
    "squared_mean": ("||mean of x_i||²", ORANGE),
    "squared_distance": ("mean of ||x_i - mean||²", GREEN),
}
# Two standard errors to both sides.
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
