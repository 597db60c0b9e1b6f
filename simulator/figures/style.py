"""The look that all pictures share: sizes, colours and axes."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
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

_UNITS = {
    "time/wall_s": (1.0, "s"),
    "time/sim_s": (1.0, "simulated s"),
    "time/sim_mean_s": (1.0, "simulated s"),
}
_caption: ContextVar[str] = ContextVar("caption", default="")
_with_pdf: ContextVar[bool] = ContextVar("with_pdf", default=False)


@contextmanager
def captioned(text: str, *, with_pdf: bool = False) -> Iterator[None]:
    """Every picture that is saved inside has the text in small letters at its lower right: the run, or the folder.

    Args:
        text: the caption.
        with_pdf: whether a PDF of the same name is written beside every PNG.
    """
    tokens = _caption.set(text), _with_pdf.set(with_pdf)
    try:
        yield
    finally:
        _caption.reset(tokens[0])
        _with_pdf.reset(tokens[1])


def unit_of(metric: str) -> tuple[float, str]:
    """What a metric is multiplied with to be shown, and its unit then: per cent for accuracies, MB for bytes."""
    group, _, last = metric.rpartition("/")
    if last.startswith("accuracy"):
        return 100.0, "%"
    if group == "comm" and "bytes" in last:
        return 1e-6, "MB"
    return _UNITS.get(metric, (1.0, ""))


def name_with_unit(metric: str) -> str:
    """The label of an axis that shows the metric, such as ``test/accuracy (%)``."""
    unit = unit_of(metric)[1]
    return f"{metric} ({unit})" if unit else metric


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
    """Writes the PNG, and what :func:`captioned` asks for; returns the path of the PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if caption := _caption.get():
        figure.supxlabel(caption, x=0.995, ha="right", fontsize=TICK_SIZE - 3, color="#777777")
    figure.savefig(path, format="png", dpi=DPI)
    if _with_pdf.get():
        import matplotlib

        logging.getLogger("fontTools").setLevel(logging.WARNING)  # it tells every table of a font
        # Text stays text (fonts of type 42), and equal pictures are equal files.
        with matplotlib.rc_context({"pdf.fonttype": 42}):
            figure.savefig(path.with_suffix(".pdf"), format="pdf", metadata={"CreationDate": None})
    return path
