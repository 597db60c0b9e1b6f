"""The documents build to a site: strictly, without the network, and with pages that load nothing from elsewhere."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.site_links import without_outside_links

ROOT = Path(__file__).parents[1]
LOADS = re.compile(
    r"<(?:script|link|img|iframe|source)\b[^>]*\b(?:src|href)=[\"']?(?:https?:)?//[^>]*>|@import\s+url|url\([\"']?https?:"
)


def build(config: Path, site: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", str(config), "-d", str(site)]
    # No proxy is there: whatever asks the network fails.
    blocked = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    environment = {**os.environ, **blocked, "NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=config.parent, check=False)


@pytest.mark.slow
def test_the_site_builds_strictly_and_its_pages_load_nothing_from_elsewhere(tmp_path):
    built = build(ROOT / "mkdocs.yml", tmp_path)
    assert built.returncode == 0, built.stderr
    pages = list(tmp_path.rglob("*.html"))
    assert {page.parent.name for page in pages} >= {path.stem for path in ROOT.glob("docs/**/*.md")} - {"index"}
    for file in [*pages, *tmp_path.rglob("*.css")]:
        assert not LOADS.search(file.read_text()), file


@pytest.mark.slow
def test_a_link_to_nothing_ends_the_build(tmp_path):
    links = {
        "[a](nowhere.md)": "'nowhere.md'",
        "[b](#absent)": "'#absent'",
        "[c](other.md#missing)": "'other.md#missing'",
    }
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text(f"# A page\n\n{' '.join(links)}\n")
    (tmp_path / "docs" / "other.md").write_text("# Another page\n")
    config = tmp_path / "mkdocs.yml"
    config.write_text(
        f"INHERIT: {ROOT / 'mkdocs.yml'}\ndocs_dir: {tmp_path / 'docs'}\nhooks: []\nnav: [index.md, other.md]\n"
    )
    built = build(config, tmp_path / "site")
    assert built.returncode != 0
    assert [name for name in links.values() if name not in built.stderr] == []


@pytest.mark.parametrize(
    ("page", "before", "after"),
    [
        ("python.md", "[sgp.py](../simulator/algorithms/sgp.py)", "`simulator/algorithms/sgp.py`"),
        ("howto/resume.md", "see [the tests](../../tests/test_docs.py#x).", "see the tests (`tests/test_docs.py`)."),
        ("howto/resume.md", "[metrics](../metrics.md#in-every-evaluation)", None),
        ("python.md", "![a figure](figures/curves.png) and [here](#run)", None),
        ("python.md", "[a paper](https://arxiv.org/abs/2210.02129)", None),
    ],
)
def test_links_out_of_the_documents_become_names_of_files(page, before, after):
    assert without_outside_links(before, page) == (before if after is None else after)
