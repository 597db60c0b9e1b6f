"""What predicts how far training gets on a schedule: n_W(gamma) or a gap.

Every schedule has the loss of its best learning rate. Schedules that average exactly in every round, and that of nodes
on their own, are a reference curve from the number of nodes to the loss; one gamma is fitted so that the losses of all
schedules lie on it at n_W(gamma) (see fitting.py). Then the losses are compared with n_W and the gaps by their ranks: a
quantity that predicts the loss has a rank correlation of -1, for accuracies of 1.

Source: Vogels, Hendrikx and Jaggi, "Beyond spectral gap", NeurIPS 2022, figure 1 and section 5 (arXiv 2206.03093).
Departures: rank correlations, where the paper has pictures.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from simulator.topology import neighbors
from simulator.topology.fitting import DecayFit, fit_decay, rank_correlation
from simulator.topology.walk import Walk

_ROUNDING = 1e-9
# Far from 0, so that only schedules without any communication have n_W = 1 there.
_LONG_MEMORY = 0.999


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A schedule and its loss.

    Attributes:
        label: its name.
        loss: that of its best learning rate.
        walks: on every draw of the schedule that was trained on, one or more.
        gaps: by name, mean over draws; NaN where not known.
    """

    label: str
    loss: float
    walks: Sequence[Walk]
    gaps: Mapping[str, float]

    @property
    def num_nodes(self) -> int:
        """M."""
        return self.walks[0].num_nodes

    def num_neighbors(self, gamma: float) -> float:
        """n_W(gamma), mean over draws."""
        return float(np.mean([neighbors.effective_num_neighbors(walk, gamma) for walk in self.walks]))

    def num_neighbors_worst(self, gamma: float) -> float:
        """n_W(gamma) of the worst node, mean over draws."""
        return float(np.mean([neighbors.effective_num_neighbors_worst(walk, gamma) for walk in self.walks]))

    def exact_size(self) -> int | None:
        """How many nodes every round averages exactly: M, or 1 without communication; None for other schedules."""
        if self.num_neighbors(_LONG_MEMORY) < 1.0 + _ROUNDING:
            return 1
        return self.num_nodes if self.num_neighbors(0.0) > self.num_nodes * (1.0 - _ROUNDING) else None


@dataclass(frozen=True)
class Correlation:
    """The results of a comparison.

    Attributes:
        compared: positions of the schedules that are compared: those with the most nodes.
        reference: number of exactly averaging nodes to loss.
        fit: the common gamma of the compared schedules; None with fewer than two reference sizes, and if not asked for.
        ranks: rank correlations of the loss by the name of the quantity; NaN where one does not vary.
    """

    compared: Sequence[int]
    reference: Mapping[int, float]
    fit: DecayFit | None
    ranks: Mapping[str, float]


def correlate(schedules: Sequence[Measured], gamma: float, *, fits: bool = True) -> Correlation:
    """Fits gamma and compares ranks.

    Args:
        schedules: two or more with the most nodes; of fewer nodes, only exact averages are used, as reference.
        gamma: a further decay at which n_W is compared.
        fits: whether gamma is fitted; not where exact averages had other numbers of steps than the rest.

    Raises:
        ValueError: for fewer than two schedules, two of the same exact size, and a gamma out of range.
    """
    neighbors.check_decay(gamma)
    most = max((schedule.num_nodes for schedule in schedules), default=0)
    compared = [index for index, schedule in enumerate(schedules) if schedule.num_nodes == most]
    if len(compared) < 2:
        raise ValueError(f"{len(compared)} schedules of {most} nodes: expected two or more to compare")
    reference = _reference(schedules)
    chosen = [schedules[index] for index in compared]
    losses = [schedule.loss for schedule in chosen]
    fit = None
    if fits and len(reference) > 1:
        fit = fit_decay(losses, [schedule.num_neighbors for schedule in chosen], reference)
    quantities: dict[str, list[float]] = {}
    for name, decay in [*([("fitted", fit.gamma)] if fit else []), (f"{gamma:g}", gamma)]:
        quantities[f"effective_num_neighbors@gamma={name}"] = [each.num_neighbors(decay) for each in chosen]
        quantities[f"effective_num_neighbors_worst@gamma={name}"] = [each.num_neighbors_worst(decay) for each in chosen]
    for name in chosen[0].gaps:
        quantities[name] = [each.gaps[name] for each in chosen]
    ranks = {name: _ranks(losses, values) for name, values in quantities.items()}
    return Correlation(compared, reference, fit, ranks)


def _ranks(losses: Sequence[float], values: Sequence[float]) -> float:
    """Rank correlation over schedules for which the quantity is known; NaN for fewer than two."""
    # Rounded: equal values that were computed in different ways differ in their last digits.
    rounded = [float(f"{value:.9g}") for value in values]
    known = [(loss, value) for loss, value in zip(losses, rounded, strict=True) if np.isfinite(value)]
    return rank_correlation(*zip(*known, strict=True)) if len(known) > 1 else float("nan")


def _reference(schedules: Sequence[Measured]) -> dict[int, float]:
    """By size; the mean over many isolated nodes is a better estimate for one node than one run of one node."""
    found: dict[int, Measured] = {}
    for schedule in sorted(schedules, key=lambda schedule: schedule.num_nodes):
        size = schedule.exact_size()
        if size is not None:
            if size in found and found[size].num_nodes == schedule.num_nodes:
                raise ValueError(
                    f"{found[size].label} and {schedule.label} both average {size} nodes exactly: "
                    "give folders whose runs differ by graph, learning rate and seed alone"
                )
            found[size] = schedule
    return {size: found[size].loss for size in sorted(found)}
