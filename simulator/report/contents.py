"""Everything that a page shows, as one dictionary that is written into it as JSON."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from simulator import tables
from simulator.figures.style import PALETTE, unit_of
from simulator.report.curves import columns, kept_evaluations, rounded
from simulator.report.recomputed import Recomputed
from simulator.results import Run, differing

AXES = {
    "step": "steps",
    "comm/bytes": "sent so far over all edges (MB)",
    "time/sim_s": "simulated time (s)",
    "time/wall_s": "wall time (s)",
}
"""What curves may be drawn against, and how its axis is called; metrics that begin with ``oracle/`` follow."""
PREFERRED = ("test/accuracy", "test/loss", "outer/loss", "outer/grad_norm", "train/loss")
MOST_NODE_VALUES = 60_000
"""Values by node of a page together, about eight bytes each."""
_PER_NODE = "_per_node"


def contents(folder: Path, runs: Sequence[Run]) -> dict[str, Any]:
    """The data of the page of all runs below a folder."""
    groups = tables.by_setting(runs, ignored=tables.NEVER_A_SETTING)
    group_of = {run.folder: place for place, group in enumerate(groups) for run in group.runs}
    done = [run for run in runs if run.summary is not None]
    at = tables.which_evaluation(done, None)
    recomputed = Recomputed([run.config for run in runs])
    kept, every = kept_evaluations(runs)
    most_nodes = _most_nodes(runs)
    described: list[dict[str, Any]] = []
    for place, (run, name, places) in enumerate(zip(runs, _names(runs), kept, strict=True)):
        described.append(
            {
                "name": name,
                "group": group_of[run.folder],
                "seed": run.config.get("seed"),
                "state": _state(run),
                "curves": columns(run, places),
                "last": _numbers(run, "last"),
                "best": _numbers(run, "best"),
                "per_node": _per_node(run, most_nodes),
                "schedule": recomputed.schedule_of[place],
                "partition": recomputed.partition_of[place],
                "asynchronous": bool(run.summary and "staleness/mean" in run.summary),
                "made_by": _made_by(run),
            }
        )
    names = {name for run in described for part in ("curves", "last", "per_node") for name in run[part]}
    common, own = _settings(runs)
    return {
        "title": folder.name,
        "folder": str(folder),
        "palette": PALETTE,
        "runs": described,
        "groups": [{"label": _label(group), "settings": _plain(group.settings)} for group in groups],
        "at": at,
        "axes": {name: label for name, label in _axes(names).items() if name in names},
        "units": {name: unit_of(name) for name in sorted(names) if unit_of(name) != (1.0, "")},
        "preferred": [name for name in PREFERRED if name in names],
        "table_metrics": tables.default_metrics(names),
        "schedules": recomputed.schedules,
        "partitions": recomputed.partitions,
        "common": common,
        "own": own,
        "differences": list(differing([run.config for run in runs])),
        "every": every,
        "most_nodes": most_nodes,
    }


def _axes(names: set[str]) -> dict[str, str]:
    calls = {name: f"oracle calls: {name.partition('/')[2]}" for name in sorted(names) if name.startswith("oracle/")}
    return AXES | {name: label.replace("_", " ") for name, label in calls.items()}


def _names(runs: Sequence[Run]) -> list[str]:
    """Their folders as seen from the deepest one that holds all; the name of the folder where there is one run."""
    if len(runs) == 1:
        return [runs[0].folder.name]
    above = Path(os.path.commonpath([run.folder for run in runs]))
    return [run.folder.relative_to(above).as_posix() for run in runs]


def _state(run: Run) -> str:
    if run.summary is None:
        return "not finished"
    return "diverged" if run.summary.get("diverged") else "finished"


def _label(group: tables.Group) -> str:
    """The settings of a group in words; where nothing differs, what was run."""
    if group.settings:
        return group.label
    choices = group.runs[0].config.get("choices", {})
    return ", ".join(str(choices[name]) for name in ("algorithm", "graph") if choices.get(name)) or "all runs"


def _numbers(run: Run, at: str) -> dict[str, float | int | None]:
    """The numbers at the best or last evaluation; of a run that has not finished, at its last so far."""
    if run.summary is None:
        newest = run.records[-1] if run.records and at == "last" else {}
        return {name: number for name, value in newest.items() if (number := rounded(value)) is not None}
    return {name: rounded(value) for name, value in tables.numbers(run, at).items()}


def _per_node_values(run: Run) -> dict[str, list[Any]]:
    return {
        name.removesuffix(_PER_NODE): values
        for name, values in (run.summary or {}).items()
        if name.endswith(_PER_NODE) and isinstance(values, list) and not any(isinstance(v, list | str) for v in values)
    }


def _most_nodes(runs: Sequence[Run]) -> int | None:
    """How many nodes of a run a page shows; None for all of them."""
    sizes = [len(values) for run in runs for values in _per_node_values(run).values()]
    if sum(sizes) <= MOST_NODE_VALUES:
        return None
    limit = max(sizes)
    while limit > 16 and sum(min(size, limit) for size in sizes) > MOST_NODE_VALUES:
        limit = limit * 3 // 4
    return limit


def _per_node(run: Run, most: int | None) -> dict[str, list[float | int | None]]:
    """The values of all nodes, or of evenly spaced ones in the order of their values."""
    shown = {}
    for name, values in _per_node_values(run).items():
        kept = values
        if most is not None and len(values) > most:
            ordered = sorted(value for value in values if value is not None)
            kept = [ordered[round(place * (len(ordered) - 1) / (most - 1))] for place in range(most)] if ordered else []
        shown[name] = [rounded(value, 6) for value in kept]
    return shown


def _settings(runs: Sequence[Run]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The settings that all runs share, and those of each that they do not."""
    every = [run.settings for run in runs]
    common = {
        name: value
        for name, value in every[0].items()
        if all(name in each and each[name] == value for each in every[1:])
    }
    own = [{name: value for name, value in each.items() if name not in common} for each in every]
    return _plain(common), [_plain(each) for each in own]


def _made_by(run: Run) -> dict[str, Any]:
    environment = run.environment
    return {name: environment.get(name) for name in ("git_commit", "python", "torch", "gpu", "host", "platform")}


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: value if isinstance(value, int | float | str | None) else str(value) for name, value in settings.items()
    }
