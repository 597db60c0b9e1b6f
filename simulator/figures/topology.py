"""Pictures of a schedule's analysis: neighbours against decay, rates and times against learning rate, the bound."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from simulator.arrays import FloatArray
from simulator.figures.style import PALETTE, add_legend_beside, dress, new_figure, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Curves = Mapping[str, tuple[FloatArray, FloatArray]]

_REFERENCE_DASHES = ("--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)), (0, (8, 2)), (0, (3, 1, 1, 1)))
_REFERENCE_GREY = "#777777"
_DECAYS = (0.0, 0.9, 0.99, 0.999, 0.9999)
_FORMS = {"theorem": "theorem", "lazy": "theorem, (I + W) / 2", "older": "older form"}


def effective_neighbors_against_decay(schedules: Curves, references: Curves, path: Path) -> Path | None:
    """n_W(gamma) against gamma, evenly spaced in -log10(1 - gamma).

    Args:
        schedules: name to (gamma, n_W) of the schedules that the picture is about.
        references: the same of well-known schedules, dashed.
        path: file to write.
    """
    if not schedules:
        return None
    figure = new_figure(7.4, 4.4)
    axes = figure.subplots()

    def place(gammas: FloatArray) -> FloatArray:
        return np.asarray(-np.log10(1.0 - gammas))

    _draw(axes, {name: (place(x), y) for name, (x, y) in schedules.items()},
          {name: (place(x), y) for name, (x, y) in references.items()})  # fmt: skip
    axes.set_xticks([float(-np.log10(1.0 - gamma)) for gamma in _DECAYS], [f"{gamma:g}" for gamma in _DECAYS])
    axes.set_yscale("log", base=2)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    dress(axes, "Effective number of neighbours", "decay of the walk, gamma", "n_W(gamma)")
    add_legend_beside(axes)
    return save(figure, path)


def rate_against_learning_rate(schedules: Curves, references: Curves, path: Path) -> Path | None:
    """Convergence rates on random quadratics; learning rates that diverge are left out."""
    figure = new_figure(7.4, 4.4)
    axes = figure.subplots()
    if not _draw(axes, _positive(schedules), _positive(references)):
        return None
    axes.set_xscale("log")
    dress(axes, "Random quadratics: rate", "learning rate", "share of E||x||² lost per step")
    add_legend_beside(axes)
    return save(figure, path)


def time_to_target(schedules: Curves, references: Curves, target: float, path: Path) -> Path | None:
    """Steps until E||x||^2 is ``target`` times what it was, from the same rates."""

    def times(curves: Curves) -> dict[str, tuple[FloatArray, FloatArray]]:
        shrinking = {name: (x[y < 1.0], y[y < 1.0]) for name, (x, y) in _positive(curves).items()}
        return {name: (x, np.log(target) / np.log1p(-y)) for name, (x, y) in shrinking.items()}

    figure = new_figure(7.4, 4.4)
    axes = figure.subplots()
    if not _draw(axes, times(schedules), times(references)):
        return None
    best = [float(y.min()) for curves in (schedules, references) for _, y in times(curves).values()]
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_ylim(max(min(best) / 1.5, 0.8), max(best) * 10.0)
    dress(axes, f"Random quadratics: steps to {target:g}", "learning rate", "steps")
    add_legend_beside(axes)
    return save(figure, path)


def learning_rate_bounds(forms: Mapping[str, tuple[FloatArray, FloatArray, FloatArray]], path: Path) -> Path | None:
    """The largest learning rate of the theorem against n_W(gamma): the smaller of its noise and consensus terms.

    Args:
        forms: form of the bound to (n_W, consensus term, noise term), each [G].
        path: file to write.
    """
    if not forms:
        return None
    figure = new_figure(7.4, 4.4)
    axes = figure.subplots()
    largest = 0.0
    for colour, (form, (neighbors, consensus, noise)) in zip(PALETTE, forms.items(), strict=False):
        allowed = np.minimum(consensus, noise)
        axes.plot(neighbors, noise, color=colour, linestyle=":", linewidth=1.0)
        axes.plot(neighbors, consensus, color=colour, linestyle="--", linewidth=1.0)
        axes.plot(neighbors, allowed, color=colour, linewidth=2.2, label=_FORMS.get(form, form))
        largest = max(largest, float(np.nanmax(allowed)))
    axes.plot([], [], color=_REFERENCE_GREY, linestyle=":", linewidth=1.0, label="allowed by noise")
    axes.plot([], [], color=_REFERENCE_GREY, linestyle="--", linewidth=1.0, label="allowed by consensus")
    axes.set_ylim(0.0, 1.3 * largest)
    dress(axes, "Largest learning rate by the theorem", "n_W(gamma), as gamma grows", "learning rate")
    add_legend_beside(axes)
    return save(figure, path)


def _positive(curves: Curves) -> dict[str, tuple[FloatArray, FloatArray]]:
    kept = {name: (x[y > 0.0], y[y > 0.0]) for name, (x, y) in curves.items()}
    return {name: (x, y) for name, (x, y) in kept.items() if len(x)}


def _draw(axes: "Axes", schedules: Curves, references: Curves) -> bool:
    """Draws references thin and dashed below the other curves; returns whether there were other curves."""
    for dash, (name, (x, y)) in zip(_REFERENCE_DASHES, references.items(), strict=False):
        axes.plot(x, y, color=_REFERENCE_GREY, linestyle=dash, linewidth=1.3, label=name)
    for colour, (name, (x, y)) in zip(PALETTE, schedules.items(), strict=False):
        axes.plot(x, y, color=colour, linewidth=2.2, label=name)
    return bool(schedules)
