"""Commands that are gone after the test, and runs that several tests compare with."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import LONG, RANKS, Start


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    starter = Start(tmp_path)
    yield starter
    for command in starter.running:
        command.end()


@pytest.fixture(scope="session")
def short_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the small run, in one process."""
    return _finished(tmp_path_factory.mktemp("short"))


@pytest.fixture(scope="session")
def long_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of some seconds, in one process."""
    return _finished(tmp_path_factory.mktemp("long"), *LONG)


@pytest.fixture(scope="session")
def ranks_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the run that takes some seconds on several ranks, in one process."""
    return _finished(tmp_path_factory.mktemp("ranks"), *RANKS)


def _finished(folder: Path, *overrides: str) -> Path:
    command = Start(folder)(*overrides, f"hydra.run.dir={folder / 'run'}", environ={"PYTHONPROFILEIMPORTTIME": "1"})
    ended = command.wait()
    assert ended.status == 0, ended
    return folder / "run"
