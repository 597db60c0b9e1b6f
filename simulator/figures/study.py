"""A study in one picture: a metric against what was spent, a panel per graph, one colour per method in all pictures."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from simulator.figures.comparison import Curve
from simulator.figures.style import INK, PALETTE, TICK_SIZE, dress, name_with_unit, new_figure, save, unit_of

_DASHES = ("-", "--", ":")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def method_styles(methods: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Colour, dash and marker of every method, by its place in the study alone."""
    styles = {}
    for place, method in enumerate(methods):
        styles[method] = {
            "color": PALETTE[place % len(PALETTE)],
            "linestyle": _DASHES[place // len(PALETTE) % len(_DASHES)],
            "marker": _MARKERS[(place + place // len(PALETTE)) % len(_MARKERS)],
        }
    return styles


def metric_by_spending(
    panels: Mapping[str, Sequence[Curve]], methods: Sequence[str], metric: str, spent: str, title: str, path: Path
) -> Path | None:
    """Draws a panel per graph, with the mean over seeds and their range.

    Args:
        panels: curves by the name of the graph; their labels are names of methods.
        methods: all methods of the study, in its order.
        metric: what the curves show, as it is recorded (accuracies in 0..1); norms, distances and times on a log axis.
        spent: what the horizontal axis shows, such as ``comm/bytes``.
        title: over the picture.
        path: of the PNG.

    Returns:
        The path; None where there is no curve.
    """
    if not any(panels.values()):
        return None
    figure = new_figure(3.6 * len(panels) + 2.2, 3.8)
    every_axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    factor, styles, shown = unit_of(metric)[0], method_styles(methods), dict[str, Any]()
    for axes, (graph, curves) in zip(every_axes, panels.items(), strict=True):
        for curve in curves:
            style = styles[curve.label]
            (line,) = axes.plot(
                curve.spent,
                [factor * value for value in curve.values],
                markersize=3.5,
                linewidth=1.5,
                markevery=max(1, len(curve.spent) // 6),
                **style,
            )
            shown.setdefault(curve.label, line)
            if curve.low:
                low, high = ([factor * value for value in edge] for edge in (curve.low, curve.high))
                axes.fill_between(curve.spent, low, high, color=style["color"], alpha=0.12, linewidth=0)
        dress(axes, graph, name_with_unit(spent), name_with_unit(metric) if axes is every_axes[0] else "")
    values = [value for curves in panels.values() for curve in curves for value in curve.values]
    if metric.endswith(("/grad_norm", "/distance", "consensus_distance")) and all(
        value > 0 and math.isfinite(value) for value in values
    ):
        every_axes[0].set_yscale("log")
    labels = [method for method in methods if method in shown]
    figure.legend(
        [shown[label] for label in labels], labels, loc="outside right upper", fontsize=TICK_SIZE, frameon=False
    )
    figure.suptitle(f"{title}; mean and range over seeds", fontsize=TICK_SIZE, color=INK, x=0.01, ha="left")
    return save(figure, path)
