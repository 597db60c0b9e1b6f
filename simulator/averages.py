"""The mean of some values, such as those of the seeds of one setting, and how far they spread about it."""

from collections.abc import Sequence

import numpy as np

SPREADS = ("std", "ci95")


def mean(values: Sequence[float]) -> float:
    """The mean; NaN of nothing."""
    return float(np.mean(values)) if len(values) else float("nan")


def spread(values: Sequence[float], kind: str = "std") -> float:
    """The sample standard deviation, or the half width of the 95 % confidence interval; NaN below two values."""
    if len(values) < 2:
        return float("nan")
    deviation = float(np.std(values, ddof=1))
    if kind == "std":
        return deviation
    from scipy.stats import t

    return deviation * float(t.ppf(0.975, len(values) - 1)) / float(np.sqrt(len(values)))
