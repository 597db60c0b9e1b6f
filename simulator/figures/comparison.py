"""Several methods in one picture: a metric against its cost, one panel per kind of cost."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from simulator.figures.style import PALETTE, TICK_SIZE, dress, new_figure, save

_STYLES = ("-", "--", ":")


@dataclass(frozen=True)
class Curve:
    """A named curve: the cost so far, and the metric at that cost; with ``low`` and ``high`` the edges of a band."""

    label: str
    spent: Sequence[float]
    values: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()


def comparison(panels: Mapping[str, Sequence[Curve]], metric: str, path: Path) -> Path:
    """Draws one panel per cost, side by side, with one legend; costs on a logarithmic axis, which leaves 0 out.

    Args:
        panels: curves by the name of their cost, in the same order in every panel.
        metric: what the curves show.
        path: of the PNG.
    """
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    figure = new_figure(4.2 * len(panels) + 2.4, 4.0)
    every_axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, (cost, curves) in zip(every_axes, panels.items(), strict=True):
        for index, curve in enumerate(curves):
            points = [(x, y) for x, y in zip(curve.spent, curve.values, strict=True) if x > 0 and math.isfinite(y)]
            colour, style = PALETTE[index % len(PALETTE)], _STYLES[index // len(PALETTE) % len(_STYLES)]
            axes.plot(
                [x for x, _ in points],
                [y for _, y in points],
                style,
                color=colour,
                marker="o",
                markersize=3,
                linewidth=1.6,
                label=curve.label,
            )
            if curve.low:
                band = [(x, *edges) for x, *edges in zip(curve.spent, curve.low, curve.high, strict=True) if x > 0]
                axes.fill_between(*zip(*band, strict=True), color=colour, alpha=0.15, linewidth=0)
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 3.0)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        dress(axes, x_label=cost, y_label=metric if axes is every_axes[0] else "")
    handles, labels = every_axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", fontsize=TICK_SIZE, frameon=False)
    return save(figure, path)
