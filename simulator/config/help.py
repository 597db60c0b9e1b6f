"""The text of ``--help``: the groups, and the settings with their comments, as the YAML files have them."""

import re
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

from simulator.config.composition import CONF, group_folders

_USAGE = """\
python launch.py [group=choice ...] [key=value ...]
    graph=ring algorithm.lr=0.2   a component by its name in its group, and its settings under the name of the group
    -m seed=0,1,2                 a sweep: a run for each value
    algorithm=choco --help        the settings of a component
    --cfg job                     the configuration as it is composed
    --hydra-help                  options of Hydra
"""
_WIDTH = 110


def help_text(overrides: Sequence[str]) -> str:
    """What ``--help`` prints beside these overrides. Nothing is composed.

    The settings are those of the components that are chosen, and of the defaults of the other groups.

    Raises:
        ValueError: when there is no such component.
    """
    given = dict(override.lstrip("+").split("=", 1) for override in overrides if "=" in override)
    parts = [_USAGE, "Groups", *map(_group, group_folders()), ""]
    parts += ["Settings of a run", "", _own_settings(), ""]
    for group, choice in _chosen(given).items():
        path = CONF / group / f"{choice}.yaml"
        if not path.is_file():
            raise ValueError(f"{group}={choice}: there is no such file in conf/{group}/")
        text = re.sub(r"^(_target_: \S+ *|\{\}|# @package .*)", "", path.read_text(), flags=re.MULTILINE)
        lines = list(filter(None, text.splitlines()))
        parts += [f"{group}={choice}", "", textwrap.indent("\n".join(lines) or "no settings", "    "), ""]
    return "\n".join(parts)


def _group(folder: Path) -> str:
    names = sorted(path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.yaml"))
    text = textwrap.fill(
        ", ".join(names), _WIDTH, initial_indent=" " * 8, subsequent_indent=" " * 8, break_on_hyphens=False
    )
    return f"    {folder.name}=\n{text}"


def _own_settings() -> str:
    """The part of ``conf/config.yaml`` between the list of defaults and Hydra's own settings."""
    lines = (CONF / "config.yaml").read_text().splitlines()
    begin = next(number for number, line in enumerate(lines) if line.startswith("num_nodes:"))
    return textwrap.indent("\n".join(lines[begin : lines.index("hydra:")]).strip(), "    ")


def _chosen(given: Mapping[str, str]) -> dict[str, str]:
    """The choice of every group. An experiment chooses for itself; its own file is shown instead."""
    defaults = (
        line.strip("- ").split(": ") for line in (CONF / "config.yaml").read_text().splitlines() if ": " in line
    )
    chosen = {words[0]: words[1] for words in defaults if len(words) == 2 and (CONF / words[0]).is_dir()}
    if "experiment" in given:
        chosen = {"experiment": given["experiment"]}
    chosen |= {group: choice for group, choice in given.items() if (CONF / group).is_dir()}
    return {group: choice for group, choice in chosen.items() if choice != "null"}
