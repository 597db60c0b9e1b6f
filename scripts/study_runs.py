"""Run folders as the scripts of single studies read them: settings of classes, runs grouped by equal settings."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from simulator.tables import IRRELEVANT

GROUPS = ("algorithm", "problem", "graph", "partition", "dataset", "model", "faults", "timing", "compressor")


@dataclass(frozen=True)
class Run:
    """One finished run: its settings, flat, without the seed, and its summary."""

    folder: Path
    settings: Mapping[str, Any]
    seed: Any
    summary: Mapping[str, Any]


def flatten(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """``{"a": {"b": 1}}`` as ``{"a.b": 1}``; seeds and settings without effect are left out."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if key == "seed" or (not prefix and key in ("choices", *IRRELEVANT)):
            continue
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value if not isinstance(value, Mapping) else None
    return flat


def read_runs(folders: Iterable[Path]) -> list[Run]:
    """All finished runs below the folders.

    Raises:
        ValueError: when there is none.
    """
    runs = {}
    for folder in folders:
        for path in sorted(folder.rglob("summary.json")):
            config = path.with_name("config.yaml")
            if config.is_file():
                settings = yaml.safe_load(config.read_text())
                summary = json.loads(path.read_text())
                runs[path.parent.resolve()] = Run(path.parent, flatten(settings), settings.get("seed"), summary)
    if not runs:
        raise ValueError(f"no finished run (summary.json and config.yaml) below {', '.join(map(str, folders))}")
    return list(runs.values())


def frozen(settings: Mapping[str, Any], without: Sequence[str] = ()) -> tuple[tuple[str, str], ...]:
    """The settings as one string, for comparisons."""
    return tuple(sorted((key, json.dumps(value)) for key, value in settings.items() if key not in without))


def grouped(runs: Iterable[Run], without: Sequence[str] = ()) -> dict[Any, list[Run]]:
    """Runs by equal settings, in order of appearance."""
    groups: dict[Any, list[Run]] = {}
    for run in runs:
        groups.setdefault(frozen(run.settings, without), []).append(run)
    return groups


def label_groups(settings: Sequence[Mapping[str, str]]) -> list[str]:
    """Names groups by the classes that differ, and by settings that differ among groups of the same classes."""
    decoded = [{key: json.loads(value) for key, value in group.items()} for group in settings]
    targets = [f"{group}._target_" for group in GROUPS]
    telling = [key for key in targets if len({str(group.get(key)) for group in decoded}) > 1]
    classes = [tuple(str(group.get(key)) for key in telling) for group in decoded]
    labels = []
    for group, kind in zip(decoded, classes, strict=True):
        alike = [other for other, other_kind in zip(decoded, classes, strict=True) if other_kind == kind]
        keys = sorted({key for other in alike for key in other} - set(targets))
        differing = [key for key in keys if len({str(other.get(key)) for other in alike}) > 1]
        words = [name.rsplit(".", 1)[-1] for name in kind if name != "None"]
        words += [f"{key.rsplit('.', 1)[-1]}={group.get(key)}" for key in differing]
        labels.append(", ".join(words) or "all runs")
    return labels
