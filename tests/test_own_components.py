"""The example of docs/own_components.md, in a folder outside the repository."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "own_components.md").read_text()
FURTHER = '''

import torch

from simulator.problems.base import Problem


class Parabola(Problem):
    """f_i(x) = (x - i)^2 / 2 in one variable."""

    uses_data = False
    num_params = 1

    def setup(self, setting):
        self.centres = torch.tensor([[float(node)] for node in setting.nodes], dtype=setting.dtype)

    def init_params(self):
        return torch.zeros_like(self.centres)

    def add_grad_(self, out, params, hparams, step, alpha):
        out.add_(params - self.centres, alpha=alpha)

    def evaluate(self, params, hparams):
        return {"train/loss": (params - self.centres).square().sum(dim=1) / 2}
'''
PARABOLA = "_target_: methods.Parabola\n"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.S)


@pytest.fixture(scope="module")
def mine(tmp_path_factory):
    """The folder of the page, with the graph and a problem in it as well."""
    folder = tmp_path_factory.mktemp("mine")
    python, yaml = blocks("python"), blocks("yaml")
    graph = next(block for block in python if "class TwoRings" in block)
    (folder / "methods.py").write_text(python[0] + "\n\n" + graph + FURTHER)
    for group, name, text in (
        ("algorithm", "momentum_gossip", yaml[0]),
        ("graph", "two_rings", yaml[1]),
        ("problem", "parabola", PARABOLA),
    ):
        (folder / "conf" / group).mkdir(parents=True)
        (folder / "conf" / group / f"{name}.yaml").write_text(text)
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    subprocess.run(["git", "add", "-A"], cwd=folder, check=True)
    author = ["-c", "user.name=me", "-c", "user.email=me@example.org"]
    subprocess.run(["git", *author, "commit", "-q", "-m", "Mine"], cwd=folder, check=True)
    return folder


def command(mine: Path, *words: str, cwd: Path = ROOT) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(mine), str(ROOT)]), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *words], cwd=cwd, env=environment, capture_output=True, text=True, timeout=250, check=False
    )
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.slow
def test_own_components_run_on_one_and_two_processes(mine, tmp_path):
    words = ["launch.py", "algorithm=momentum_gossip", "graph=two_rings", "problem=parabola", "num_nodes=8"]
    words += ["num_steps=300", "eval_every=100", "figures=false", "dtype=float64"]
    words += [f"hydra.searchpath=[file://{mine}/conf]"]
    summaries = {}
    for num_processes in (1, 2):
        folder = tmp_path / str(num_processes)
        command(mine, *words, f"hydra.run.dir={folder}", f"launcher.num_processes={num_processes}")
        summaries[num_processes] = json.loads((folder / "summary.json").read_text())
        environment = json.loads((folder / "environment.json").read_text())
        assert re.fullmatch(r"[0-9a-f]{40}", environment["packages"]["methods"])
    assert summaries[1]["comm/bytes"] == summaries[2]["comm/bytes"] == 300 * 8 * 4 * 8
    assert summaries[2]["comm/wire_bytes"] > 0
    assert abs(summaries[1]["train/loss"] - summaries[2]["train/loss"]) < 1e-12
    # Where it stands still: m = gradient / (1 - beta) and x = W x - lr m, with a gradient of x - centres.
    matrix, centres, rate = circulant({0, 1, 3, 5, 7}) / 5, np.arange(8.0), 0.1 / (1 - 0.5)
    rest = np.linalg.solve(np.eye(8) - matrix + rate * np.eye(8), rate * centres)
    assert summaries[1]["train/loss"] == pytest.approx(((rest - centres) ** 2 / 2).mean(), rel=1e-6)


def circulant(offsets: set[int]) -> np.ndarray:
    return np.array([[float((i - j) % 8 in offsets) for j in range(8)] for i in range(8)])


CHECK = """
import sys
from simulator.testing import check_algorithm, check_graph, check_problem
from methods import Parabola, TwoRings

if __name__ == "__main__":
    searchpath = f"hydra.searchpath=[file://{sys.argv[1]}/conf]"
    check_graph(TwoRings(num_nodes=8, weights="metropolis"))
    check_problem(Parabola())
    check_algorithm("algorithm=momentum_gossip", searchpath)
    print("all checks passed")
"""


@pytest.mark.slow
def test_own_components_pass_the_checks(mine, tmp_path):
    (tmp_path / "check.py").write_text(CHECK)
    done = command(mine, str(tmp_path / "check.py"), str(mine), cwd=tmp_path)
    assert done.stdout.strip() == "all checks passed"
