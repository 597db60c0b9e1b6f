"""Curves over the course of a run, from the records of its metrics.jsonl."""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from simulator.arrays import FloatArray
from simulator.figures.style import BLUE, GREEN, ORANGE, add_legend, dress, new_figure, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Records = Sequence[Mapping[str, Any]]

_ACCURACY_LINES = {"test/accuracy": "mean over nodes", "test/accuracy_p10": "10th percentile over nodes"}
_LOSS_LINES = {"train/loss": "training loss", "outer/loss": "outer loss", "test/loss": "test loss"}
_SIMULATED = "simulated seconds until the last node is done"
_COLOURS = (BLUE, ORANGE, GREEN)
_DASHES = ("-", "--", "-.")
# Beyond this ratio of the largest to the smallest value a loss is drawn on a logarithmic axis.
_LOG_SCALE_RATIO = 100.0


def accuracy_against_steps(records: Records, path: Path) -> Path | None:
    """Test accuracy, mean and 10th percentile over nodes, against the step."""
    lines = _collect(records, "step", _ACCURACY_LINES, y_unit=100.0)
    return _draw(lines, path, "Test accuracy of the nodes", "step", _accuracy_label(lines), hide_start=True)


def accuracy_by_outer_step(records: Records, path: Path) -> Path | None:
    """Test accuracy at the end of every outer step, against the number of updates that the hyperparameters have had."""
    ends = [record for record in records if "outer_step" in record]
    lines = _collect(ends, "outer_step", _ACCURACY_LINES, y_unit=100.0)
    x_label = "updates of the hyperparameters (0: none yet)"
    return _draw(lines, path, "Test accuracy at the end of each outer step", x_label, _accuracy_label(lines))


def accuracy_against_bytes(records: Records, path: Path) -> Path | None:
    """Test accuracy, mean and 10th percentile over nodes, against the bytes sent so far by all nodes."""
    lines = _collect(records, "comm/bytes", _ACCURACY_LINES, x_unit=1e-6, y_unit=100.0)
    x_label = "sent so far over all edges of the graph (MB)"
    title = "Test accuracy for the communication spent"
    return _draw(lines, path, title, x_label, _accuracy_label(lines), hide_start=True)


def accuracy_against_simulated_time(records: Records, path: Path) -> Path | None:
    """Test accuracy, mean and 10th percentile over nodes, against simulated time where nodes have clocks."""
    lines = _collect(_with_clocks(records), "time/sim_s", _ACCURACY_LINES, y_unit=100.0)
    title = "Test accuracy for the simulated time spent"
    return _draw(lines, path, title, _SIMULATED, _accuracy_label(lines), hide_start=True)


def loss_against_simulated_time(records: Records, path: Path) -> Path | None:
    """As :func:`loss`, against simulated time where nodes have clocks."""
    return _draw_loss(_collect(_with_clocks(records), "time/sim_s", _LOSS_LINES), path, _SIMULATED)


def loss(records: Records, path: Path) -> Path | None:
    """Training, outer and test loss, whichever are there, against the step; logarithmic where they span decades."""
    return _draw_loss(_collect(records, "step", _LOSS_LINES), path, "step")


def _draw_loss(lines: Mapping[str, tuple[FloatArray, FloatArray]], path: Path, x_label: str) -> Path | None:
    values = np.concatenate([y for _, y in lines.values()]) if lines else np.ones(1)
    spans_decades = values.min() > 0 and values.max() / values.min() > _LOG_SCALE_RATIO
    y_label = next(iter(lines)) if len(lines) == 1 else "loss"
    return _draw(lines, path, "Loss", x_label, y_label, log_y=bool(spans_decades))


def _with_clocks(records: Records) -> Records:
    """The records of a run whose nodes have clocks of their own."""
    return [record for record in records if "time/idle_share" in record]


def consensus_distance(records: Records, path: Path) -> Path | None:
    """How far the nodes' parameters are from their mean, logarithmic, against the step.

    The start is left out, because the parameters are then equal up to rounding.
    """
    later = [record for record in records if record["step"] != 0]
    lines = _collect(later, "step", {"consensus_distance": "consensus distance"}, positive=True)
    return _draw(lines, path, "Disagreement of the nodes", "step", "consensus distance", log_y=True)


def hypergradient_error(records: Records, path: Path) -> Path | None:
    """Relative error of the hypergradient against its reference, logarithmic, against the step."""
    lines = _collect(records, "step", {"hypergradient/error": "relative error"}, positive=True)
    return _draw(lines, path, "Error of the hypergradient", "step", "relative error", log_y=True)


def _accuracy_label(lines: Iterable[str]) -> str:
    """Labels the axis with the name of a single line; two lines have a legend."""
    labels = list(lines)
    return f"test accuracy, {labels[0]} (%)" if len(labels) == 1 else "test accuracy (%)"


def _collect(
    records: Records,
    x_key: str,
    names: Mapping[str, str],
    *,
    x_unit: float = 1.0,
    y_unit: float = 1.0,
    positive: bool = False,
) -> dict[str, tuple[FloatArray, FloatArray]]:
    """The lines that can be drawn: label -> (x, y), each with two or more different x and not zero throughout.

    ``positive`` keeps only values above zero, for a logarithmic axis.
    """
    lines = {}
    for key, label in names.items():
        points = [(_number(record.get(x_key)), _number(record.get(key))) for record in records]
        array = np.array(points, dtype=np.float64).reshape(-1, 2)
        array = array[np.isfinite(array).all(axis=1) & ~(positive & (array[:, 1] <= 0))]
        if len(np.unique(array[:, 0])) >= 2 and np.any(array[:, 1] != 0):
            lines[label] = (array[:, 0] * x_unit, array[:, 1] * y_unit)
    return lines


def _number(value: Any) -> float:
    """A scalar metric; NaN where there is none (absent, or a list with one value per node)."""
    return float(value) if isinstance(value, int | float) else math.nan


def _draw(
    lines: Mapping[str, tuple[FloatArray, FloatArray]],
    path: Path,
    title: str,
    x_label: str,
    y_label: str,
    *,
    log_y: bool = False,
    hide_start: bool = False,
) -> Path | None:
    """Draws the lines; ``hide_start`` leaves the first points, before any training, out of the y-axis's range."""
    if not lines:
        return None
    figure = new_figure()
    axes = figure.add_subplot()
    longest = max(len(x) for x, _ in lines.values())
    for (label, (x, y)), colour, dash in zip(lines.items(), _COLOURS, _DASHES, strict=False):
        axes.plot(
            x, y, dash, color=colour, linewidth=1.8, label=label, marker="o" if longest <= 20 else "", markersize=4
        )
    if len(lines) > 1:
        add_legend(axes)
    if log_y:
        _use_log_axis(axes, [y for _, y in lines.values()])
    axes.margins(x=0.02)
    if hide_start and longest > 3:
        values = np.concatenate([y[1:] for _, y in lines.values()])
        margin = 0.05 * max(float(np.ptp(values)), 1.0)
        axes.set_ylim(values.min() - margin, values.max() + margin)
    dress(axes, title, x_label, y_label)
    return save(figure, path)


def _use_log_axis(axes: "Axes", series: Sequence[FloatArray]) -> None:
    """A logarithmic y-axis that always has labelled ticks: within one decade, 2 and 5 are labelled as well."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_yscale("log")
    values = np.concatenate(series)
    decades = math.log10(values.max() / values.min())
    if decades < 2.0:
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if decades > 0.7 else tuple(range(1, 10))))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
