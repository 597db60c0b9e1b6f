"""What is known of graphs before training: ``python scripts/topology.py graph=ring,star num_nodes=16,32 [--output T]``.

Prints one row per graph and number of nodes: the three gaps, the effective number of neighbours and that of the worst
node at --gamma, the best learning rate and rate on random quadratics, steps to the target, degree, diameter and bytes
of a round. Several graphs, sizes and seeds are separated by commas and combined. Other settings are written as for
launch.py, of the graph (graph.probability=0.2) or of the analysis (algorithm.zeta=100), and hold for all rows. A gap in
the table is a number that is not defined or not computed; the reasons are printed below.

The numbers are those that ``experiment=topology_analysis`` writes into summary.json. --output writes OUTPUT.csv (all
numbers) and OUTPUT.md (the table); --all prints all numbers of every graph.
"""

import argparse
import csv
import itertools
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from simulator import config  # noqa: E402
from simulator.topology.analysis import analyse  # noqa: E402

SWEPT = ("graph", "num_nodes", "seed")
COLUMNS = {
    "spectral gap": "graph/spectral_gap",
    "singular gap": "graph/singular_gap",
    "mean-sq. gap": "graph/mean_square_gap",
    "n_W": "graph/effective_num_neighbors@gamma={gamma}",
    "n_W worst": "graph/effective_num_neighbors_worst@gamma={gamma}",
    "best lr": "quadratic/best_lr",
    "rate": "quadratic/best_rate",
    "steps": "quadratic/steps_to_target",
    "degree": "graph/max_degree",
    "diameter": "graph/diameter",
    "MB/round": "graph/bytes_per_round",
}


@dataclass(frozen=True)
class Row:
    """One graph: its name, its size, its seed, and what was found."""

    graph: str
    num_nodes: int
    seed: int
    numbers: Mapping[str, Any]


def rows_of(overrides: Sequence[str], gamma: float) -> list[Row]:
    """Analyses every combination of the swept values.

    Raises:
        ValueError: when a setting is wrong.
    """
    values, others = {"graph": ["ring"], "num_nodes": ["32"], "seed": ["0"]}, []
    for override in overrides:
        key, separator, value = override.partition("=")
        if not separator:
            raise ValueError(f"{override}: expected key=value")
        if key in SWEPT:
            values[key] = [word for word in value.split(",") if word]
        else:
            others.append(override)
    rows = []
    with config.composer() as compose:
        for graph, num_nodes, seed in itertools.product(*(values[key] for key in SWEPT)):
            chosen = [f"graph={graph}", f"num_nodes={num_nodes}", f"seed={seed}"]
            settings = compose(["experiment=topology_analysis", *chosen, *others]).settings
            gammas = settings["algorithm"]["gammas"]
            settings["algorithm"]["gammas"] = [*gammas, *([gamma] if gamma not in gammas else [])]
            components = config.build(settings)
            config.check(settings, components, 1)
            found = analyse(components.graph, components.algorithm)  # type: ignore[arg-type]
            rows.append(Row(graph, settings["num_nodes"], settings["seed"], found.numbers))
    return rows


def table(rows: Sequence[Row], gamma: float) -> list[list[str]]:
    """Header and cells."""
    names = {column: name.format(gamma=f"{gamma:g}") for column, name in COLUMNS.items()}
    many_seeds = len({row.seed for row in rows}) > 1
    lines = [["graph", "nodes", *(["seed"] if many_seeds else []), *names]]
    for row in rows:
        cells = [row.graph, str(row.num_nodes), *([str(row.seed)] if many_seeds else [])]
        lines.append([*cells, *(cell(column, row.numbers.get(name)) for column, name in names.items())])
    return lines


def cell(column: str, value: float | None) -> str:
    if value is None:
        return "-"
    if column == "MB/round":
        return f"{value / 1e6:.4g}"
    return f"{value:.4g}"


def to_text(lines: Sequence[Sequence[str]]) -> str:
    """Columns of equal width, numbers to the right."""
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    aligned = [
        [word.ljust(width) if column == 0 else word.rjust(width) for column, (word, width) in enumerate(pairs)]
        for pairs in (list(zip(line, widths, strict=True)) for line in lines)
    ]
    return "".join("  ".join(line).rstrip() + "\n" for line in aligned)


def to_markdown(lines: Sequence[Sequence[str]]) -> str:
    ruled = [lines[0], ["---", *["---:"] * (len(lines[0]) - 1)], *lines[1:]]
    return "".join(f"| {' | '.join(line)} |\n" for line in ruled)


def write_csv(rows: Sequence[Row], path: Path) -> None:
    """All numbers, a column each; empty where there is none."""
    names = list(dict.fromkeys(name for row in rows for name in row.numbers if name != "graph/undefined"))
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["graph", "num_nodes", "seed", *names])
        for row in rows:
            writer.writerow([row.graph, row.num_nodes, row.seed, *(row.numbers.get(name) for name in names)])


def reasons(rows: Sequence[Row], gamma: float) -> list[str]:
    """Why cells of the table are empty, each reason once per graph."""
    shown = {name.format(gamma=f"{gamma:g}") for name in COLUMNS.values()}
    found: dict[str, None] = {}
    for row in rows:
        for name, reason in row.numbers["graph/undefined"].items():
            if name in shown:
                found[f"{row.graph}, {row.num_nodes} nodes: no {name.partition('/')[2]}: {reason}"] = None
    return list(found)


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="as for launch.py; graph=a,b num_nodes=8,16")
    parser.add_argument("--gamma", type=float, default=0.951, help="decay of n_W in the table")
    parser.add_argument("--all", action="store_true", help="print all numbers of every graph")
    parser.add_argument("--output", type=Path, help="writes OUTPUT.csv and OUTPUT.md")
    options = parser.parse_args(arguments)
    try:
        rows = rows_of(options.overrides, options.gamma)
    except ValueError as error:
        print(f"topology: {error}", file=sys.stderr)
        return 1
    lines = table(rows, options.gamma)
    print(to_text(lines), end="")
    print("".join(f"{line}\n" for line in reasons(rows, options.gamma)), end="")
    if options.all:
        for row in rows:
            print(f"\n{row.graph}, {row.num_nodes} nodes, seed {row.seed}")
            print("".join(f"  {n} = {v}\n" for n, v in row.numbers.items() if n != "graph/undefined"), end="")
    if options.output is not None:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        write_csv(rows, options.output.with_suffix(".csv"))
        options.output.with_suffix(".md").write_text(to_markdown(lines), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
