"""The notebooks in docs/ run from top to bottom, and hold no outputs."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "docs").rglob("*.ipynb"))
EXECUTE = """
import sys
import nbformat
from nbclient import NotebookClient
notebook = nbformat.read(sys.argv[1], as_version=4)
NotebookClient(notebook, timeout=600, resources={"metadata": {"path": sys.argv[2]}}).execute()
nbformat.write(notebook, sys.argv[3])
"""


def cells(path):
    return [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]


def test_there_is_a_first_notebook():
    assert ROOT / "docs" / "notebooks" / "first_run.ipynb" in NOTEBOOKS


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_hold_no_outputs(notebook):
    assert not [cell for cell in cells(notebook) if cell["outputs"] or cell["execution_count"] is not None]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_run(notebook, tmp_path):
    """In a copy of docs/notebooks beside the simulator, where outputs/ may be written."""
    folder = tmp_path / "docs" / "notebooks"
    folder.mkdir(parents=True)
    (tmp_path / "simulator").symlink_to(ROOT / "simulator")
    executed = tmp_path / "executed.ipynb"
    command = [sys.executable, "-c", EXECUTE, str(notebook), str(folder), str(executed)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=800)
    assert done.returncode == 0, done.stderr
    outputs = [output for cell in cells(executed) for output in cell["outputs"]]
    assert not [output for output in outputs if output["output_type"] == "error"]
    kinds = {kind for output in outputs for kind in output.get("data", {})}
    assert {"text/plain", "text/html", "image/png"} <= kinds
    assert len(list(folder.rglob("summary.json"))) == 5
    # The progress bar, and no line per evaluation beside it.
    texts = {"stdout": "", "stderr": ""}
    for output in outputs:
        if output["output_type"] == "stream":
            texts[output["name"]] += "".join(output["text"])
    assert "60/60" in texts["stderr"]
    assert "step 30" not in texts["stdout"]
    assert texts["stdout"].count("finished") == 5
