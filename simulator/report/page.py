"""Writes ``report.html``: the template, its style and scripts, plotly.js and the data of the runs in one file."""

import json
import re
from html import escape
from importlib import resources
from pathlib import Path

from simulator.checkpoint import write_atomically
from simulator.errors import missing_extra
from simulator.report.contents import contents
from simulator.results import load_runs

FILE_NAME = "report.html"
_SCRIPTS = ("state.js", "controls.js", "curves.js", "table.js", "nodes.js", "graph.js", "partition.js", "settings.js")


def write_report(folder: Path) -> Path:
    """Writes the page of all runs below a folder, into it; returns its path.

    Raises:
        ValueError: when there is no run, or plotly is not installed; one line.
    """
    folder = folder.resolve()
    runs = load_runs(folder)
    library = _plotly()
    # Text of the data must not end the element that it stands in.
    data = json.dumps(contents(folder, runs), allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    parts = {
        "title": escape(folder.name),
        "style": _text("page.css"),
        "library": library,
        "data": data,
        "script": "\n".join(_text(name) for name in _SCRIPTS),
    }
    page = re.sub(r"\{\{ (\w+) \}\}", lambda match: parts[match[1]], _text("page.html"))
    path = folder / FILE_NAME
    write_atomically(path, page)
    return path


def _plotly() -> str:
    """The script of plotly.js, as its Python package carries it."""
    try:
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        raise missing_extra("the page", "plotly", "report") from error
    return str(get_plotlyjs())


def _text(name: str) -> str:
    return (resources.files("simulator.report") / "web" / name).read_text(encoding="utf-8")
