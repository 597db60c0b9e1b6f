"""The specification of the dashboard on W&B, as it would be sent."""

import json
import subprocess
import sys

import pytest

from scripts import wandb_dashboard
from scripts.wandb_dashboard import AXIS_NAMES, CHARTS, main

pytestmark = pytest.mark.filterwarnings("ignore")


def test_workspace_and_report_have_a_chart_for_every_metric_and_axis(capsys):
    assert main(["--entity", "us", "--project", "trial", "--group", "sweep-7", "--print"]) == 0
    printed = json.loads(capsys.readouterr().out)
    view = printed["workspace"]
    assert (view["entity"], view["project"]) == ("us", "trial")
    sections = view["spec"]["section"]["panel_bank_config"]["sections"]
    assert [section["name"] for section in sections] == list(CHARTS)
    for section in sections:
        metrics, axes = CHARTS[section["name"]]
        shown = {(panel["config"]["metrics"][0], panel["config"]["x_axis"]) for panel in section["panels"]}
        assert len(shown) == len(metrics) * len(axes)
        assert all(axis == "step" or axis in AXIS_NAMES for _, axis in shown)
    (runs,) = view["spec"]["section"]["run_sets"]
    assert [key["name"] for key in runs["grouping"]] == ["algorithm.value.name", "graph.value.name"]
    assert "sweep-7" in json.dumps(runs["filters"])
    assert list(printed["report"]["sections"]) == list(CHARTS)
    assert printed["report"]["title"] == "hypergossip: sweep-7"


def test_without_the_package_one_line_says_which(capsys, monkeypatch):
    def fail(*_):
        raise ImportError("No module named 'wandb_workspaces'")

    monkeypatch.setattr(wandb_dashboard, "build_workspace", fail)
    assert main(["--entity", "us", "--print"]) == 1
    assert capsys.readouterr().err == (
        "this script needs the package wandb-workspaces, of the extra dashboard: uv pip install '.[dashboard]'\n"
    )


def test_the_script_finds_the_simulator_from_any_folder(tmp_path):
    command = [sys.executable, wandb_dashboard.__file__, "--help"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
