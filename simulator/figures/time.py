"""Pictures of simulated time: who waits how long, what nodes did first, and how old messages are. Shapes: M nodes."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from simulator.figures.style import BAR_BLUE, FAINT, INK, ORANGE, TICK_SIZE, dress, new_figure, save

# What stands in a timeline: its colour, where in the node's row it begins, and how high it is.
_BARS = {"computing": (BAR_BLUE, -0.4, 0.8), "waiting": (FAINT, -0.4, 0.8), "sending": (ORANGE, -0.4, 0.2)}


def idle_share(shares: npt.ArrayLike, path: Path) -> Path | None:
    """The part of its time that every node has waited, by node.

    Args:
        shares: in 0..1, shape [M].
        path: the PNG to write.
    """
    percent = 100.0 * np.asarray(shares, dtype=np.float64)
    if len(percent) < 2 or not percent.any():
        return None
    from matplotlib.ticker import MaxNLocator

    figure = new_figure()
    axes = figure.add_subplot()
    axes.bar(np.arange(len(percent)), percent, width=0.8 if len(percent) <= 100 else 1.0, color=BAR_BLUE)
    axes.axhline(percent.mean(), color=INK, linewidth=1.6, label=f"mean {percent.mean():.1f} %")
    axes.set_ylim(0.0, 1.2 * float(percent.max()))
    axes.set_xlim(-0.7, len(percent) - 0.3)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=20, integer=True, steps=[1, 2, 5, 10]))
    dress(axes, "Waiting for messages, node by node", "node", "share of simulated time (%)")
    axes.legend(fontsize=TICK_SIZE, frameon=False, loc="upper left")
    return save(figure, path)


def timeline(spans: Sequence[tuple[str, int, float, float]], path: Path) -> Path | None:
    """What nodes did when: one row per node, with bars for computing, waiting and sending.

    Args:
        spans: (computing, waiting or sending; node; begin and end in seconds).
        path: the PNG to write.
    """
    if not spans:
        return None
    from matplotlib.patches import Patch

    num_nodes = 1 + max(node for _, node, _, _ in spans)
    figure = new_figure(9.0, 1.8 + 0.25 * num_nodes)
    axes = figure.add_subplot()
    for what, (colour, below, height) in _BARS.items():
        for node in range(num_nodes):
            bars = [(begin, end - begin) for kind, own, begin, end in spans if kind == what and own == node]
            axes.broken_barh(bars, (node + below, height), facecolor=colour, edgecolor="white", linewidth=0.4)
    axes.set_ylim(num_nodes - 0.4, -0.6)
    axes.set_yticks(range(num_nodes))
    axes.set_xlim(0.0, max(end for _, _, _, end in spans))
    dress(axes, "What the nodes did in the first rounds", "simulated seconds", "node", grid=False)
    handles = [Patch(color=colour, label=what) for what, (colour, _, _) in _BARS.items()]
    figure.legend(handles=handles, loc="outside upper right", ncols=3, fontsize=TICK_SIZE, frameon=False)
    return save(figure, path)


def staleness(counts: npt.ArrayLike, path: Path) -> Path | None:
    """How many messages were how old when they were taken in.

    Args:
        counts: messages that were 0, 1, 2, ... local steps of their sender old.
        path: the PNG to write.
    """
    numbers = np.trim_zeros(np.asarray(counts, dtype=np.float64), "b")
    if not numbers.any():
        return None
    percent = 100.0 * numbers / numbers.sum()
    mean = float(np.arange(len(percent)) @ percent) / 100.0
    figure = new_figure()
    axes = figure.add_subplot()
    axes.bar(np.arange(len(percent)), percent, width=0.8, color=BAR_BLUE)
    axes.axvline(mean, color=INK, linewidth=1.6, label=f"mean {mean:.2f}")
    axes.set_xlim(-0.7, max(len(percent), 4) - 0.3)
    dress(axes, "Age of what nodes took in", "local steps of the sender since", "share of messages (%)")
    axes.legend(fontsize=TICK_SIZE, frameon=False, loc="upper right")
    return save(figure, path)
