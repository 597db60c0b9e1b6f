"""Pictures of many graphs that differ by a setting or a draw: one quantity against a setting, and rates against others.

Shapes: P points of a series.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from simulator.arrays import FloatArray
from simulator.figures.style import PALETTE, add_legend, dress, new_figure, save

_MARKERS = ("o", "s", "^", "D", "v")


@dataclass(frozen=True, kw_only=True)
class Band:
    """A series with a spread over draws.

    Attributes:
        x: ascending values of the setting, [P].
        mean: of the quantity over draws, [P].
        deviation: its standard deviation over draws, [P].
    """

    x: FloatArray
    mean: FloatArray
    deviation: FloatArray


def quantity_against_setting(series: Mapping[str, Band], setting: str, quantity: str, path: Path) -> Path | None:
    """Means as lines, and one standard deviation over draws to both sides as bands; None without a series."""
    if not series:
        return None
    figure = new_figure()
    axes = figure.subplots()
    for index, (label, band) in enumerate(series.items()):
        colour = PALETTE[index % len(PALETTE)]
        axes.plot(band.x, band.mean, color=colour, marker=_MARKERS[index % len(_MARKERS)], markersize=4, label=label)
        low, high = band.mean - band.deviation, band.mean + band.deviation
        axes.fill_between(band.x, low, high, color=colour, alpha=0.2, linewidth=0)
    dress(axes, f"{quantity}: mean and standard deviation over draws", setting, quantity)
    add_legend(axes)
    return save(figure, path)


def rate_against(
    groups: Mapping[str, Mapping[str, FloatArray]], quantities: Sequence[str], rate: str, path: Path
) -> Path | None:
    """A panel for every quantity: the rate of every graph against it, a colour for every group.

    Args:
        groups: by label, the values [P] of ``rate`` and of every quantity.
    """
    if not groups:
        return None
    figure = new_figure(3.6 * len(quantities), 3.6)
    panels = figure.subplots(1, len(quantities), sharey=True, squeeze=False)[0]
    for quantity, axes in zip(quantities, panels, strict=True):
        for index, (label, values) in enumerate(groups.items()):
            axes.plot(
                values[quantity],
                values[rate],
                color=PALETTE[index % len(PALETTE)],
                linestyle="none",
                marker=_MARKERS[index % len(_MARKERS)],
                markersize=4,
                alpha=0.7,
                label=label,
            )
        dress(axes, "", quantity, rate if axes is panels[0] else "")
    add_legend(panels[0])
    return save(figure, path)
