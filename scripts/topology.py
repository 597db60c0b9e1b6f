r"""Properties of graphs, computed without training: ``python scripts/topology.py graph=ring,star num_nodes=16,32``.

Prints one row per graph and number of nodes: the three gaps, the effective number of neighbours and that of the worst
node at --gamma, the best learning rate and rate on random quadratics, steps to the target, degree, diameter and bytes
of a round. Several graphs, sizes, seeds and values of any setting of a graph (graph.probability=0.2,0.4) are separated
by commas and combined; range(0,10) stands for 0,1,...,9. Settings of the analysis (algorithm.zeta=100) hold for all
rows. A gap in the table is a number that is not defined or not computed; the reasons are printed below.

--spread makes one row of all seeds: mean and standard deviation. The numbers are those that
``experiment=topology_analysis`` writes into summary.json. --output writes OUTPUT.csv (all numbers of every graph),
OUTPUT.md (the table) and, where there is something to draw, OUTPUT_setting.png (n_W against the first setting with
several numbers, a band over seeds), OUTPUT_rates.png (the best rate against n_W, that of the worst node and the gap)
and, for up to seven graphs, OUTPUT_decay.png (n_W against gamma), OUTPUT_learning_rates.png (the rate against the
learning rate) and OUTPUT_bounds.png (the theorem's largest learning rate, in its older form, against n_W). Rank
correlations of the best rate with its predictors are printed where there are ten graphs or more.

Examples: a graph that is drawn anew in every round against a fixed one, and predictors of the best rate of random
graphs:

    python scripts/topology.py graph=erdos_renyi num_nodes=64 graph.redraw=false,true seed=range(0,20) --spread \
        graph.probability=0.1,0.15,0.2,0.3,0.4,0.5,0.6 algorithm.num_lrs=3 --output outputs/varying
    python scripts/topology.py graph=barabasi_albert num_nodes=64 graph.num_edges=range(1,21) seed=range(0,5) \
        algorithm.zeta=100 algorithm.num_lrs=100 --output outputs/barabasi_albert
"""

import argparse
import csv
import itertools
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402

from simulator import config  # noqa: E402
from simulator.arrays import FloatArray  # noqa: E402
from simulator.figures.style import PALETTE  # noqa: E402
from simulator.figures.topology import (  # noqa: E402
    effective_neighbors_against_decay,
    learning_rate_bounds,
    rate_against_learning_rate,
)
from simulator.figures.topology_sweep import Band, quantity_against_setting, rate_against  # noqa: E402
from simulator.topology.analysis import Analysis, analyse  # noqa: E402
from simulator.topology.fitting import rank_correlation  # noqa: E402

SWEPT = ("graph", "num_nodes", "seed")
N_W, N_W_WORST, GAP, RATE = "n_W", "n_W worst", "spectral gap", "rate"
FEWEST_FOR_RANKS = 10
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
    """One graph: its name, its size, its seed, those of its settings that were varied, and its analysis."""

    graph: str
    num_nodes: int
    seed: int
    analysis: Analysis
    varied: Mapping[str, str]

    @property
    def numbers(self) -> Mapping[str, Any]:
        return self.analysis.numbers

    @property
    def label(self) -> str:
        """Its name and its varied settings."""
        return ", ".join([self.graph, *(f"{key.removeprefix('graph.')}={word}" for key, word in self.varied.items())])


def values_of(text: str) -> list[str]:
    """The values that a setting is given: separated by commas outside brackets, or range(start,stop).

    Raises:
        ValueError: when a range is not one of two integers.
    """
    if text.startswith("range(") and text.endswith(")"):
        ends = text[len("range(") : -1].split(",")
        try:
            start, stop = (int(end) for end in ends)
        except ValueError as error:
            raise ValueError(f"{text}: expected range(start,stop) with two integers") from error
        return [str(number) for number in range(start, stop)]
    words, depth = [""], 0
    for letter in text:
        depth += (letter in "[{(") - (letter in ")}]")
        if letter == "," and depth == 0:
            words.append("")
        else:
            words[-1] += letter
    return [word for word in words if word]


def sort_overrides(overrides: Sequence[str]) -> tuple[dict[str, list[str]], dict[str, list[str]], list[str]]:
    """Splits overrides into varied settings and settings of all rows.

    Returns:
        The values of ``SWEPT``, those of settings of the graph that have several, and the other overrides.

    Raises:
        ValueError: when an override is not key=value.
    """
    values, varied, others = {"graph": ["ring"], "num_nodes": ["32"], "seed": ["0"]}, {}, []
    for override in overrides:
        key, separator, text = override.partition("=")
        if not separator:
            raise ValueError(f"{override}: expected key=value")
        if key in SWEPT:
            values[key] = values_of(text)
        elif key.startswith("graph.") and len(words := values_of(text)) > 1:
            varied[key] = words
        else:
            others.append(override)
    return values, varied, others


def rows_of(overrides: Sequence[str], gamma: float) -> list[Row]:
    """Analyses every combination of the swept values.

    Raises:
        ValueError: when a setting is wrong.
    """
    values, varied, others = sort_overrides(overrides)
    rows = []
    with config.composer() as compose:
        for graph, num_nodes, *words, seed in itertools.product(
            values["graph"], values["num_nodes"], *varied.values(), values["seed"]
        ):
            settings_of_graph = dict(zip(varied, words, strict=True))
            chosen = [f"graph={graph}", f"num_nodes={num_nodes}", f"seed={seed}"]
            chosen += [f"{key}={word}" for key, word in settings_of_graph.items()]
            settings = compose(["experiment=topology_analysis", *chosen, *others]).settings
            gammas = settings["algorithm"]["gammas"]
            settings["algorithm"]["gammas"] = [*gammas, *([gamma] if gamma not in gammas else [])]
            components = config.build(settings)
            config.check(settings, components, 1)
            analysis = analyse(components.graph, components.algorithm)  # type: ignore[arg-type]
            rows.append(Row(graph, settings["num_nodes"], settings["seed"], analysis, settings_of_graph))
    return rows


def names_at(gamma: float) -> dict[str, str]:
    """The number behind every column."""
    return {column: name.format(gamma=f"{gamma:g}") for column, name in COLUMNS.items()}


def table(rows: Sequence[Row], gamma: float) -> list[list[str]]:
    """Header and cells, a line per graph."""
    names, settings = names_at(gamma), list(rows[0].varied)
    many_seeds = len({row.seed for row in rows}) > 1
    lines = [["graph", "nodes", *settings, *(["seed"] if many_seeds else []), *names]]
    for row in rows:
        cells = [row.graph, str(row.num_nodes), *row.varied.values(), *([str(row.seed)] if many_seeds else [])]
        lines.append([*cells, *(cell(column, row.numbers.get(name)) for column, name in names.items())])
    return lines


def spread_table(rows: Sequence[Row], gamma: float) -> list[list[str]]:
    """Header and cells, a line per graph and settings: mean and standard deviation over seeds."""
    names, settings = names_at(gamma), list(rows[0].varied)
    lines = [["graph", "nodes", *settings, "draws", *names]]
    for draws in by_seed(rows):
        cells = [draws[0].graph, str(draws[0].num_nodes), *draws[0].varied.values(), str(len(draws))]
        lines.append([*cells, *(spread_cell(column, numbers_of(draws, name)) for column, name in names.items())])
    return lines


def by_seed(rows: Sequence[Row]) -> list[list[Row]]:
    """Rows that differ by their seed alone, together."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.graph, row.num_nodes, *row.varied.values()), []).append(row)
    return list(groups.values())


def numbers_of(rows: Sequence[Row], name: str) -> FloatArray:
    """One number of every row; NaN where there is none."""
    return np.array([math.nan if (value := row.numbers.get(name)) is None else value for row in rows])


def spread_cell(column: str, values: FloatArray) -> str:
    """Mean and standard deviation; a gap where a draw has no number."""
    if not np.isfinite(values).all():
        return "-"
    if len(values) == 1:
        return cell(column, float(values[0]))
    return f"{cell(column, float(values.mean()))} ± {cell(column, float(values.std(ddof=1)))}"


def rank_lines(rows: Sequence[Row], gamma: float) -> list[str]:
    """Rank correlations of the best rate with its possible predictors, if there are enough graphs."""
    names, lines = names_at(gamma), []
    rates = numbers_of(rows, names[RATE])
    for column in (N_W, N_W_WORST, GAP):
        values = numbers_of(rows, names[column])
        known = np.isfinite(rates) & np.isfinite(values)
        if known.sum() >= FEWEST_FOR_RANKS:
            correlation = rank_correlation(values[known], rates[known])
            lines.append(f"rank correlation of the best rate with {column}, {known.sum()} graphs: {correlation:.3f}")
    return lines


def draw_setting(rows: Sequence[Row], gamma: float, path: Path) -> Path | None:
    """n_W against the first varied setting that is a number, a series for the rest; None where there is none."""
    setting = next((key for key in rows[0].varied if all(is_number(row.varied[key]) for row in rows)), None)
    if setting is None:
        return None
    series: dict[str, list[list[Row]]] = {}
    for draws in by_seed(rows):
        rest = {key: word for key, word in draws[0].varied.items() if key != setting}
        label = f"{replace(draws[0], varied=rest).label}, {draws[0].num_nodes} nodes"
        series.setdefault(label, []).append(draws)
    bands = {}
    for label, groups in series.items():
        groups.sort(key=lambda draws: float(draws[0].varied[setting]))
        values = [numbers_of(draws, names_at(gamma)[N_W]) for draws in groups]
        bands[label] = Band(
            x=np.array([float(draws[0].varied[setting]) for draws in groups]),
            mean=np.array([each.mean() for each in values]),
            deviation=np.array([each.std(ddof=1) if len(each) > 1 else 0.0 for each in values]),
        )
    return quantity_against_setting(bands, setting, f"n_W({gamma:g})", path)


def draw_rates(rows: Sequence[Row], gamma: float, path: Path) -> Path | None:
    """The best rate against its possible predictors, a group for every kind of graph; None without rates."""
    quantities, groups = names_at(gamma), {}
    for graph in dict.fromkeys(row.graph for row in rows):
        of_graph = [row for row in rows if row.graph == graph]
        values = {column: numbers_of(of_graph, quantities[column]) for column in (RATE, N_W, N_W_WORST, GAP)}
        if np.isfinite(values[RATE]).any():
            groups[graph] = values
    return rate_against(groups, (N_W, N_W_WORST, GAP), RATE, path)


def draw_curves(rows: Sequence[Row], output: Path) -> None:
    """n_W against gamma, rates against the learning rate and bounds on it, where the curves have a colour each."""
    if len(rows) > len(PALETTE):
        return
    analyses = {f"{row.label}, {row.num_nodes} nodes": row.analysis for row in rows}
    curves = {label: analysis.curves for label, analysis in analyses.items()}
    decays = {label: (each["gammas"], each["num_neighbors"]) for label, each in curves.items()}
    rates = {label: (each["lrs"], each["rates"]) for label, each in curves.items() if "lrs" in each}
    older = {label: analysis.bounds["older"] for label, analysis in analyses.items() if "older" in analysis.bounds}
    bounds = {
        label: (bound.num_neighbors, bound.consensus, bound.noise)
        for label, bound in older.items()
        if math.isfinite(bound.lr)
    }
    effective_neighbors_against_decay(decays, {}, output.with_name(f"{output.name}_decay.png"))
    rate_against_learning_rate(rates, {}, output.with_name(f"{output.name}_learning_rates.png"))
    learning_rate_bounds(bounds, output.with_name(f"{output.name}_bounds.png"))


def is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


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
        writer.writerow(["graph", "num_nodes", "seed", *rows[0].varied, *names])
        for row in rows:
            place = [row.graph, row.num_nodes, row.seed, *row.varied.values()]
            writer.writerow([*place, *(row.numbers.get(name) for name in names)])


def reasons(rows: Sequence[Row], gamma: float) -> list[str]:
    """Why cells of the table are empty, each reason once per graph."""
    shown = set(names_at(gamma).values())
    reasons: dict[str, None] = {}
    for row in rows:
        for name, reason in row.numbers["graph/undefined"].items():
            if name in shown:
                reasons[f"{row.label}, {row.num_nodes} nodes: no {name.partition('/')[2]}: {reason}"] = None
    return list(reasons)


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="as for launch.py; graph=a,b num_nodes=8,16")
    parser.add_argument("--gamma", type=float, default=0.951, help="decay of n_W in the table")
    parser.add_argument("--spread", action="store_true", help="mean and standard deviation over seeds")
    parser.add_argument("--all", action="store_true", help="print all numbers of every graph")
    parser.add_argument("--output", type=Path, help="writes OUTPUT.csv, OUTPUT.md and pictures")
    options = parser.parse_intermixed_args(arguments)
    try:
        rows = rows_of(options.overrides, options.gamma)
    except ValueError as error:
        print(f"topology: {error}", file=sys.stderr)
        return 1
    lines = (spread_table if options.spread else table)(rows, options.gamma)
    print(to_text(lines), end="")
    notes = [*reasons(rows, options.gamma), *rank_lines(rows, options.gamma)]
    print("".join(f"{line}\n" for line in notes), end="")
    if options.all:
        for row in rows:
            print(f"\n{row.label}, {row.num_nodes} nodes, seed {row.seed}")
            print("".join(f"  {n} = {v}\n" for n, v in row.numbers.items() if n != "graph/undefined"), end="")
    if options.output is not None:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        write_csv(rows, options.output.with_suffix(".csv"))
        options.output.with_suffix(".md").write_text(to_markdown(lines), encoding="utf-8")
        for name, draw in (("setting", draw_setting), ("rates", draw_rates)):
            draw(rows, options.gamma, options.output.with_name(f"{options.output.name}_{name}.png"))
        draw_curves(rows, options.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
