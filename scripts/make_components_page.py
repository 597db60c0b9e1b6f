"""Writes docs/components.md: every component that a configuration can choose, with its settings.

    python scripts/make_components_page.py          # write the page
    python scripts/make_components_page.py --check  # exit with status 1 when the page is not up to date

The page is made from the files in conf/ and from the docstrings of the modules that they name in ``_target_``. Nothing
is imported and no component is built.
"""

import argparse
import ast
import itertools
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CONF = ROOT / "conf"
PAGE = ROOT / "docs" / "components.md"

# Group, title, and one sentence about the group, in the order of the page.
GROUPS = {
    "algorithm": ("Algorithms", "What every node computes and sends in a step."),
    "graph": ("Graphs", "Who sends to whom in every round, and the mixing matrix W_t."),
    "problem": ("Problems", "The objective that is minimized."),
    "dataset": ("Datasets", "The samples. Only `digits` and `synthetic_mixture` need no download and no files."),
    "partition": ("Partitions", "Which samples every node holds."),
    "model": ("Models", "The network that is trained on classification problems."),
    "compressor": ("Compressors", "How the messages of algorithms for compressed gossip are coded."),
    "faults": ("Faults", "Messages or nodes that fail in a round."),
    "timing": ("Timing", "How long nodes compute and messages travel in simulated time."),
    "logger": ("Loggers", "Where metrics go, besides the console and `metrics.jsonl`."),
    "launcher": ("Launcher", "How local processes are started."),
}
SECTIONS = ("Needs", "Sends", "Source")

INTRODUCTION = """\
# Components

This page is generated from `conf/` and from docstrings. Do not edit it: change those and run
`python scripts/make_components_page.py`. A test compares the page with the code.

A component is chosen by its name in its group, `graph=ring`. Its settings follow under the name of the group,
`graph.weights=lazy`. A default such as `${num_nodes}` is the value of that setting of the run.
The metrics are listed in [metrics.md](metrics.md). [compatibility.md](compatibility.md) says what fits together.
[adding_components.md](adding_components.md) says how to write a
component of your own.
"""


@dataclass(frozen=True)
class Setting:
    """A setting of a YAML file: its key, its default as written there, and its comment."""

    key: str
    default: str
    comment: str


@dataclass(frozen=True)
class Yaml:
    """What a YAML file of ``conf/`` says: leading comment lines, ``_target_`` with its comment, and settings."""

    comment: tuple[str, ...]
    target: str
    remark: str
    settings: tuple[Setting, ...]


def read_yaml(path: Path, group: str = "") -> Yaml:
    """Reads a file line by line, because YAML parsers drop comments.

    Args:
        path: of the file; ``group``: the folder of ``conf/`` it is in, for the keys of its defaults list.

    Raises:
        ValueError: a line that is neither a comment, nor ``key: value``, nor an item of a defaults list.
    """
    comment: list[str] = []
    target = remark = ""
    settings: list[Setting] = []
    parents: list[tuple[int, str]] = []
    for line in path.read_text().splitlines():
        text, _, note = line.partition(" # ") if not line.startswith("#") else ("", "", "")
        if line.startswith("#") and not settings and not target:
            comment.append(line.removeprefix("#").removeprefix(" "))
        if not text.strip() or text.strip() == "{}":
            continue
        note = note.strip()
        # - /graph@base: ring  # comment
        item = re.fullmatch(r" +- (?:override )?/?([\w/]+)(?:@([\w.]+))?(?:: *(\S+))?", text.rstrip())
        if item:
            chosen, place, word = item.groups()
            if place and word and group:
                settings.append(Setting(f"{chosen}@{group}.{place}", word, note))
            continue
        entry = re.fullmatch(r"( *)([\w.]+):(?: +(.*?))? *", text)
        if not entry:
            raise ValueError(f"{path}: cannot read the line {line!r}")
        indent, key, value = len(entry[1]), entry[2], entry[3] or ""
        parents = [(depth, name) for depth, name in parents if depth < indent]
        full_key = ".".join([*(name for _, name in parents), key])
        if key == "_target_" and not parents:
            target, remark = value, note
        elif key == "_target_":
            # The class of a nested object is the default of the setting above it.
            above = settings.pop()
            settings.append(Setting(above.key, value, above.comment or note))
        elif key not in ("_partial_", "defaults"):
            settings.append(Setting(full_key, value, note))
        if not value:
            parents.append((indent, key))
    return Yaml(tuple(comment), target, remark, tuple(settings))


def module_of(target: str) -> Path:
    """The file of a dotted class name."""
    return ROOT / Path(*target.split(".")[:-1]).with_suffix(".py")


def first_line(target: str) -> str:
    """The first line of the docstring of the module that holds the class."""
    docstring = ast.get_docstring(ast.parse(module_of(target).read_text())) or ""
    return docstring.partition("\n")[0]


def section(target: str, name: str) -> str:
    """The text after ``Needs:``, ``Sends:`` or ``Source:`` in the docstring of the module, on one line."""
    docstring = ast.get_docstring(ast.parse(module_of(target).read_text())) or ""
    match = re.search(rf"^{name}: *(.*?)(?=^[A-Z]\w+:|^\s*$|\Z)", docstring, re.MULTILINE | re.DOTALL)
    return " ".join(match[1].split()) if match else ""


def markdown(text: str) -> str:
    """Text of a docstring or a comment as Markdown that also fits into a cell of a table."""
    text = re.sub(r":\w+:`~?([^`]+)`", r"`\1`", text).replace("``", "`")
    pieces = re.split(r"(`[^`]*`)", text)
    for i in range(0, len(pieces), 2):
        pieces[i] = re.sub(r"([*<>])", r"\\\1", pieces[i])
        pieces[i] = re.sub(r"arXiv (\d{4}\.\d{4,5})", r"[arXiv \1](https://arxiv.org/abs/\1)", pieces[i])
    return "".join(pieces).replace("|", r"\|")


def summary(yaml: Yaml) -> str:
    """One or two sentences: the first line of the docstring, and the comment of ``_target_``."""
    if not yaml.target:
        return markdown(" ".join(yaml.comment))
    remark = f" {yaml.remark[0].upper()}{yaml.remark[1:].rstrip('.')}." if yaml.remark else ""
    return markdown(first_line(yaml.target) + remark)


def anchor(group: str, word: str) -> str:
    """The anchor that GitHub gives the heading ``group=word``."""
    return re.sub(r"[^\w-]", "", f"{group}{word}")


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return [f"| {' | '.join(cells)} |" for cells in lines] + [""]


def bullets(settings: Sequence[Setting]) -> list[str]:
    """A line for every setting: key, default, comment."""
    lines = []
    for setting in settings:
        default = setting.default.removeprefix("simulator.schedules.") or '""'
        meaning = f": {markdown(setting.comment)}" if setting.comment else ""
        lines.append(f"- `{setting.key}` = `{default}`{meaning}")
    return [*lines, ""]


def overview(group: str, yamls: Mapping[str, Yaml]) -> list[str]:
    """The table of some components of a group."""
    further = SECTIONS if group == "algorithm" else ()
    rows = []
    for word, yaml in yamls.items():
        file = ""
        if yaml.target:
            path = module_of(yaml.target).relative_to(ROOT)
            file = f"[{path.name}](../{path.as_posix()})"
        texts = [markdown(section(yaml.target, name)) for name in further]
        rows.append([f"[`{word}`](#{anchor(group, word)})", summary(yaml), *texts, file])
    return table([f"`{group}=`", "what it is", *(name.lower() for name in further), "file"], rows)


def group_lines(group: str) -> list[str]:
    """A group of ``conf/``: its tables, then the settings of every component."""
    title, about = GROUPS[group]
    lines = [f"## {title}", "", about, ""]
    yamls = {path.stem: read_yaml(path, group) for path in sorted((CONF / group).glob("*.yaml"))}
    if group == "algorithm":
        lines += ["The algorithms are grouped by line of work, as in `simulator/algorithms/`.", ""]
        for line in sorted({module_of(yaml.target).parent.name for yaml in yamls.values()}):
            own = {word: yaml for word, yaml in yamls.items() if module_of(yaml.target).parent.name == line}
            lines += [f"### {line.replace('_', ' ').capitalize()}", "", *overview(group, own)]
    else:
        lines += overview(group, yamls)
    lines += [f"### Settings of {title.lower()}", ""]
    for word, yaml in yamls.items():
        lines += [f"#### `{group}={word}`", "", *(bullets(yaml.settings) if yaml.settings else ["No settings.", ""])]
    return lines


def paragraphs(comment: Sequence[str]) -> list[str]:
    """A comment as Markdown: its indented lines are commands, the others are prose."""
    lines: list[str] = []
    prose: list[str] = []
    code: list[str] = []
    for line in [*comment, None]:
        indented = line is not None and line.startswith("  ")
        if prose and (line is None or indented):
            lines += [markdown(" ".join(prose)), ""]
            prose = []
        if code and not indented:
            lines += ["```", *code, "```", ""]
            code = []
        if line is not None:
            (code if indented else prose).append(line.removeprefix("  ") if indented else line)
    return lines


def experiment_lines() -> list[str]:
    """Every experiment: what its leading comment says, and what it chooses."""
    lines = ["## Experiments", "", "An experiment chooses components and their settings.", ""]
    rows, details = [], []
    for path in sorted((CONF / "experiment").rglob("*.yaml"), key=lambda path: (len(path.parts), path)):
        word = path.relative_to(CONF / "experiment").with_suffix("").as_posix()
        comment = [line for line in read_yaml(path).comment if not line.startswith("@package")]
        prose = " ".join(itertools.takewhile(lambda line: not line.startswith("  "), comment))
        sentence = re.sub(r"\.\s.*", "", prose).rstrip(":.") + "."
        rows.append([f"[`{word}`](#{anchor('experiment', word)})", markdown(sentence)])
        choices = re.findall(r"^ +- (?:override /)?([\w@.]+)(?:: (\S+))?$", path.read_text(), re.MULTILINE)
        named = [f"`{group}={choice}`" if choice else f"`experiment={group}`" for group, choice in choices]
        named = [name for name in named if name != "`experiment=_self_`"]
        details += [f"#### `experiment={word}`", "", *paragraphs(comment), f"Chooses {', '.join(named)}.", ""]
    return [*lines, *table(["`experiment=`", "what it is"], rows), "### Experiments one by one", "", *details]


def search_lines() -> list[str]:
    """Every search for settings: what its leading comment says."""
    lines = ["## Searches", "", "A search lets a sweeper of Hydra choose settings.", ""]
    for path in sorted((CONF / "hparams_search").glob("*.yaml")):
        leading = itertools.takewhile(lambda line: line.startswith("#"), path.read_text().splitlines())
        comment = [line.removeprefix("#").removeprefix(" ") for line in leading if "@package" not in line]
        lines += [
            f"#### `hparams_search={path.stem}`",
            "",
            *paragraphs(comment),
            *bullets([each for each in read_yaml(path).settings if each.default]),
        ]
    return lines


def run_settings() -> list[str]:
    """The settings of ``conf/config.yaml`` that belong to no component."""
    settings = read_yaml(CONF / "config.yaml").settings
    kept = [setting for setting in settings if setting.default and not setting.key.startswith("hydra.callbacks")]
    return ["## Settings of a run", "", "They belong to no component.", "", *bullets(kept)]


def page() -> str:
    """The text of docs/components.md."""
    titles = ["Settings of a run", *(title for title, _ in GROUPS.values()), "Experiments", "Searches"]
    contents = [f"- [{title}](#{title.lower().replace(' ', '-')})" for title in titles]
    lines = [INTRODUCTION, *contents, "", *run_settings()]
    for group in GROUPS:
        lines += group_lines(group)
    return "\n".join([*lines, *experiment_lines(), *search_lines()]).rstrip() + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes or checks the page; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="compare only; exit with status 1 when they differ")
    if parser.parse_args(arguments).check:
        if not PAGE.is_file() or PAGE.read_text() != page():
            print("docs/components.md is not up to date: run python scripts/make_components_page.py", file=sys.stderr)
            return 1
        return 0
    PAGE.write_text(page())
    return 0


if __name__ == "__main__":
    sys.exit(main())
