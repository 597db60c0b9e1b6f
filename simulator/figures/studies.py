"""Pictures of the two studies of hypergradient push: its error by term, and predicted against actual influence."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from simulator.arrays import FloatArray
from simulator.figures.style import BLUE, GREEN, INK, ORANGE, TICK_SIZE, add_legend, dress, new_figure, save

_COLOURS = (ORANGE, "#E69F00", GREEN, "#56B4E9", BLUE, "#CC79A7", INK)
_DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)), (0, (8, 2)))
_RULES = {"debiased": "the paper's rule", "average_preserving": "average-preserving rule"}


def error_by_term(errors: Mapping[str, Mapping[int, FloatArray]], path: Path) -> Path | None:
    """Relative error of the hypergradient against the number of terms; medians and 10-90 % bands over graph seeds.

    Args:
        errors: by rule and by number of pushes per term, [seeds, terms].
        path: file to write.
    """
    shown = {rule: curves for rule, curves in errors.items() if any(np.any(values > 0) for values in curves.values())}
    if not shown:
        return None
    figure = new_figure(5.6 * len(shown) + 0.6, 4.4)
    panels = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
    for panel, (rule, curves) in zip(panels, shown.items(), strict=True):
        for index, (pushes, values) in enumerate(curves.items()):
            colour, dash = _COLOURS[index % len(_COLOURS)], _DASHES[index % len(_DASHES)]
            terms = np.arange(1, values.shape[1] + 1)
            low, middle, high = np.quantile(values, (0.1, 0.5, 0.9), axis=0)
            panel.fill_between(terms, low, high, color=colour, alpha=0.15, linewidth=0)
            panel.plot(terms, middle, linestyle=dash, color=colour, linewidth=1.8, label=f"S = {pushes}")
        panel.set_yscale("log")
        title = f"Hypergradient error, {_RULES.get(rule, rule)}"
        dress(panel, title, "terms of the series, m", "error / norm of the exact one" if panel is panels[0] else "")
        add_legend(panel)
    return save(figure, path)


def predicted_against_actual(
    predicted: FloatArray,
    actual: FloatArray,
    path: Path,
    *,
    removed_share: float = 1.0,
    noise_floor: float | None = None,
    gradient_norm: float | None = None,
    r2: float | None = None,
) -> Path | None:
    """Change of the validation loss without a sample: the prediction against the result of retraining.

    Args:
        predicted, actual: one entry per sample.
        path: file to write.
        removed_share: the share of a sample that is removed.
        noise_floor: the error of the actual changes, drawn as a band around the line.
        gradient_norm: norm of the mean gradient where the predictions were made.
        r2: of the predictions.
    """
    kept = np.isfinite(predicted) & np.isfinite(actual)
    if kept.sum() < 2:
        return None
    figure = new_figure(5.2, 4.8)
    axes = figure.add_subplot()
    values = np.concatenate([predicted[kept], actual[kept]])
    margin = 0.06 * (float(np.ptp(values)) or 1.0)
    ends = (float(values.min()) - margin, float(values.max()) + margin)
    axes.plot(ends, ends, color=INK, linewidth=1.0, label="predicted = actual")
    known = {"R²": r2, "gradient norm": gradient_norm, "noise floor": noise_floor}
    texts = [f"{name} {value:.2g}" for name, value in known.items() if value is not None]
    if noise_floor is not None:
        low, high = (tuple(end + sign * noise_floor for end in ends) for sign in (-1, 1))
        axes.fill_between(ends, low, high, color=ORANGE, alpha=0.25, linewidth=0, label="noise floor")
    label = "one sample left out" if removed_share == 1 else f"a share of {removed_share:g} of one sample removed"
    axes.scatter(actual[kept], predicted[kept], s=26, color=BLUE, alpha=0.75, linewidths=0, label=label)
    axes.set_xlim(*ends)
    axes.set_ylim(*ends)
    axes.ticklabel_format(style="sci", scilimits=(-2, 3), useMathText=True)
    dress(axes, "Change of the validation loss", "actual, after training again", "predicted by hypergradient push")
    add_legend(axes)
    if texts:
        axes.text(0.98, 0.02, "\n".join(texts), transform=axes.transAxes, ha="right", va="bottom", fontsize=TICK_SIZE)
    return save(figure, path)
