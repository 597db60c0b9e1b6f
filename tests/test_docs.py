"""The documents name files that exist, all metrics, and versions without a host."""

import ast
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")] + sorted(
    ROOT.glob("docs/**/*.md")
)
METRIC = re.compile(
    r"(train|valid|test|outer|inner|penalty|comm|time|throughput|hypergradient|hparams|influence|privacy|exchange|novel"
    r"|trained|private|target|hypernetwork|covariance|graph|quadratic|theory)/[a-z][a-z0-9_]*[a-z0-9]"
)
SOURCES = ("metrics.py", "summary.py", "algorithms", "problems", "topology/analysis.py")


def anchors(path: Path) -> set[str]:
    """The anchors that GitHub gives the headings of a document."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_to_files_and_headings(document):
    text = re.sub(r"^```.*?^```|^    .*?$", "", document.read_text(), flags=re.MULTILINE | re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if link.startswith("http"):
            continue
        name, _, heading = link.partition("#")
        path = (document.parent / name).resolve() if name else document
        assert path.exists(), link
        assert not heading or heading in anchors(path), link


def logged_names() -> set[str]:
    """The string constants of the code that are names of metrics."""
    paths = [path for source in SOURCES for path in (ROOT / "simulator").glob(source)]
    files = [file for path in paths for file in (path.rglob("*.py") if path.is_dir() else [path])]
    trees = [ast.parse(file.read_text()) for file in files]
    constants = [node.value for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    return {value for value in constants if isinstance(value, str) and METRIC.fullmatch(value)}


def test_every_metric_is_in_the_list_of_metrics():
    names = logged_names()
    assert len(names) > 80
    text = (ROOT / "docs" / "metrics.md").read_text()
    assert not {name for name in names if name not in text}


def test_constraints_pin_every_dependency_and_name_no_host():
    text = (ROOT / "constraints.txt").read_text()
    pinned = [line for line in text.splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[a-z0-9][a-z0-9.-]*==[\w.+]+( ; .*)?", line) for line in pinned)
    assert "://" not in text
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = [*project["project"]["dependencies"], *project["dependency-groups"]["dev"]]
    names = {re.split(r"[^\w.-]", requirement)[0].lower().replace("_", "-") for requirement in wanted}
    assert names <= {line.partition("==")[0] for line in pinned}


def test_version_is_the_same_everywhere():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert re.search(rf"^version: {re.escape(version)}$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)
    newest = re.search(r"^## \[.*?(\d+\.\d+\.\d+)\]?$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest is not None
    assert newest[1] == version
