"""Finished runs as Python objects and tables."""

import html
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from simulator.environment import FILE_NAME as ENVIRONMENT
from simulator.loggers.console import KEY_METRICS, describe_metrics
from simulator.loggers.jsonl import FILE_NAME as METRICS
from simulator.loggers.jsonl import read_records
from simulator.summary import FILE_NAME as SUMMARY

if TYPE_CHECKING:
    import pandas as pd

CONFIG = "config.yaml"


@dataclass(frozen=True, repr=False)
class Run:
    """The contents of a run folder.

    Attributes:
        folder: the run folder, absolute.
        config: the resolved configuration.
        summary: ``summary.json``; None while the run has not finished.
        records: the evaluations, ``{"step": 100, "train/loss": 0.25, ...}``; ``pandas.DataFrame(run.records)`` makes a
            table of them, and so does :meth:`table`.
        figures: path by name, such as ``curves``.
    """

    folder: Path
    config: dict[str, Any]
    summary: dict[str, Any] | None
    records: list[dict[str, Any]]
    figures: dict[str, Path] = field(default_factory=dict)

    @property
    def settings(self) -> dict[str, Any]:
        """The choices by group, and all settings by dotted name: ``{"graph": "ring", "algorithm.lr": 0.1, ...}``."""
        choices: dict[str, Any] = self.config.get("choices", {})
        return dict(_flat({name: value for name, value in self.config.items() if name != "choices"})) | choices

    @property
    def environment(self) -> dict[str, Any]:
        """What it was computed with, as ``environment.json`` says; empty where there is no such file."""
        path = self.folder / ENVIRONMENT
        return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}

    def table(self) -> "pd.DataFrame":
        """One row per evaluation, one column per metric, and the step as index."""
        import pandas as pd

        return pd.DataFrame(self.records, columns=None if self.records else ["step"]).set_index("step")

    def __repr__(self) -> str:
        return f"<Run {self._chosen()}: {self._state()}, in {self.folder}>"

    def _repr_html_(self) -> str:
        """What a notebook shows: the choices, the key numbers, and the folder."""
        rows = [("run", self._chosen()), ("folder", str(self.folder)), ("state", self._state())]
        cells = (f"<tr><th>{html.escape(name)}</th><td>{html.escape(text)}</td></tr>" for name, text in rows)
        return f"<table>{''.join(cells)}</table>"

    def _chosen(self) -> str:
        choices = self.config.get("choices", {})
        return f"{choices.get('algorithm')} on {choices.get('graph')}, {self.config['num_nodes']} nodes"

    def _state(self) -> str:
        if self.summary is None:
            return f"not finished, {len(self.records)} evaluation(s)"
        numbers = describe_metrics(self.summary, {name: name for name in KEY_METRICS})
        return f"{self.summary['step']} steps  {numbers}"


class Runs(Sequence[Run]):
    """Several runs, in the order of their folders."""

    def __init__(self, runs: Sequence[Run]) -> None:
        self._runs = tuple(runs)

    @overload
    def __getitem__(self, index: int) -> Run: ...
    @overload
    def __getitem__(self, index: slice) -> "Runs": ...
    def __getitem__(self, index: int | slice) -> "Run | Runs":
        return Runs(self._runs[index]) if isinstance(index, slice) else self._runs[index]

    def __len__(self) -> int:
        return len(self._runs)

    def __repr__(self) -> str:
        return "\n".join([f"<{len(self)} runs>", *map(repr, self)])

    def _repr_html_(self) -> str:
        return str(self.table().to_html())

    def table(self) -> "pd.DataFrame":
        """One row per run: the choices and settings that differ between runs, then the numbers of the summary.

        The index is the folder; a run that has not finished has no numbers.
        """
        import pandas as pd

        columns = differing([run.config for run in self])
        rows = []
        for position, run in enumerate(self):
            numbers = {
                name: value
                for name, value in (run.summary or {}).items()
                if isinstance(value, int | float) and not isinstance(value, bool)
            }
            rows.append({name: values[position] for name, values in columns.items()} | numbers)
        return pd.DataFrame(rows, index=pd.Index([str(run.folder) for run in self], name="folder"))


def load_run(folder: str | Path) -> Run:
    """The run in a folder, finished or not.

    Raises:
        ValueError: when there is no such folder, or no run in it.
    """
    path = Path(folder).resolve()
    if not path.is_dir():
        raise ValueError(f"{folder}: there is no such folder")
    if not _is_run(path):
        raise ValueError(f"{folder}: this is no run folder, there is no {CONFIG} of a run in it")
    from omegaconf import OmegaConf

    config = OmegaConf.to_container(OmegaConf.load(path / CONFIG))
    assert isinstance(config, dict)
    summary = path / SUMMARY
    figures = sorted((path / "figures").glob("*.png"))
    return Run(
        folder=path,
        config={str(key): value for key, value in config.items()},
        summary=json.loads(summary.read_text(encoding="utf-8")) if summary.is_file() else None,
        records=read_records(path / METRICS) if (path / METRICS).is_file() else [],
        figures={figure.stem: figure for figure in figures},
    )


def load_runs(folder: str | Path) -> Runs:
    """All runs below a folder, such as that of a sweep, by the order of their folders' names.

    Raises:
        ValueError: when there is no such folder, or no run below it.
    """
    path = Path(folder).resolve()
    if not path.is_dir():
        raise ValueError(f"{folder}: there is no such folder")
    folders = sorted((file.parent for file in path.rglob(CONFIG) if _is_run(file.parent)), key=_natural)
    if not folders:
        raise ValueError(f"{folder}: there is no run below it, no folder with the {CONFIG} of a run")
    return Runs([load_run(each) for each in folders])


def differing(configs: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """The differences between configurations: first choices by group, then settings by dotted key; one value per run.

    A setting that only some choices have differs when those that have it differ. One that only repeats a root key,
    such as ``graph.seed``, and the class of a chosen component are left out.
    """
    choices = [dict(config.get("choices", {})) for config in configs]
    settings = [dict(_flat({k: v for k, v in config.items() if k not in ("choices", "resume")})) for config in configs]
    differences: dict[str, list[Any]] = {}
    for group in dict.fromkeys(name for each in choices for name in each):
        values = [each.get(group) for each in choices]
        if len(set(values)) > 1:
            differences[group] = values
    for key in dict.fromkeys(name for each in settings for name in each):
        present = [repr(each[key]) for each in settings if key in each]
        group, _, last = key.rpartition(".")
        repeats = group and all(key not in each or each[key] == each.get(last, ...) for each in settings)
        if len(set(present)) > 1 and not repeats and not (last == "_target_" and group in differences):
            differences[key] = [each.get(key) for each in settings]
    return differences


def _is_run(folder: Path) -> bool:
    """Whether the folder holds a run's configuration; Hydra writes a file of the same name into ``.hydra``."""
    return folder.name != ".hydra" and (folder / CONFIG).is_file() and "num_steps:" in (folder / CONFIG).read_text()


def _natural(folder: Path) -> list[tuple[float, str]]:
    """Sorts ``2`` before ``10``, and ``lr_0.05`` before ``lr_0.2``."""
    parts = re.split(r"(\d+(?:\.\d+)?)", str(folder))
    return [(float(part), "") if position % 2 else (-1.0, part) for position, part in enumerate(parts)]


def _flat(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, entry in value.items():
        if isinstance(entry, Mapping) and entry:
            yield from _flat(entry, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", entry
