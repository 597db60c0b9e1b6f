"""The reproducibility checklist of a study, filled in from its runs."""

import json
import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from simulator.studies.comparison import Cell
from simulator.studies.plan import Study
from simulator.studies.runs import Result


def checklist(study: Study, cells: Sequence[Cell], folder: Path, command: Sequence[str]) -> str:
    """The checklist in Markdown."""
    results = [result for cell in cells for result in (*cell.trials, *cell.finals)]
    environment = _environment(results)
    seconds, longest = sum(result.seconds for result in results), max((r.seconds for r in results), default=0.0)
    num_trials, num_finals = (sum(len(getattr(cell, kind)) for cell in cells) for kind in ("trials", "finals"))
    lost = sum(bool(result.loss) for result in results if result.state != "refused")
    refused = sum(result.state == "refused" for result in results)
    lines = [
        f"# Reproducibility checklist of {study.name}",
        "",
        "## How it was made",
        "",
        f"- Command: `{shlex.join(command)}`",
        f"- Commits: {_all_of(environment, 'git_commit')}",
        f"- Folder of all runs: `{folder}`; each holds its configuration, environment, log and metrics",
        "",
        "## Infrastructure",
        "",
        f"- Platform: {_all_of(environment, 'platform')}",
        f"- {os.cpu_count()} logical CPUs; GPU: {_all_of(environment, 'gpu')}",
        f"- Python {_all_of(environment, 'python')}, torch {_all_of(environment, 'torch')}",
        f"- Computing and sending: {_all_of(environment, 'communication')}; "
        f"{_all_of(environment, 'threads_per_process')} thread(s) per process",
        f"- Wall time of all runs together: {seconds:.0f} s; the longest: {longest:.1f} s",
        "",
        "## Runs",
        "",
        f"- {len(cells)} pairs of a method and a case; {len(results)} runs: {num_trials} for tuning, {num_finals} that "
        "are reported",
        f"- {lost} lost (failed, diverged or without the metric) and {refused} refused; tables.md lists them",
        f"- Seeds that are reported: {', '.join(map(str, study.seeds))}; each sets data, graph, start and minibatches",
        "",
        "## Selection",
        "",
        f"- Every method has {study.trials} trials in every case, with seed {study.tuning_seed}, which is not reported",
        f"- Chosen: the trial with the best {_selections(study)} at the {study.at} evaluation; a lost one does not "
        "compete. It is run again with the seeds above",
        f"- Reported: mean and {study.spread} over seeds, and a two-sided paired t-test against the best method "
        f"with Holm's correction, level {study.significance:g}",
        "",
        "## Search bounds",
        "",
        "| method | setting | values | chosen at an end of the values |",
        "| --- | --- | --- | ---: |",
        *_bounds(study, cells),
        "",
        "## Budgets and sizes",
        "",
        "| case | overrides | parameters | hyperparameters |",
        "| --- | --- | ---: | ---: |",
        *_sizes(study, cells),
        "",
        f"Common overrides: `{' '.join(study.common)}`",
        "",
    ]
    return "\n".join(lines)


def _environment(results: Sequence[Result]) -> list[dict[str, Any]]:
    return [found for result in results if result.run is not None and (found := result.run.environment)]


def _all_of(environments: Sequence[dict[str, Any]], key: str) -> str:
    """The different values of a key over all runs."""
    return ", ".join(dict.fromkeys(str(environment.get(key)) for environment in environments)) or "no run has finished"


def _selections(study: Study) -> str:
    by_metric: dict[str, list[str]] = {}
    for case in study.cases:
        by_metric.setdefault(case.select, []).append(case.problem)
    if len(by_metric) == 1:
        return next(iter(by_metric))
    return "; ".join(f"{metric} ({', '.join(dict.fromkeys(names))})" for metric, names in by_metric.items())


def _bounds(study: Study, cells: Sequence[Cell]) -> list[str]:
    rows = []
    problems = list(dict.fromkeys(case.problem for case in study.cases))
    for method in study.methods:
        grids: dict[str, list[str]] = {}
        for problem in problems:
            grids.setdefault(json.dumps(method.on(problem)[1]), []).append(problem)
        for text, names in grids.items():
            own = [cell for cell in cells if cell.method == method and cell.case.problem in names and cell.chosen]
            if not own and len(grids) > 1:
                continue
            where = "" if len(grids) == 1 else f" ({', '.join(names)})"
            for key, values in json.loads(text).items():
                ends = [cell.grid_ends.get(key) for cell in own]
                count = f"{ends.count('lower')} lower, {ends.count('upper')} upper of {len(own)}"
                rows.append(f"| {method.name}{where} | {key} | {', '.join(map(str, values))} | {count} |")
    return rows


def _sizes(study: Study, cells: Sequence[Cell]) -> list[str]:
    rows = []
    for case in study.cases:
        runs = [r.run for cell in cells if cell.case == case for r in cell.trials if r.run is not None]
        environment = runs[0].environment if runs else {}
        sizes = f"{environment.get('num_params', '')} | {environment.get('num_hparams', '')}"
        rows.append(f"| {', '.join(case.words)} | `{' '.join(case.overrides)}` | {sizes} |")
    return rows
