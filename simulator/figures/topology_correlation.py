"""Pictures of training on many schedules: loss against n_W or a gap, against the learning rate, and against bytes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from simulator.arrays import FloatArray
from simulator.figures.style import (
    BLUE,
    INK,
    PALETTE,
    TICK_SIZE,
    add_legend,
    add_legend_beside,
    dress,
    new_figure,
    save,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Curves = Mapping[str, tuple[FloatArray, FloatArray]]

_DASHES = ("-", "--", ":")
_REFERENCE_GREY = "#777777"
# Losses beyond this multiple of the range of the best ones are cut off: their learning rates are of no interest.
_SHOWN_RANGES = 2.0
# Points in this share of the picture have their name to the right.
_LEFT_SHARE = 0.6


@dataclass(frozen=True, kw_only=True)
class Scatter:
    """Schedules as points.

    Attributes:
        labels: of the points, [S].
        x, y: [S]; points without an x are left out.
        error: half the height of the bars, [S].
        curve: x and y of a line to compare with, or None.
    """

    labels: Sequence[str]
    x: FloatArray
    y: FloatArray
    error: FloatArray
    curve: tuple[FloatArray, FloatArray] | None = None


def metric_against_neighbors(points: Scatter, gamma: float, metric: str, path: Path) -> Path | None:
    """A metric against n_W(gamma), base 2; the curve is that of exact averages."""
    x_label = f"n_W({gamma:.4g})"
    return _scatter(points, f"{metric} at the best learning rate", x_label, metric, "log2", path)


def metric_against_gap(points: Scatter, metric: str, path: Path) -> Path | None:
    """A metric against the spectral gap, logarithmic but for a gap of 0 at the left end."""
    return _scatter(points, f"{metric} at the best learning rate", "spectral gap", metric, "gap", path)


def metric_against_learning_rate(curves: Curves, metric: str, path: Path) -> Path | None:
    """A metric against the learning rate, a line per schedule; values far worse than all best values are cut off."""
    if not curves:
        return None
    figure = new_figure(8.0, 4.6)
    axes = figure.subplots()
    _lines(axes, curves, marker="o")
    bests = np.array([y.max() if metric.endswith("accuracy") else y.min() for _, y in curves.values()])
    margin = _SHOWN_RANGES * (float(np.ptp(bests)) or abs(float(bests[0])) or 1.0)
    values = np.concatenate([y for _, y in curves.values()])
    low, high = max(values.min(), bests.min() - margin), min(values.max(), bests.max() + margin)
    if low < high:
        axes.set_ylim(low - 0.04 * (high - low), high + 0.04 * (high - low))
    axes.set_xscale("log")
    dress(axes, f"{metric} by learning rate", "learning rate", metric)
    add_legend_beside(axes)
    return save(figure, path)


def metric_against_bytes(curves: Curves, metric: str, path: Path) -> Path | None:
    """A metric against megabytes, a line per schedule; a schedule without communication is a horizontal line."""
    if not curves:
        return None
    figure = new_figure(8.0, 4.6)
    axes = figure.subplots()
    free = {label: y for label, (x, y) in curves.items() if x.max() == 0.0}
    _lines(axes, {label: (x[x > 0], y[x > 0]) for label, (x, y) in curves.items() if label not in free}, marker="o")
    for label, y in free.items():
        name = f"{label}: sends nothing"
        axes.axhline(float(y[-1]), color=_REFERENCE_GREY, linestyle="--", linewidth=1.2, label=name)
    if len(free) < len(curves):
        axes.set_xscale("log")
    dress(axes, f"{metric} for the communication spent", "sent so far over all edges of the graph (MB)", metric)
    add_legend_beside(axes)
    return save(figure, path)


def _scatter(points: Scatter, title: str, x_label: str, y_label: str, scale: str, path: Path) -> Path | None:
    known = np.isfinite(points.x)
    if not known.any():
        return None
    x, y, error = points.x[known], points.y[known], points.error[known]
    figure = new_figure(7.0, 4.6)
    axes = figure.subplots()
    if points.curve is not None:
        axes.plot(*points.curve, color=_REFERENCE_GREY, linewidth=1.3, linestyle="--", label="exact average of n nodes")
        add_legend(axes)
    axes.errorbar(x, y, yerr=error, color=BLUE, linestyle="none", marker="o", markersize=6, capsize=2)
    if scale == "gap":
        positive = x[x > 0]
        axes.set_xscale("symlog", linthresh=float(positive.min()) / 2.0 if len(positive) else 1.0)
        axes.set_xlim(left=-0.02 * float(x.max() or 1.0) if len(positive) == 0 else -float(positive.min()) / 8.0)
    else:
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    shown = (label for label, is_known in zip(points.labels, known, strict=True) if is_known)
    to_axes = axes.transData + axes.transAxes.inverted()
    for label, across, up in zip(shown, x, y, strict=True):
        is_left = to_axes.transform((across, up))[0] < _LEFT_SHARE
        axes.annotate(
            label,
            (across, up),
            xytext=(6 if is_left else -6, 4),
            textcoords="offset points",
            horizontalalignment="left" if is_left else "right",
            fontsize=TICK_SIZE - 2,
            color=INK,
        )
    dress(axes, title, x_label, y_label)
    return save(figure, path)


def _lines(axes: "Axes", curves: Curves, marker: str) -> None:
    for index, (label, (x, y)) in enumerate(curves.items()):
        colour, dash = PALETTE[index % len(PALETTE)], _DASHES[index // len(PALETTE) % len(_DASHES)]
        axes.plot(x, y, color=colour, linestyle=dash, linewidth=1.6, marker=marker, markersize=3.5, label=label)
