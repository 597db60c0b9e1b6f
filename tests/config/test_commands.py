"""What the comments of experiments say one can type composes, and its settings fit; no data is read."""

import itertools
import re
from functools import cache
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from simulator import config

CONF = Path(__file__).parents[2] / "conf"
EXPERIMENTS = sorted((CONF / "experiment").rglob("*.yaml"))
OVERRIDE = re.compile(r"[+]{0,2}[a-z][\w@./]*=\S+|~[a-z][\w@./]*")


def read_comments(text):
    """Finds the overrides that the comments of a YAML name.

    Overrides that follow each other, also over lines, are one list; any other word and punctuation after one of them
    ends it. ``algorithm=...`` leaves open what to type, and ``<folder>`` stands for any name.

    Returns:
        lists of overrides, each with whether it is a command without -m; and words with = that are none.
    """
    lists, unread, current, before = [], [], [], ""
    for line in text.splitlines():
        for raw in line[1:].split() if line.startswith("#") else ["."]:
            if raw == "\\":
                continue
            word = raw.lstrip("(").rstrip(".,;:)")
            word = re.sub(r"<\w+>", "something", word[1:-1] if word[:1] == word[-1:] == "'" else word)
            is_override = OVERRIDE.fullmatch(word) is not None and "..." not in raw
            if is_override:
                if not current:
                    lists.append((current, before == "launch.py"))
                current.append(word)
            elif re.search(r"\w=", raw) and "..." not in raw:
                unread.append(raw)
            if not is_override or raw[-1] in ".,;:)":
                current = []
            before = raw
    return lists, unread


def jobs(overrides):
    """The jobs of a sweep: every combination of words, and the first of swept numbers."""
    parsed = OverridesParser.create().parse_overrides(overrides)
    fixed = [o.input_line for o in parsed if not o.is_sweep_override()]
    swept = [
        [f"{o.get_key_element()}={value}" for value in o.sweep_string_iterator()]
        for o in parsed
        if o.is_sweep_override()
    ]
    words = [values[:1] if values[0].split("=")[1][0].isdigit() else values for values in swept]
    return [fixed + list(chosen) for chosen in itertools.product(*words)]


def name_of(file):
    return file.relative_to(CONF / "experiment").with_suffix("").as_posix()


COMPOSE = []


@pytest.fixture(scope="module", autouse=True)
def _hydra():
    """Reads every YAML once."""
    with config.composer() as compose:
        COMPOSE[:] = [compose]
        yield


@pytest.mark.slow
@pytest.mark.parametrize("file", EXPERIMENTS, ids=name_of)
def test_what_comments_say_can_be_typed(file):
    lists, unread = read_comments(file.read_text())
    assert not unread
    for overrides, is_single in lists:
        keys = [override.lstrip("+~").split("=")[0] for override in overrides]
        assert len(set(keys)) == len(keys), f"two lists in one: {overrides}"
        own = [] if "experiment" in keys else [f"experiment={name_of(file)}"]
        for job in jobs(overrides):
            assert not is_single or set(job) == set(overrides), f"a sweep without -m: {overrides}"
            try:
                check(own + job)
            except Exception as error:
                error.add_note(f"python launch.py {' '.join(own + job)}")
                raise


def check(overrides):
    """As a launch does before it reads data."""
    settings = composed(tuple(overrides))
    components = config.build(settings)
    choices = {override.lstrip("+").split("=")[0]: override.split("=")[-1] for override in overrides}
    config.check_choices(choices, set(choices), components)
    config.check(settings, components, 1)


@cache
def composed(overrides):
    """Composes; quickly where jobs differ in a component of which nothing else is set, since Hydra takes its time."""
    experiment = next(override.split("=")[1] for override in overrides if override.startswith("experiment="))
    for group in ("graph", "compressor"):
        chosen = [override for override in overrides if re.match(rf"[+~]*{group}[.=]", override)]
        if len(chosen) == 1 and chosen[0].startswith(f"{group}=") and not is_set(experiment, group):
            component = OmegaConf.load(CONF / group / f"{chosen[0].split('=')[1]}.yaml")
            if "defaults" not in component:
                rest = composed(tuple(override for override in overrides if override not in chosen))
                choices = rest["choices"] | {group: chosen[0].split("=")[1]}
                return OmegaConf.to_container(
                    OmegaConf.create({**rest, group: component, "choices": choices}), resolve=True
                )
    return COMPOSE[0](overrides).settings


@cache
def is_set(experiment, section):
    """Whether an experiment, or one that it is based on, has a section."""
    content = OmegaConf.load(CONF / "experiment" / f"{experiment}.yaml")
    bases = [base for base in content.defaults if isinstance(base, str) and base != "_self_"]
    return section in content or any(is_set(base, section) for base in bases)


def test_comments_are_read_as_they_are_meant():
    text = """# @package _global_
# Words (a/b.c), "x = y" and zeta=... are none; dataset=mnist data_root=<folder> 'model.hidden=[20,30]'
# algorithm.lr=0.5. Next: graph=ring, graph=star (with '~model.hidden'):
#   python launch.py -m experiment=a algorithm.lr=0.1,0.2 \\
#     graph=ring,star
#   python launch.py +x.y=1 X=2
num_nodes: 8
# seed=1
"""
    lists, unread = read_comments(text)
    assert lists == [
        (["dataset=mnist", "data_root=something", "model.hidden=[20,30]", "algorithm.lr=0.5"], False),
        (["graph=ring"], False),
        (["graph=star"], False),
        (["~model.hidden"], False),
        (["experiment=a", "algorithm.lr=0.1,0.2", "graph=ring,star"], False),
        (["+x.y=1"], True),
        (["seed=1"], False),
    ]
    assert unread == ["X=2"]
    assert jobs(["model.hidden=[20,30]", "algorithm.lr=0.1,0.2", "graph=ring,star", "seed=1"]) == [
        ["model.hidden=[20,30]", "seed=1", "algorithm.lr=0.1", "graph=ring"],
        ["model.hidden=[20,30]", "seed=1", "algorithm.lr=0.1", "graph=star"],
    ]


@pytest.mark.slow
def test_a_component_put_in_is_what_hydra_composes():
    start = ("experiment=topology_label_skew", "num_nodes=4")
    for choice in ("graph=torus", "graph=matcha", "compressor=sign"):
        assert composed((*start, choice)) == COMPOSE[0]([*start, choice]).settings
    assert "rate_low" in composed(("experiment=paper/personalization_sgp_baselines", "graph=self_loop"))["graph"]
    assert is_set("pfedhn_cifar100", "dataset")
    assert not is_set("pfedhn_cifar100", "graph")
