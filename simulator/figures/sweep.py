"""Picture of a sweep: a metric against what was swept. Shapes: R settings (rows)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from simulator.arrays import FloatArray
from simulator.figures.style import BLUE, PALETTE, TICK_SIZE, add_legend_beside, dress, new_figure, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_DASHES = ("-", "--", ":")
_MOST_LINES = 14
_MOST_PANELS = 6
_LOG_RATIO = 20.0  # of the largest to the smallest value of a setting, from which on its axis is logarithmic
_ROW_HEIGHT = 0.28


def metric_by_setting(
    settings: Mapping[str, Sequence[Any]], mean: FloatArray, deviation: FloatArray, metric: str, path: Path
) -> Path | None:
    """A metric against the settings of a sweep, mean and standard deviation over seeds.

    The number with the most values is the horizontal axis, and every combination of the other settings is a line. Where
    that would be lines of single points, as for random trials, every number has a panel of its own with all settings as
    points. Where nothing is a number, every setting is a row.

    Args:
        settings: by name, one value per setting, [R] each.
        mean, deviation: of the metric, [R]; not finite where it is missing, or where there is one seed.
        metric: its name and unit.
        path: the PNG to write.
    """
    kept = np.flatnonzero(np.isfinite(mean))
    if len(kept) < 2 or not settings:
        return None
    columns = {name: [values[place] for place in kept.tolist()] for name, values in settings.items()}
    y, error = mean[kept], np.nan_to_num(deviation[kept])
    numeric = {name: len(set(values)) for name, values in columns.items() if all(map(_is_number, values))}
    numeric = {name: count for name, count in numeric.items() if count > 1}
    if not numeric:
        return _rows(columns, y, error, metric, path)
    across = max(numeric, key=lambda name: numeric[name])
    others = [
        _words({name: values[row] for name, values in columns.items() if name != across}) for row in range(len(y))
    ]
    lines = list(dict.fromkeys(others))
    if len(lines) <= min(_MOST_LINES, len(y) / 2):
        figure = new_figure(8.0 if len(lines) > 1 else 6.4, 4.2)
        axes = figure.add_subplot()
        for index, line in enumerate(lines):
            rows = np.array([row for row, other in enumerate(others) if other == line])
            x = np.array([columns[across][row] for row in rows], dtype=np.float64)
            order = np.argsort(x)
            _line(axes, index, x[order], y[rows][order], error[rows][order], line)
        _scale(axes, columns[across])
        dress(axes, _title(error), across, metric)
        if len(lines) > 1:
            add_legend_beside(axes)
        return save(figure, path)
    names = list(numeric)[:_MOST_PANELS]
    figure = new_figure(1.0 + 3.2 * len(names), 3.8)
    for name, axes in zip(names, figure.subplots(1, len(names), sharey=True, squeeze=False)[0], strict=True):
        x = np.array(columns[name], dtype=np.float64)
        axes.errorbar(x, y, yerr=error if error.any() else None, color=BLUE, linestyle="none", marker="o", markersize=4)
        _scale(axes, columns[name])
        dress(axes, _title(error) if name == names[0] else "", name, metric if name == names[0] else "")
    return save(figure, path)


def _line(axes: "Axes", index: int, x: FloatArray, y: FloatArray, error: FloatArray, label: str) -> None:
    colour, dash = PALETTE[index % len(PALETTE)], _DASHES[index // len(PALETTE) % len(_DASHES)]
    axes.plot(x, y, color=colour, linestyle=dash, linewidth=1.6, marker="o", markersize=4, label=label)
    if error.any():
        axes.fill_between(x, y - error, y + error, color=colour, alpha=0.15, linewidth=0)


def _rows(columns: Mapping[str, Sequence[Any]], y: FloatArray, error: FloatArray, metric: str, path: Path) -> Path:
    """One row per setting, its name at the left."""
    names = [_words({name: values[row] for name, values in columns.items()}) for row in range(len(y))]
    figure = new_figure(7.0, 1.4 + _ROW_HEIGHT * len(y))
    axes = figure.add_subplot()
    axes.errorbar(y, np.arange(len(y)), xerr=error if error.any() else None, color=BLUE, fmt="o", capsize=2)
    axes.set_yticks(range(len(y)), names)
    axes.set_ylim(len(y) - 0.5, -0.5)
    dress(axes, _title(error), metric)
    axes.tick_params(labelsize=TICK_SIZE - 1)
    return save(figure, path)


def _scale(axes: "Axes", values: Sequence[Any]) -> None:
    if min(values) > 0 and max(values) / min(values) >= _LOG_RATIO:
        axes.set_xscale("log")


def _title(error: FloatArray) -> str:
    return "Sweep: mean and standard deviation over seeds" if error.any() else "Sweep"


def _words(settings: Mapping[str, Any]) -> str:
    return ", ".join(
        str(value) if "." not in name and isinstance(value, str) else f"{name.rpartition('.')[2]}={value}"
        for name, value in settings.items()
        if value is not None
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
