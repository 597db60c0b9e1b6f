"""Several methods in one picture: a metric against its cost, one panel per kind of cost."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from simulator.averages import mean
from simulator.figures.style import PALETTE, TICK_SIZE, dress, name_with_unit, new_figure, save, unit_of

_STYLES = ("-", "--", ":")


@dataclass(frozen=True)
class Curve:
    """A named curve: the cost so far, and the metric at that cost; with ``low`` and ``high`` the edges of a band."""

    label: str
    spent: Sequence[float]
    values: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()


def curve_of_seeds(label: str, courses: Sequence[Sequence[tuple[float, float]]]) -> Curve:
    """Mean and range over seeds at the evaluations that all of them have; no band for one seed.

    Args:
        courses: of every seed the cost and the metric of its evaluations, in their order.
    """
    points = list(zip(*courses, strict=False))
    values = [[value for _, value in point] for point in points]
    curve = Curve(label, [mean([cost for cost, _ in point]) for point in points], list(map(mean, values)))
    return curve if len(courses) == 1 else replace(curve, low=list(map(min, values)), high=list(map(max, values)))


def comparison(panels: Mapping[str, Sequence[Curve]], metric: str, path: Path) -> Path:
    """Draws one panel per cost, side by side, with one legend; costs on a logarithmic axis, which leaves 0 out.

    Bands are the range over seeds. Accuracies are shown in per cent.

    Args:
        panels: curves by the name of their cost, in the same order in every panel.
        metric: what the curves show, as it is recorded (accuracies in 0..1).
        path: of the PNG.
    """
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    figure = new_figure(4.2 * len(panels) + 2.4, 4.0)
    every_axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    unit = unit_of(metric)[0]
    for axes, (cost, curves) in zip(every_axes, panels.items(), strict=True):
        for index, curve in enumerate(curves):
            edges = (curve.low, curve.high) if curve.low else (curve.values, curve.values)
            points = [
                (x, *(unit * y for y in of_point))
                for x, *of_point in zip(curve.spent, curve.values, *edges, strict=True)
                if x > 0 and math.isfinite(of_point[0])
            ]
            x, y, low, high = ([point[place] for point in points] for place in range(4))
            colour, style = PALETTE[index % len(PALETTE)], _STYLES[index // len(PALETTE) % len(_STYLES)]
            axes.plot(
                x,
                y,
                style,
                color=colour,
                marker="o",
                markersize=3,
                linewidth=1.6,
                label=curve.label,
            )
            if curve.low:
                axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
        axes.set_xscale("log")
        left, right = axes.get_xlim()
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 3.0) if right > 10.0 * left else (1.0, 2.0, 3.0, 5.0, 7.0)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        dress(axes, x_label=cost, y_label=name_with_unit(metric) if axes is every_axes[0] else "")
    if any(curve.low for curves in panels.values() for curve in curves):
        every_axes[0].set_title("mean and range over seeds", fontsize=TICK_SIZE, loc="left")
    handles, labels = every_axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", fontsize=TICK_SIZE, frameon=False)
    return save(figure, path)
