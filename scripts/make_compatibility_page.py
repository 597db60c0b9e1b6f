"""Writes docs/compatibility.md: which algorithm runs on which graphs, on which problems, and with which faults.

    python scripts/make_compatibility_page.py          # write the page
    python scripts/make_compatibility_page.py --check  # exit with status 1 when the page is not up to date

Every component is built from its file in conf/, and the checks that come before a run say what fits. Nothing is
trained.
"""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from scripts.make_components_page import table  # noqa: E402
from simulator import config  # noqa: E402
from simulator.algorithms.base import Algorithm  # noqa: E402
from simulator.algorithms.weights import check_weights  # noqa: E402
from simulator.graphs.base import Graph, one_label_each  # noqa: E402
from simulator.problems.base import BilevelProblem, Problem  # noqa: E402
from simulator.problems.classification import Classification  # noqa: E402

CONF = ROOT / "conf"
PAGE = ROOT / "docs" / "compatibility.md"
NUM_NODES = 16
OTHER_SIZES = {"exchange_tree": 5, "social_network": 32, "social_network_tree": 32}
NOT_BUILT = ("file",)
"""Graphs that say nothing before the user has given a file."""
WELL_KNOWN = ("ring", "random_matching", "exponential", "one_peer_exponential", "random_directed")
"""Graphs that give their name to their kind."""
VARIANTS: dict[str, dict[str, Any]] = {"epidemic": {"variant": "local"}, "erdos_renyi": {"redraw": True}}
"""Settings that make another kind of graph; each is an entry of its own, beside the graph with its defaults."""
COLUMNS: dict[str, Callable[[Algorithm], bool | str]] = {
    "W_t": lambda algorithm: algorithm.weights.value,
    "tunes hyperparameters": lambda algorithm: algorithm.needs_bilevel,
    "personal models": lambda algorithm: algorithm.personalizes,
    "compressor": lambda algorithm: algorithm.uses_compressor,
    "late messages": lambda algorithm: algorithm.takes_late_messages,
    "nodes leave": lambda algorithm: algorithm.survives_churn,
    "attackers": lambda algorithm: algorithm.admits_attackers,
    "needs timing": lambda algorithm: algorithm.asynchronous,
}

INTRODUCTION = """\
# What fits together

This page is generated from the components and their checks. Do not edit it: run
`python scripts/make_compatibility_page.py`. A test compares the page with the code.

A run checks before its first step whether its components fit, and says in one line what does not and what to use
instead. These tables say it beforehand, for the default settings of every component. [components.md](components.md)
describes the components; [own_components.md](own_components.md) says how to add one.
"""


@dataclass(frozen=True)
class Kind:
    """Graphs that suit the same algorithms.

    Attributes:
        graphs: their names as on the command line, with the settings that make them so.
        algorithms: the names of the algorithms that run on them.
        about: what their matrices W_t are.
    """

    graphs: tuple[str, ...]
    algorithms: frozenset[str]
    about: str

    @property
    def name(self) -> str:
        """The graph that heads the column."""
        return next((name for name in WELL_KNOWN if name in self.graphs), self.graphs[0])


def names(group: str) -> list[str]:
    """The components of a group of conf/."""
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


@cache
def base() -> dict[str, Any]:
    """The configuration whose sections are replaced."""
    return config.compose([f"num_nodes={NUM_NODES}"])


def section(group: str, name: str) -> dict[str, Any]:
    """A file of conf/, with those that its defaults list names; references to other settings are not resolved."""
    own: Any = OmegaConf.load(CONF / group / f"{name}.yaml")
    loaded: Any = OmegaConf.create()
    for entry in own.pop("defaults", ["_self_"]):  # later ones win
        if entry == "_self_":
            loaded.merge_with(own)
        else:
            ((key, chosen),) = entry.items()
            inner, _, place = str(key).removeprefix("/").partition("@")
            OmegaConf.update(loaded, place, section(inner, chosen))
    settings = OmegaConf.to_container(loaded)
    assert isinstance(settings, dict)
    return {str(key): value for key, value in settings.items()}


def built(group: str, name: str, num_nodes: int = NUM_NODES, **changes: Any) -> config.Components:
    """The components of a configuration with another choice of one group."""
    choices = base()["choices"]
    root = {key: value for key, value in base().items() if key != "choices" and key not in choices}
    unresolved = OmegaConf.create({**root, "num_nodes": num_nodes, group: {**section(group, name), **changes}})
    resolved = OmegaConf.to_container(unresolved, resolve=True)
    assert isinstance(resolved, dict)
    return config.build({**base(), "choices": {**choices, group: name}, group: resolved[group]})


def accepts(check: Any, *arguments: Any) -> bool:
    """Whether a check passes."""
    try:
        check(*arguments)
    except ValueError:
        return False
    return True


def algorithms() -> dict[str, config.Components]:
    """Every algorithm, with timing where it needs one."""
    timing = built("timing", "constant").timing
    found = {name: built("algorithm", name) for name in names("algorithm")}
    return {name: replace(each, timing=timing if each.algorithm.asynchronous else None) for name, each in found.items()}


def graphs() -> dict[str, Graph]:
    """Every graph by the words that choose it."""
    found = {
        name: built("graph", name, OTHER_SIZES.get(name, NUM_NODES)).graph
        for name in names("graph")
        if name not in NOT_BUILT
    }
    for name, settings in VARIANTS.items():
        words = " ".join(f"graph.{key}={str(value).lower()}" for key, value in settings.items())
        found[f"{name} {words}"] = built("graph", name, **settings).graph
    for graph in found.values():
        if graph.needs_label_counts:
            graph.use_label_counts(one_label_each(graph.num_nodes))
    return found


def kinds(chosen: Mapping[str, config.Components], found: Mapping[str, Graph]) -> list[Kind]:
    """The graphs, grouped by the algorithms that run on them; the largest groups come first."""
    groups: dict[frozenset[str], list[tuple[str, str]]] = {}
    for words, graph in found.items():
        fitting = frozenset(
            name
            for name, components in chosen.items()
            if accepts(check_weights, components.algorithm, graph) and accepts(components.algorithm.check_graph, graph)
        )
        groups.setdefault(fitting, []).append((words, about(graph)))
    grouped = [
        Kind(tuple(words for words, _ in members), fitting, "; or ".join(dict.fromkeys(text for _, text in members)))
        for fitting, members in groups.items()
    ]
    return sorted(grouped, key=lambda kind: (-len(kind.graphs), kind.graphs))


def about(graph: Graph) -> str:
    """What a graph declares of its matrices."""
    weights = {"double": "doubly stochastic", "column": "column-stochastic", "row": "row-stochastic"}
    direction = "directed" if graph.directed else "undirected"
    return f"{direction}, {'static' if graph.period == 1 else 'changing'}, {weights[graph.stochasticity]}"


def has_hyperparameters(problem: Problem) -> bool:
    """Whether a problem has hyperparameters when it is set up; plain classification is a bilevel problem without."""
    return isinstance(problem, BilevelProblem) and type(problem) is not Classification


def suits(components: config.Components, graph: Graph, problem: Problem) -> bool:
    """Whether an algorithm solves a problem, on a graph that it runs on."""
    if components.algorithm.needs_bilevel and not has_hyperparameters(problem):
        return False
    return accepts(config.check, base(), replace(components, graph=graph, problem=problem), 1)


def yes(fits: bool) -> str:
    """A cell."""
    return "yes" if fits else "-"


def graph_lines(chosen: Mapping[str, config.Components], found: Sequence[Kind]) -> list[str]:
    """The kinds of graphs, and the algorithms that run on them."""
    members = [[f"`{kind.name}`", ", ".join(f"`{name}`" for name in kind.graphs), kind.about] for kind in found]
    rows = [[link(name), *(yes(name in kind.algorithms) for kind in found)] for name in chosen]
    return [
        "## Algorithms and graphs",
        "",
        "Graphs of one kind suit the same algorithms; a kind has the name of one of its graphs.",
        "",
        *table(["kind", "graphs", "matrices W_t"], members),
        f"This holds for {NUM_NODES} nodes. Methods whose steps take several rounds also need rounds of each kind that",
        "connect all nodes, so a schedule with a period may fit with one number of nodes and not with another.",
        "`graph=file` is of the kind that the file makes it.",
        "",
        *table(["`algorithm=`", *(f"`{kind.name}`" for kind in found)], rows),
    ]


def problem_lines(
    chosen: Mapping[str, config.Components], found: Sequence[Kind], by_name: Mapping[str, Graph]
) -> list[str]:
    """The problems that every algorithm solves."""
    problems = {name: built("problem", name).problem for name in names("problem")}
    rows = []
    # On a star or a hub, where nearly all algorithms run; the others on the first kind of graph that suits them.
    preferred = sorted(found, key=lambda kind: "star" not in kind.graphs and "hub" not in kind.graphs)
    for name, components in chosen.items():
        graph = by_name[next(kind for kind in preferred if name in kind.algorithms).name]
        rows.append([link(name), *(yes(suits(components, graph, problem)) for problem in problems.values())])
    return [
        "## Algorithms and problems",
        "",
        "An algorithm that fits a graph and a problem fits both together, with one exception: on `graph=self_loop`,",
        "where every node trains alone, all algorithms that run there take `problem=model_sizes`.",
        "",
        *table(["`algorithm=`", *(f"`{name}`" for name in problems)], rows),
    ]


def other_lines(chosen: Mapping[str, config.Components]) -> list[str]:
    """What every algorithm needs and can do beside that."""
    rows = []
    for name, components in chosen.items():
        cells = [column(components.algorithm) for column in COLUMNS.values()]
        rows.append([link(name), *(cell if isinstance(cell, str) else yes(cell) for cell in cells)])
    return [
        "## Algorithms and everything else",
        "",
        '- *W_t*: what the weights of the graph must be. "any": they are not used, or the algorithm checks more.',
        "- *tunes hyperparameters*: needs a bilevel problem, one with hyperparameters.",
        "- *personal models*: the nodes end with models that differ on purpose.",
        "- *compressor*: `compressor=` codes its messages; the others send plain numbers.",
        "- *late messages*: runs with `faults=message_delay`. *nodes leave*: runs with `faults=churn`.",
        "- *needs timing*: asynchronous, so `timing=none` is refused. All others run with and without.",
        "",
        *table(["`algorithm=`", *COLUMNS], rows),
    ]


def link(algorithm: str) -> str:
    """The name of an algorithm, with a link to its settings."""
    return f"[`{algorithm}`](components.md#algorithm{algorithm})"


@cache
def page() -> str:
    """The text of docs/compatibility.md."""
    chosen, by_name = algorithms(), graphs()
    found = kinds(chosen, by_name)
    lines = [*graph_lines(chosen, found), *problem_lines(chosen, found, by_name), *other_lines(chosen)]
    return "\n".join([INTRODUCTION, *lines]).rstrip() + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes or checks the page; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="compare only; exit with status 1 when they differ")
    if parser.parse_args(arguments).check:
        if not PAGE.is_file() or PAGE.read_text() != page():
            print(
                "docs/compatibility.md is not up to date: run python scripts/make_compatibility_page.py",
                file=sys.stderr,
            )
            return 1
        return 0
    PAGE.write_text(page())
    return 0


if __name__ == "__main__":
    sys.exit(main())
