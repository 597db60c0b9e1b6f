"""What a study compares: its file, its cases, and the trials of its methods.

A case is a problem on a graph, with a heterogeneity and a budget. Every method is tuned in every case by itself.
"""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from simulator import randomness
from simulator.averages import SPREADS
from simulator.config.overrides import as_override

_QUIET = ("figures=false", "logger=none", "checkpoint.every=0")
_KEYS = frozenset(
    [
        *("description", "common", "problems", "graphs", "heterogeneity", "budgets", "methods"),
        *("trials", "tuning_seed", "seeds", "at", "spread", "significance"),
    ]
)
Point = tuple[tuple[str, Any], ...]


@dataclass(frozen=True)
class Case:
    """One column of a table.

    Attributes:
        problem, graph, heterogeneity, budget: names in the file; empty where the file has none.
        overrides: of all its runs.
        select: the metric by which trials are chosen.
        metric: the metric that is compared.
    """

    problem: str
    graph: str
    heterogeneity: str
    budget: str
    overrides: tuple[str, ...]
    select: str
    metric: str

    @property
    def words(self) -> tuple[str, ...]:
        """Its names that are not empty."""
        return tuple(filter(None, (self.problem, self.graph, self.heterogeneity, self.budget)))

    @property
    def table(self) -> tuple[str, str, str]:
        """What the cases of one table have in common."""
        return self.problem, self.heterogeneity, self.budget


@dataclass(frozen=True)
class Method:
    """One row of a table.

    Attributes:
        name: in tables and pictures.
        overrides: of all its runs.
        grid: the values of each setting that is tuned.
        only: of ``problems`` and ``graphs``, those that it is run on; all where a key is missing.
        own: further overrides, and the grid, on some problems.
    """

    name: str
    overrides: tuple[str, ...]
    grid: Mapping[str, Sequence[Any]]
    only: Mapping[str, Sequence[str]] = field(default_factory=dict)
    own: Mapping[str, tuple[tuple[str, ...], Mapping[str, Sequence[Any]]]] = field(default_factory=dict)

    def runs_on(self, case: Case) -> bool:
        """Whether it is run in a case."""
        named = {"problems": case.problem, "graphs": case.graph}
        return all(named[key] in names for key, names in self.only.items())

    def on(self, problem: str) -> tuple[tuple[str, ...], Mapping[str, Sequence[Any]]]:
        """Its overrides and its grid on a problem."""
        further, grid = self.own.get(problem, ((), self.grid))
        return (*self.overrides, *further), grid

    def points(self, problem: str, trials: int) -> list[Point]:
        """``trials`` points of the grid, in its order: all of them, or else drawn without repetition.

        Raises:
            ValueError: when the grid has fewer.
        """
        grid = self.on(problem)[1]
        points = [tuple(zip(grid, values, strict=True)) for values in itertools.product(*map(list, grid.values()))]
        if len(points) < trials:
            raise ValueError(
                f"methods.{self.name}: its grid has {len(points)} points on {problem}, and every method gets "
                f"trials={trials}"
            )
        if len(points) == trials:
            return points
        drawn = randomness.generator(0, "study_trials").permutation(len(points))[:trials]
        return [points[place] for place in np.sort(drawn)]


@dataclass(frozen=True)
class Spec:
    """One run of a study."""

    case: Case
    method: str
    point: Point
    seed: int
    overrides: tuple[str, ...]

    @property
    def folder(self) -> Path:
        """Its folder below that of the study's runs."""
        words = [*(f"{key.rpartition('.')[2]}={value}" for key, value in self.point), f"seed={self.seed}"]
        return Path(*map(_as_name, [*self.case.words, self.method, ",".join(words)]))


@dataclass(frozen=True)
class Study:
    """A study file, read and checked.

    Attributes:
        trials: runs with which every method is tuned in every case.
        tuning_seed: of these runs; seeds: of the runs that are reported.
        at: the evaluation that counts, ``last`` or ``best``.
        spread: what follows a mean: ``std``, or ``ci95`` for the half width of the 95 % confidence interval.
        significance: level of the paired test against the best.
    """

    name: str
    description: str
    common: tuple[str, ...]
    cases: tuple[Case, ...]
    methods: tuple[Method, ...]
    trials: int
    tuning_seed: int
    seeds: tuple[int, ...]
    at: str = "last"
    spread: str = "std"
    significance: float = 0.05

    @property
    def pairs(self) -> list[tuple[Case, Method]]:
        """Every case with every method that is run in it."""
        return [(case, method) for case in self.cases for method in self.methods if method.runs_on(case)]

    @property
    def num_runs(self) -> int:
        """All runs, of tuning and of the report."""
        return len(self.pairs) * (self.trials + len(self.seeds))

    def trials_of(self, case: Case, method: Method) -> list[Spec]:
        """The runs with which a method is tuned in a case."""
        points = method.points(case.problem, self.trials)
        return [self.spec(case, method, point, self.tuning_seed) for point in points]

    def spec(self, case: Case, method: Method, point: Point, seed: int) -> Spec:
        """One run."""
        tuned = (as_override(key, value) for key, value in point)
        of_method, _ = method.on(case.problem)
        overrides = (*_QUIET, *self.common, *case.overrides, *of_method, *tuned, f"seed={seed}")
        return Spec(case, method.name, point, seed, overrides)


def read_study(path: Path, further: Sequence[str] = ()) -> Study:
    """Reads a study file.

    Args:
        path: a YAML file; see ``conf/study``.
        further: overrides of all runs, behind the file's common ones.

    Raises:
        ValueError: naming the key, and what is allowed.
    """
    import yaml
    from omegaconf import OmegaConf

    if not path.is_file():
        raise ValueError(f"{path}: there is no such study file")
    try:
        content: Any = OmegaConf.to_container(OmegaConf.create(path.read_text(encoding="utf-8")))  # 1e-3 is a number
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: this is no YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected a mapping with {', '.join(sorted(_KEYS))}")
    if unknown := sorted(map(str, set(content) - _KEYS)):
        raise ValueError(f"{path}: {unknown[0]}: there is no such key; a study has: {', '.join(sorted(_KEYS))}")
    for key in ("problems", "graphs", "methods", "heterogeneity", "budgets"):
        content[key] = _entries(content, key)
    if not isinstance(content.get("seeds"), list):
        raise ValueError(f"seeds={content.get('seeds')}: expected a list of different integers of at least 0")
    study = Study(
        name=path.stem,
        description=" ".join(str(content.get("description", "")).split()),
        common=(*_words(content.get("common"), "common"), *_words(list(further), "overrides")),
        cases=tuple(_cases(content)),
        methods=tuple(_method(name, entry, content) for name, entry in content["methods"].items()),
        trials=content.get("trials", 1),
        tuning_seed=content.get("tuning_seed", 0),
        seeds=tuple(content["seeds"]),
        at=content.get("at", "last"),
        spread=content.get("spread", "std"),
        significance=content.get("significance", 0.05),
    )
    _check(study)
    return study


def _check(study: Study) -> None:
    if type(study.trials) is not int or study.trials < 1:
        raise ValueError(f"trials={study.trials}: expected an integer of at least 1")
    whole = [seed for seed in (*study.seeds, study.tuning_seed) if type(seed) is int and seed >= 0]
    if not study.seeds or len(whole) < len(study.seeds) + 1 or len(set(study.seeds)) < len(study.seeds):
        raise ValueError(f"seeds={list(study.seeds)}: expected different integers of at least 0")
    if study.tuning_seed in study.seeds:
        raise ValueError(f"tuning_seed={study.tuning_seed}: must be none of seeds={list(study.seeds)}")
    if study.at not in ("last", "best"):
        raise ValueError(f"at={study.at!r}: expected last or best")
    if study.spread not in SPREADS:
        raise ValueError(f"spread={study.spread!r}: expected {' or '.join(SPREADS)}")
    if not isinstance(study.significance, int | float) or not 0 < study.significance < 1:
        raise ValueError(f"significance={study.significance}: must be between 0 and 1")
    if not study.pairs:
        raise ValueError("no method is run in any case")
    folders = [spec.folder for case, method in study.pairs for spec in study.trials_of(case, method)]
    if len(set(folders)) < len(folders):
        raise ValueError("two runs of the study have the same name; give methods, graphs and values different names")


def _cases(content: Mapping[str, Any]) -> Iterator[Case]:
    graphs, kinds, budgets = content["graphs"], content["heterogeneity"], content["budgets"]
    for budget, of_budget in budgets.items():
        if isinstance(of_budget, Mapping):
            _names(of_budget, f"budgets.{budget}", content["problems"])
    for problem, entry in content["problems"].items():
        if not isinstance(entry, Mapping) or set(entry) - {"overrides", "select", "metric"} or "metric" not in entry:
            raise ValueError(f"problems.{problem}: expected overrides, select and metric")
        select, metric = entry.get("select", "valid/accuracy"), entry["metric"]
        if not isinstance(select, str) or not isinstance(metric, str):
            raise ValueError(f"problems.{problem}: select={select}, metric={metric}: expected names of metrics")
        own = _words(entry.get("overrides"), f"problems.{problem}.overrides")
        for kind, of_kind in kinds.items():
            for budget, of_budget in budgets.items():
                if isinstance(of_budget, Mapping):
                    of_budget = {str(name): words for name, words in of_budget.items()}
                    if problem not in of_budget:
                        continue
                    of_budget = of_budget[problem]
                for graph, of_graph in graphs.items():
                    overrides = (
                        *own,
                        *_words(of_graph, f"graphs.{graph}"),
                        *_words(of_kind, f"heterogeneity.{kind}"),
                        *_words(of_budget, f"budgets.{budget}"),
                    )
                    yield Case(problem, graph, kind, budget, overrides, select, metric)


def _method(name: str, entry: Any, content: Mapping[str, Any]) -> Method:
    if not isinstance(entry, Mapping) or set(entry) - {"overrides", "grid", "problems", "graphs"}:
        raise ValueError(f"methods.{name}: expected overrides and grid, and problems or graphs where it is run on some")
    own, problems = {}, entry.get("problems")
    if isinstance(problems, Mapping):
        for problem, further in problems.items():
            key = f"methods.{name}.problems.{problem}"
            if not isinstance(further, Mapping) or set(further) - {"overrides", "grid"}:
                raise ValueError(f"{key}: expected overrides and grid")
            grid = _grid(further["grid"], key) if "grid" in further else _grid(entry.get("grid"), f"methods.{name}")
            own[str(problem)] = (_words(further.get("overrides"), f"{key}.overrides"), grid)
    keys = [key for key in ("problems", "graphs") if key in entry]
    only = {key: _names(entry[key], f"methods.{name}.{key}", content[key]) for key in keys}
    overrides = _words(entry.get("overrides"), f"methods.{name}.overrides")
    return Method(name, overrides, _grid(entry.get("grid"), f"methods.{name}"), only, own)


def _entries(content: Mapping[str, Any], key: str) -> dict[str, Any]:
    """A section by the names of its entries; one entry without a name where it may be left out."""
    section = content.get(key)
    if section is None and key in ("heterogeneity", "budgets"):
        return {"": []}
    if not isinstance(section, Mapping) or not section:
        raise ValueError(f"{key}: expected a mapping with at least one entry")
    return {str(name): entry for name, entry in section.items()}


def _names(value: Any, key: str, known: Mapping[str, Any]) -> tuple[str, ...]:
    """Some of the names in another section."""
    if not isinstance(value, list | Mapping) or not value:
        raise ValueError(f"{key}: expected one or more of {', '.join(known)}")
    names = tuple(map(str, value))
    if missing := sorted(set(names) - set(known)):
        raise ValueError(f"{key}: {missing[0]} is none of {', '.join(known)}")
    return names


def _grid(value: Any, key: str) -> Mapping[str, Sequence[Any]]:
    grid = value or {}
    if not isinstance(grid, Mapping) or not all(isinstance(values, list) and values for values in grid.values()):
        raise ValueError(f"{key}.grid: expected lists of values, such as algorithm.lr: [0.1, 0.3]")
    return {str(setting): values for setting, values in grid.items()}


def _words(value: Any, key: str) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(word, str) and "=" in word for word in value):
        raise ValueError(f"{key}: expected a list of overrides, such as [graph=ring, num_nodes=16]")
    return tuple(value)


def _as_name(text: str) -> str:
    """A part of a path: what could confuse a shell becomes ``_``."""
    return "".join(letter if letter.isalnum() or letter in "=.,+-" else "_" for letter in text)


def is_at_end(value: Any, values: Sequence[Any]) -> str:
    """``lower`` or ``upper`` where a number is an end of the grid's numbers; empty otherwise."""
    numbers = [each for each in values if isinstance(each, int | float) and not isinstance(each, bool)]
    if len(set(numbers)) < 2 or len(numbers) < len(values) or not math.isfinite(value):
        return ""
    return "lower" if value == min(numbers) else "upper" if value == max(numbers) else ""
