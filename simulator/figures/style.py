"""The look that all pictures share: sizes, colours and axes."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

DPI = 130
# From the palette of Okabe and Ito (https://jfly.uni-koeln.de/color/), told apart with any colour vision.
BLUE, ORANGE, GREEN = "#0072B2", "#D55E00", "#009E73"
BAR_BLUE = "#5AA2CE"
INK, FAINT = "#222222", "#D8D8D8"
# Colours of many lines; without yellow, which is too light for lines.
PALETTE = (BLUE, ORANGE, GREEN, "#CC79A7", "#E69F00", "#56B4E9", INK)
TITLE_SIZE, LABEL_SIZE, TICK_SIZE = 12, 11, 10


def new_figure(width_inches: float = 6.4, height_inches: float = 4.0) -> "Figure":
    """An empty figure whose layout keeps all labels inside."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width_inches, height_inches), dpi=DPI, layout="constrained", facecolor="white")


def sequential_colours() -> "Colormap":
    """Light to dark blue for amounts; its lightest shade still stands out from white, which is left for "none"."""
    import matplotlib
    from matplotlib.colors import LinearSegmentedColormap

    blues = matplotlib.colormaps["Blues"]
    return LinearSegmentedColormap.from_list("amount", [blues(0.18 + 0.82 * place / 15) for place in range(16)])


def dress(axes: "Axes", title: str = "", x_label: str = "", y_label: str = "", grid: bool = True) -> None:
    """Gives axes their texts and the common look."""
    axes.set_title(title, fontsize=TITLE_SIZE, color=INK, loc="left")
    axes.set_xlabel(x_label, fontsize=LABEL_SIZE, color=INK)
    axes.set_ylabel(y_label, fontsize=LABEL_SIZE, color=INK)
    axes.tick_params(labelsize=TICK_SIZE, colors=INK)
    axes.spines[["top", "right"]].set_visible(False)
    if grid:
        axes.grid(visible=True, color=FAINT, linewidth=0.6)
        axes.set_axisbelow(True)


def add_legend(axes: "Axes") -> None:
    """A legend without a frame, at the place where it hides the least data."""
    axes.legend(fontsize=TICK_SIZE, frameon=True, framealpha=0.85, edgecolor="none")


def add_legend_beside(axes: "Axes") -> None:
    """A legend to the right of the axes."""
    add_legend(axes)
    legend = axes.get_legend()
    assert legend is not None
    legend.set_loc("upper left")
    legend.set_bbox_to_anchor((1.01, 1.0))


def save(figure: "Figure", path: Path) -> Path:
    """Writes the PNG and returns its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="png", dpi=DPI)
    return path
