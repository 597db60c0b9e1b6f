"""docs/compatibility.md is what the checks say, and what they say is what happens in a step."""

import re

import pytest
from omegaconf import OmegaConf

from scripts import make_compatibility_page as pages
from simulator.simulation import Simulation

SECTIONS = pages.PAGE.read_text().split("\n## ")


def rows(title: str) -> dict[str, dict[str, str]]:
    """The cells of the table of algorithms in a section, by algorithm and column."""
    (section,) = [text for text in SECTIONS if text.startswith(title)]
    lines = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("|")]
    (start,) = [i for i, cells in enumerate(lines) if cells[0] == "`algorithm=`"]
    columns = [cell.strip("`") for cell in lines[start][1:]]
    body = {re.findall(r"`(\w+)`", cells[0])[0]: cells[1:] for cells in lines[start + 2 :]}
    return {name: dict(zip(columns, cells, strict=True)) for name, cells in body.items()}


@pytest.mark.slow
def test_the_page_is_up_to_date():
    assert pages.PAGE.read_text() == pages.page(), "run python scripts/make_compatibility_page.py"


def test_every_algorithm_graph_and_problem_is_on_the_page():
    for title in ("Algorithms and graphs", "Algorithms and problems", "Algorithms and everything else"):
        assert list(rows(title)) == pages.names("algorithm")
    assert list(rows("Algorithms and problems")["sgp"]) == pages.names("problem")
    named = set(re.findall(r"`(\w+)[ `]", SECTIONS[1].partition("This holds for")[0]))
    assert named >= set(pages.names("graph")) - set(pages.NOT_BUILT)


def test_what_is_known_of_some_algorithms_stands_there():
    on_graphs, on_problems = rows("Algorithms and graphs"), rows("Algorithms and problems")
    assert [on_graphs["dsgd"][name] for name in ("ring", "exponential", "random_directed", "hub")] == [
        "yes",
        "yes",
        "-",
        "-",
    ]
    assert [on_graphs["sgp"][name] for name in ("ring", "random_directed", "hub")] == ["yes", "yes", "-"]
    assert [on_graphs["beer"][name] for name in ("ring", "exponential")] == ["yes", "-"]
    assert [on_graphs["relay_sum"][name] for name in ("ring", "binary_tree")] == ["-", "yes"]
    assert [on_problems["hgp"][name] for name in ("classification", "logit_scaling")] == ["-", "yes"]
    assert [on_problems["fedem"][name] for name in ("classification", "mixture_weights")] == ["-", "yes"]


def takes_a_step(algorithm: str, graph: str, problem: str, timing: str) -> bool:
    """Whether a run of these components gets through its first step."""
    chosen = {"algorithm": algorithm, "graph": graph, "problem": problem}
    if timing == "yes":
        chosen["timing"] = "constant"
    root = {key: value for key, value in pages.base().items() if key not in pages.base()["choices"]}
    settings = {**pages.base(), "choices": {**pages.base()["choices"], **chosen}, "compute": "vmap"}
    for group, name in chosen.items():
        unresolved = OmegaConf.create({**root, group: pages.section(group, name)})
        settings[group] = OmegaConf.to_container(unresolved, resolve=True)[group]
    try:
        simulation = Simulation.build(settings)
        simulation.step(simulation.init(), 0)
    except ValueError:
        return False
    return True


@pytest.mark.slow
@pytest.mark.parametrize(("graph", "problem"), [("star", "random_quadratic"), ("random_directed", "quadratic")])
def test_what_fits_takes_a_step_and_what_does_not_is_refused(graph, problem):
    on_graphs, on_problems, others = (rows(f"Algorithms and {what}") for what in ("graphs", "problems", "everything"))
    expected = {
        name: on_graphs[name][graph] == on_problems[name][problem] == "yes" for name in pages.names("algorithm")
    }
    found = {name: takes_a_step(name, graph, problem, others[name]["needs timing"]) for name in expected}
    assert found == expected
    assert set(found.values()) == {True, False}
