"""Tables over finished runs: one row per setting, with means and standard deviations over its seeds.

Every number is from one evaluation of a run, and its column says which: ``best/...`` is the evaluation with the best
value of the metric that the algorithm selects by (``best/step`` of ``summary.json``), ``last/...`` the last one.
"""

import difflib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simulator.averages import mean, spread
from simulator.figures.style import unit_of
from simulator.results import Run, differing, load_runs

if TYPE_CHECKING:
    import pandas as pd

EVALUATIONS = ("best", "last")
# Settings that neither change the result nor distinguish rows.
IRRELEVANT = frozenset(
    [
        *("resume", "figures", "num_threads", "timeout_s", "data_root", "device", "compute", "checkpoint"),
        *("eval_every", "eval_every_s", "launcher", "logger", "link", "objective", "hparams_search"),
    ]
)
# Settings of which no value makes another result; all others tell rows apart that were run on purpose.
NEVER_A_SETTING = ("resume", "figures", "logger")
ACCURACIES = ("test/accuracy", "test/accuracy_weighted", "test/accuracy_bottom_decile")
LOSSES = ("test/loss", "outer/loss", "train/loss")
COSTS = ("comm/bytes", "step", "time/wall_s")


@dataclass(frozen=True)
class Group:
    """Runs of one setting.

    Attributes:
        settings: what distinguishes it from the other groups, by name.
        runs: its runs, which differ by their seeds.
        chosen: the values of the grid at which it is best.
        num_settings: among how many settings of the grid it is best.
    """

    settings: Mapping[str, Any]
    runs: Sequence[Run]
    chosen: Mapping[str, Any] = field(default_factory=dict)
    num_settings: int = 1

    @property
    def num_seeds(self) -> int:
        """How many different seeds its runs have."""
        return len({run.config.get("seed") for run in self.runs})

    @property
    def label(self) -> str:
        """Its settings in words, such as ``sgp, ring, lr=0.1``."""
        return label(self.settings)


def finished_runs(folders: Iterable[Path]) -> list[Run]:
    """All finished runs below the folders, each once.

    Raises:
        ValueError: when there is no such folder, or no finished run below them.
    """
    folders = list(folders)
    runs = {run.folder: run for folder in folders for run in load_runs(folder) if run.summary is not None}
    if not runs:
        raise ValueError(f"no finished run (one with a summary.json) below {', '.join(map(str, folders))}")
    return list(runs.values())


def which_evaluation(runs: Sequence[Run], at: str | None) -> str:
    """The evaluation that counts: ``at``, or else ``best`` where every run has one, and ``last`` where some have not.

    A run has no best evaluation when it never measured what its algorithm selects by, as without a validation set.
    """
    if at is not None:
        return at
    return "best" if runs and all("best/step" in (run.summary or {}) for run in runs) else "last"


def numbers(run: Run, at: str) -> dict[str, float]:
    """The metrics of a run at its best or last evaluation; empty where it has no such evaluation."""
    summary = _finite(run.summary or {})
    if at == "last":
        return {name: value for name, value in summary.items() if not name.startswith("best/")}
    if "best/step" not in summary:
        return {}
    record = next((record for record in run.records if record["step"] == summary["best/step"]), {})
    best = {name.removeprefix("best/"): value for name, value in summary.items() if name.startswith("best/")}
    return _finite(record) | best


def by_setting(runs: Sequence[Run], without: Sequence[str] = (), ignored: Iterable[str] = IRRELEVANT) -> list[Group]:
    """Runs grouped by whatever differs between them except the seed, in order of appearance.

    Args:
        without: further settings that do not separate runs.
        ignored: settings and groups of settings (first part of the name) that neither separate nor distinguish runs.
    """
    import pandas as pd

    ignored = {"seed", *ignored}
    columns = {
        name: [_plain(value) for value in values]
        for name, values in differing([run.config for run in runs]).items()
        if name.partition(".")[0] not in ignored and name not in without
    }
    frame = pd.DataFrame(columns, index=range(len(runs)), dtype=object)
    if not columns:
        return [Group({}, runs)] if runs else []
    members = frame.groupby(list(columns), sort=False, dropna=False).indices.values()
    ordered = sorted((list(positions) for positions in members), key=lambda positions: positions[0])
    shown = _telling(frame)
    return [
        Group({name: columns[name][places[0]] for name in shown}, [runs[place] for place in places])
        for places in ordered
    ]


def best_settings(
    runs: Sequence[Run], grid: Sequence[str], choose_by: str, at: str, ignored: Iterable[str] = IRRELEVANT
) -> list[Group]:
    """As :func:`by_setting`, but of settings that differ by ``grid`` alone only the best.

    The best has the best mean of ``choose_by`` over seeds: the largest of accuracies, the smallest of everything else.
    A setting that has fewer seeds than another does not compete, because a run that diverged has no summary.

    Raises:
        ValueError: when no run has a setting of the grid, or none that competes has ``choose_by``.
    """
    for key in grid:
        if not any(key in run.settings for run in runs):
            known = sorted({name for run in runs for name in run.settings})
            alike = ", ".join(difflib.get_close_matches(key, known, n=3, cutoff=0.4))
            raise ValueError(f"--grid {key}: no run has this setting" + (f"; similar: {alike}" if alike else ""))
    chosen = []
    for group in by_setting(runs, grid, ignored):
        candidates = by_setting(group.runs, ignored=ignored)
        most = max(candidate.num_seeds for candidate in candidates)
        able = [candidate for candidate in candidates if candidate.num_seeds == most]
        best = able[0]
        if len(candidates) > 1:
            ranked = [(value, other) for other in able if (value := _mean(other, choose_by, at)) is not None]
            if not ranked:
                raise ValueError(f"{able[0].runs[0].folder}: no {at}/{choose_by}; choose by another metric")
            pick = max if is_best_when_largest(choose_by) else min
            best = pick(ranked, key=lambda pair: pair[0])[1]
        values = {key: best.runs[0].settings.get(key) for key in grid}
        chosen.append(Group(group.settings, best.runs, values, len(candidates)))
    return chosen


def table(groups: Sequence[Group], at: str, metrics: Sequence[str] = ()) -> "pd.DataFrame":
    """A row per group: its settings, means and standard deviations over its runs, the number of seeds, what was chosen.

    Args:
        at: the evaluation, ``best`` or ``last``.
        metrics: without any, the accuracies, or else losses, and costs; those that no run has are left out.
    """
    import pandas as pd

    measured = [[numbers(run, at) for run in group.runs] for group in groups]
    known = {name for rows in measured for row in rows for name in row}
    rows = []
    for group, values in zip(groups, measured, strict=True):
        row: dict[str, Any] = dict(group.settings)
        for name in metrics or default_metrics(known):
            if name in known:
                present = [each[name] * unit_of(name)[0] for each in values if name in each]
                row |= {column(name, at): mean(present), f"{column(name, at)} std": spread(present)}
        row["seeds"] = group.num_seeds
        rows.append(row | dict(group.chosen))
    return pd.DataFrame(rows, dtype=object)


def default_metrics(known: Iterable[str]) -> list[str]:
    """The accuracies among the names, or else the losses, and the costs."""
    known = set(known)
    results = [name for name in ACCURACIES if name in known] or [name for name in LOSSES if name in known]
    return [*results, *(name for name in COSTS if name in known)] if results else []


def column(name: str, at: str) -> str:
    """What a table calls a metric, such as ``best/test/accuracy (%)``."""
    unit = unit_of(name)[1]
    return f"{at}/{name} ({unit})" if unit else f"{at}/{name}"


def to_markdown(frame: "pd.DataFrame") -> str:
    """The table with ``mean ± standard deviation`` in one cell, and empty cells where a value is missing."""
    names = [str(name) for name in frame.columns if not str(name).endswith(" std")]
    lines = [names, ["---:" if f"{name} std" in frame.columns else "---" for name in names]]
    for _, row in frame.iterrows():
        lines.append([_cell(row[name], row.get(f"{name} std"), name) for name in names])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def repeated_seeds(groups: Sequence[Group]) -> str:
    """One line that names settings of which several runs have one seed; empty if there are none."""
    folders = [str(group.runs[0].folder) for group in groups if group.num_seeds < len(group.runs)]
    if not folders:
        return ""
    return f"{len(folders)} setting(s) have several runs with one seed, which all count: that of {', '.join(folders)}"


def label(settings: Mapping[str, Any]) -> str:
    """Settings in words: a choice by its name, others as ``lr=0.1``."""
    words = []
    for name, value in settings.items():
        if value is not None:
            short = name.rpartition(".")[2]
            is_choice = (name == short and isinstance(value, str)) or short == "_target_"
            words.append(str(value).rpartition(".")[2] if is_choice else f"{short}={value}")
    return ", ".join(words) or "all runs"


def is_best_when_largest(metric: str) -> bool:
    """Accuracies are best when largest, everything else when smallest."""
    return metric.rpartition("/")[2].startswith("accuracy")


def _mean(group: Group, metric: str, at: str) -> float | None:
    """The mean over the runs of a group; None where a run does not have the metric."""
    values = [numbers(run, at).get(metric) for run in group.runs]
    present = [value for value in values if value is not None]
    return mean(present) if len(present) == len(values) else None


def _telling(frame: "pd.DataFrame") -> list[str]:
    """The choices, and those settings that differ between rows of the same choices."""
    choices = [str(name) for name in frame.columns if "." not in str(name) or str(name).endswith("._target_")]
    settings = [str(name) for name in frame.columns if str(name) not in choices]
    if not choices:
        return settings
    alike = frame.astype(str).groupby(choices, sort=False)
    return choices + [name for name in settings if (alike[name].nunique() > 1).any()]


def _finite(values: Mapping[str, Any]) -> dict[str, float]:
    return {
        name: float(value)
        for name, value in values.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    }


def _plain(value: Any) -> Any:
    """A value that can be compared and printed: lists and mappings become text."""
    return json.dumps(value) if isinstance(value, list | dict) else value


def _cell(value: Any, deviation: Any, name: str) -> str:
    if value is None or value != value:
        return ""
    if isinstance(value, float) and deviation is not None:
        form = ".1f" if "(%)" in name else ".4g"
        text = f"{value:{form}}"
        has_none = deviation != deviation or (deviation == 0 and "(%)" not in name)
        return text if has_none else f"{text} ± {deviation:{form}}"
    return f"{value:g}" if isinstance(value, float) else str(value)
