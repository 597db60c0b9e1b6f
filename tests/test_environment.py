"""What a run was computed with: every distribution, and where the components come from."""

import importlib.metadata
import subprocess
import sys

import pytest

from simulator.environment import describe_environment, git_commit


def git(folder, *arguments):
    identity = ["-c", "user.name=n", "-c", "user.email=e@x"]
    return subprocess.run(
        ["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A user's own checkout with a package, which Python finds."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "__init__.py").write_text("")
    (tmp_path / "single.py").write_text("")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "first")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in ("mine", "single"):
        sys.modules.pop(name, None)


def test_every_distribution_is_recorded():
    recorded = describe_environment({})["distributions"]
    assert recorded["torch"] == importlib.metadata.version("torch")
    installed = {each.metadata["Name"] for each in importlib.metadata.distributions()}
    assert set(recorded) == installed


def test_packages_of_components_have_a_commit_or_a_version(checkout):
    commit = git(checkout, "rev-parse", "HEAD")
    settings = {
        "algorithm": {"_target_": "mine.algorithm.Own", "inner": [{"_target_": "numpy.ndarray"}]},
        "graph": {"_target_": "single.Graph"},
        "problem": {"_target_": "nowhere.Problem"},
        "model": {"_target_": "__main__.Model"},
    }
    assert describe_environment(settings)["packages"] == {
        "mine": commit,
        "numpy": importlib.metadata.version("numpy"),
        "single": commit,
        "nowhere": None,
        "__main__": None,
    }


def test_changes_are_marked(checkout):
    commit = git(checkout, "rev-parse", "HEAD")
    assert git_commit(checkout / "mine") == commit
    (checkout / "mine" / "new.py").write_text("")
    assert git_commit(checkout / "mine") == f"{commit}+changes"
    (checkout / "mine" / "new.py").unlink()
    (checkout / "single.py").write_text("x = 1\n")
    assert git_commit(checkout / "mine") == f"{commit}+changes"


def test_a_folder_without_a_checkout_has_no_commit(tmp_path):
    assert git_commit(tmp_path) is None
