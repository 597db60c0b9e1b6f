"""docs/components.md is what the script makes of the code, and it leaves nothing out."""

import re
from pathlib import Path

import pytest
import yaml

from scripts import make_components_page as pages

ROOT = Path(__file__).parents[1]
COMPONENTS = [(group, path) for group in pages.GROUPS for path in sorted((ROOT / "conf" / group).glob("*.yaml"))]
ALGORITHMS = sorted((ROOT / "conf" / "algorithm").glob("*.yaml"))


def settings_on_page(heading: str) -> dict[str, str]:
    """Key and default of every line below a heading of the page."""
    _, _, below = pages.PAGE.read_text().partition(f"\n#### `{heading}`\n")
    own = re.split(r"^#", below, maxsplit=1, flags=re.MULTILINE)[0]
    return dict(re.findall(r"^- `([^`]+)` = `([^`]*)`", own, re.MULTILINE))


def test_the_page_is_up_to_date():
    assert pages.PAGE.read_text() == pages.page(), "run python scripts/make_components_page.py"


def test_check_compares_and_does_not_write(tmp_path, monkeypatch, capsys):
    assert pages.main(["--check"]) == 0
    other = tmp_path / "components.md"
    other.write_text("something else")
    monkeypatch.setattr(pages, "PAGE", other)
    assert pages.main(["--check"]) == 1
    assert "make_components_page.py" in capsys.readouterr().err
    assert other.read_text() == "something else"
    assert pages.main([]) == 0
    assert pages.main(["--check"]) == 0


def test_every_group_and_experiment_is_on_the_page():
    folders = {path.name for path in (ROOT / "conf").iterdir() if path.is_dir()}
    assert folders == {*pages.GROUPS, "experiment", "hparams_search", "study"}  # studies are files of scripts/study.py
    text = pages.PAGE.read_text()
    for path in sorted((ROOT / "conf" / "experiment").rglob("*.yaml")):
        word = path.relative_to(ROOT / "conf" / "experiment").with_suffix("").as_posix()
        assert f"#### `experiment={word}`" in text


@pytest.mark.parametrize(("group", "path"), COMPONENTS, ids=lambda value: getattr(value, "stem", value))
def test_every_setting_is_on_the_page_with_its_default(group, path):
    content = yaml.safe_load(path.read_text())
    shown = settings_on_page(f"{group}={path.stem}")
    nested = {key for key in shown if "@" in key}
    keys = set(content) - {"_target_", "_partial_", "defaults"}
    assert {key.partition(".")[0] for key in set(shown) - nested} == keys
    assert len(nested) == sum("_self_" not in str(entry) for entry in content.get("defaults", []))
    for key in keys:
        if not isinstance(content[key], dict):
            assert yaml.safe_load(shown[key]) == content[key]


@pytest.mark.parametrize("path", ALGORITHMS, ids=lambda path: path.stem)
def test_every_algorithm_says_what_it_needs_and_sends_and_where_it_is_from(path):
    target = pages.read_yaml(path).target
    assert all(pages.section(target, name) for name in pages.SECTIONS)


@pytest.mark.parametrize(("group", "path"), COMPONENTS, ids=lambda value: getattr(value, "stem", value))
def test_every_component_has_a_summary(group, path):
    summary = pages.summary(pages.read_yaml(path, group))
    assert summary.endswith(".")
    assert len(summary) > 5


def test_a_line_that_cannot_be_read_is_named(tmp_path):
    path = tmp_path / "odd.yaml"
    path.write_text("_target_: simulator.graphs.ring.Ring\nnum nodes = 3\n")
    with pytest.raises(ValueError, match="num nodes = 3"):
        pages.read_yaml(path)


def test_comments_nested_settings_and_defaults_lists_are_read(tmp_path):
    path = tmp_path / "some.yaml"
    path.write_text(
        "defaults:  # another file\n  - /graph@base: ring  # the base\n  - _self_  # what follows\n"
        "_target_: simulator.graphs.matcha.Matcha  # a remark\n"
        "budget: 0.5  # a share, (0, 1]\nlr_schedule:  # a factor\n  _target_: simulator.schedules.Constant\n"
        "link:  # of messages\n  latency_s: 0.001  # seconds\n"
    )
    read = pages.read_yaml(path, "graph")
    assert (read.target, read.remark) == ("simulator.graphs.matcha.Matcha", "a remark")
    assert [(setting.key, setting.default, setting.comment) for setting in read.settings] == [
        ("graph@graph.base", "ring", "the base"),
        ("budget", "0.5", "a share, (0, 1]"),
        ("lr_schedule", "simulator.schedules.Constant", "a factor"),
        ("link", "", "of messages"),
        ("link.latency_s", "0.001", "seconds"),
    ]
