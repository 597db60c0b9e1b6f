"""Tables from run folders: ``python scripts/table.py FOLDER [FOLDER ...] [--grid KEY,KEY] [--output table]``.

Looks for finished runs below the folders (``summary.json`` beside ``config.yaml``; sweeps in any depth). Runs that
differ by their seed alone are one setting. Settings that differ by the keys of ``--grid`` alone are one row, which
shows the setting with the best validation accuracy, mean over seeds. Every run counts with its ``best/...`` evaluation:
for runs with outer steps the end of the outer step with the best validation accuracy.

Columns: mean and standard deviation over seeds (n - 1) of the mean test accuracy over nodes, of the mean over all their
test samples ("weighted") and of the bottom decile over nodes (the n/10-th smallest of n accuracies), in per cent;
megabytes that all edges of the graph carried until then, steps of the algorithm until then, seconds of wall time of the
whole run; number of seeds; the chosen grid values.
Writes OUTPUT.md and OUTPUT.csv, or Markdown to standard output.
"""

import argparse
import csv
import io
import json
import statistics
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

# Settings that neither change the result nor distinguish rows.
IRRELEVANT = frozenset(
    [
        "choices",
        "resume",
        "figures",
        "num_threads",
        "timeout_s",
        "data_root",
        "device",
        "compute",
        "checkpoint",
        "eval_every",
        "eval_every_s",
        "launcher",
        "logger",
        "link",
    ]
)
GROUPS = ("algorithm", "problem", "graph", "partition", "dataset", "model", "faults", "timing", "compressor")
COLUMNS = ("Average (%)", "Weighted (%)", "Bottom 10 % (%)", "MB", "Steps", "Time (s)", "Seeds")


@dataclass(frozen=True)
class Run:
    """One finished run: its settings, flat, without the seed, and its summary."""

    folder: Path
    settings: Mapping[str, Any]
    seed: Any
    summary: Mapping[str, Any]

    def value(self, name: str) -> float:
        """A number of the best evaluation, or of the last where the run has no validation set."""
        value = self.summary.get(f"best/{name}", self.summary.get(name))
        return float("nan") if value is None else float(value)


@dataclass(frozen=True)
class Row:
    """A row: its name, its numbers as (mean, standard deviation), and the chosen grid values."""

    label: str
    numbers: Mapping[str, tuple[float, float]]
    num_seeds: int
    chosen: Mapping[str, Any]


def flatten(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """``{"a": {"b": 1}}`` as ``{"a.b": 1}``; seeds and settings without effect are left out."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if key == "seed" or (not prefix and key in IRRELEVANT):
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


def spread(values: Sequence[float]) -> tuple[float, float]:
    """Mean and standard deviation; the latter is 0 for a single value."""
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0


def make_rows(runs: Sequence[Run], grid: Sequence[str] = (), choose_by: str = "valid/accuracy") -> list[Row]:
    """One row per group, with the best setting of its grid.

    Raises:
        ValueError: when a setting has two runs with one seed.
    """
    groups = grouped(runs, grid)
    labels = label_groups([dict(key) for key in groups])
    rows = []
    for label, members in zip(labels, groups.values(), strict=True):
        candidates = list(grouped(members).values())
        for candidate in candidates:
            seeds = [run.seed for run in candidate]
            if len(set(seeds)) < len(seeds):
                raise ValueError(f"{candidate[0].folder}: its setting has several runs with one seed")
        most = max(len(candidate) for candidate in candidates)
        # A setting in which a run has diverged cannot be the best.
        candidates = [candidate for candidate in candidates if len(candidate) == most]
        best = max(candidates, key=lambda candidate: spread([run.value(choose_by) for run in candidate])[0])
        numbers = {
            "Average (%)": spread([100 * run.value("test/accuracy") for run in best]),
            "Weighted (%)": spread([100 * run.value("test/accuracy_weighted") for run in best]),
            "Bottom 10 % (%)": spread([100 * run.value("test/accuracy_bottom_decile") for run in best]),
            "MB": spread([run.value("comm/bytes") / 1e6 for run in best]),
            "Steps": spread([run.value("step") for run in best]),
            "Time (s)": spread([float(run.summary["time/wall_s"]) for run in best]),
        }
        chosen = {key: best[0].settings[key] for key in grid if key in best[0].settings}
        rows.append(Row(label, numbers, len(best), chosen))
    return rows


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


def cells(row: Row) -> list[str]:
    """The cells of a row after its name, without the grid."""
    texts = []
    for name in COLUMNS[:-1]:
        mean, deviation = row.numbers[name]
        digits = 0 if name == "Steps" else 1
        plain = name in ("Steps", "Time (s)", "MB") or row.num_seeds == 1
        texts.append(f"{mean:.{digits}f}" if plain else f"{mean:.{digits}f} ± {deviation:.{digits}f}")
    return [*texts, str(row.num_seeds)]


def to_markdown(rows: Sequence[Row], grid: Sequence[str]) -> str:
    """A table in Markdown."""
    header = ["", *COLUMNS, *(key.rsplit(".", 1)[-1] for key in grid)]
    lines = [header, ["---", *["---:"] * (len(header) - 1)]]
    lines += [[row.label, *cells(row), *(str(row.chosen.get(key, "")) for key in grid)] for row in rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def to_csv(rows: Sequence[Row], grid: Sequence[str]) -> str:
    """The same with all digits, mean and standard deviation apart."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = [part for name in COLUMNS[:-1] for part in (name, f"{name} std")]
    writer.writerow(["row", *names, "Seeds", *grid])
    for row in rows:
        values = [value for name in COLUMNS[:-1] for value in row.numbers[name]]
        writer.writerow([row.label, *values, row.num_seeds, *(row.chosen.get(key, "") for key in grid)])
    return text.getvalue()


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
    parser.add_argument("--grid", default="", help="settings of which the best is shown, as in algorithm.lr,problem.x")
    parser.add_argument("--choose-by", default="valid/accuracy", help="metric that is best when it is largest")
    parser.add_argument("--output", type=Path, help="writes OUTPUT.md and OUTPUT.csv")
    options = parser.parse_args(arguments)
    grid = [key for key in options.grid.split(",") if key]
    try:
        rows = make_rows(read_runs(options.folders), grid, options.choose_by)
    except ValueError as error:
        print(f"table: {error}", file=sys.stderr)
        return 1
    if options.output is None:
        print(to_markdown(rows, grid), end="")
        return 0
    options.output.with_suffix(".md").write_text(to_markdown(rows, grid), encoding="utf-8")
    options.output.with_suffix(".csv").write_text(to_csv(rows, grid), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
