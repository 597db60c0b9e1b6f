"""What a study found in one case: the chosen trial of every method, its seeds, and which methods are alike.

The test is Student's paired t-test, two-sided, on the differences to the best method, seed by seed; the p-values of all
methods of a case are corrected by Holm's procedure.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from simulator.averages import mean
from simulator.studies.plan import Case, Method, is_at_end
from simulator.studies.runs import Result
from simulator.tables import is_best_when_largest


@dataclass(frozen=True)
class Cell:
    """One method in one case.

    Attributes:
        trials: the runs with which it was tuned.
        chosen: the best of them; None where all are lost.
        finals: the runs that are reported; none where nothing was chosen.
    """

    case: Case
    method: Method
    trials: Sequence[Result]
    chosen: Result | None
    finals: Sequence[Result] = ()

    @property
    def values(self) -> dict[int, float]:
        """The metric that is compared, by seed, of the seeds that are not lost."""
        found = {result.spec.seed: result.number(self.case.metric) for result in self.finals}
        return {seed: value for seed, value in found.items() if value is not None}

    @property
    def is_complete(self) -> bool:
        """Whether no seed is lost."""
        return bool(self.finals) and len(self.values) == len(self.finals)

    @property
    def refusal(self) -> str:
        """Why the method cannot run in this case; empty where it can."""
        lines = {result.line for result in self.trials if result.state == "refused"}
        return min(lines) if lines and len(self.trials) == sum(r.state == "refused" for r in self.trials) else ""

    @property
    def grid_ends(self) -> dict[str, str]:
        """The tuned settings whose chosen value is the ``lower`` or ``upper`` end of what was tried."""
        if self.chosen is None:
            return {}
        tried: dict[str, list[object]] = {}
        for result in self.trials:
            for key, value in result.spec.point:
                tried.setdefault(key, []).append(value)
        ends = {key: is_at_end(value, tried[key]) for key, value in self.chosen.spec.point}
        return {key: end for key, end in ends.items() if end}


def best_trial(trials: Sequence[Result], metric: str) -> Result | None:
    """The trial with the best value of a metric, the first of equal ones; lost ones do not compete."""
    sign = 1.0 if is_best_when_largest(metric) else -1.0
    ranked = [(sign * value, -place) for place, each in enumerate(trials) if (value := each.number(metric)) is not None]
    return trials[-max(ranked)[1]] if ranked else None


@dataclass(frozen=True)
class Verdict:
    """How a method stands in a case.

    Attributes:
        is_best: whether it has the best mean among the methods that have lost no seed.
        p_value: corrected, against the best; None for the best itself, and where there is no test.
        is_alike: whether the test does not tell it from the best.
    """

    is_best: bool = False
    p_value: float | None = None
    is_alike: bool = False


def judge(cells: Sequence[Cell], significance: float) -> dict[str, Verdict]:
    """The verdict on every method of one case, by its name."""
    complete = [cell for cell in cells if cell.is_complete]
    if not complete:
        return {cell.method.name: Verdict() for cell in cells}
    pick = max if is_best_when_largest(complete[0].case.metric) else min
    best = pick(complete, key=lambda cell: mean(list(cell.values.values())))
    p_values = {
        cell.method.name: p
        for cell in complete
        if cell is not best and (p := paired_p_value(cell.values, best.values)) is not None
    }
    corrected = holm(p_values)
    verdicts = {}
    for cell in cells:
        p = corrected.get(cell.method.name)
        verdicts[cell.method.name] = Verdict(cell is best, p, p is not None and p >= significance)
    return verdicts


def paired_p_value(values: Mapping[int, float], others: Mapping[int, float]) -> float | None:
    """Of the two-sided paired t-test over the seeds that both have; None for fewer than two."""
    seeds = sorted(set(values) & set(others))
    if len(seeds) < 2:
        return None
    differences = np.array([values[seed] - others[seed] for seed in seeds])
    if np.ptp(differences) == 0:
        return 1.0 if differences[0] == 0 else 0.0
    from scipy.stats import ttest_1samp

    return float(ttest_1samp(differences, 0.0).pvalue)


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """The p-values corrected for their number by Holm's step-down procedure."""
    corrected, largest = {}, 0.0
    for rank, name in enumerate(sorted(p_values, key=lambda name: p_values[name])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[name]))
        corrected[name] = largest
    return corrected
