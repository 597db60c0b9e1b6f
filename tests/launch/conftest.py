"""Commands that are gone after the test, and runs that several tests compare with."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import LONG, RANKS, SMALL, Start

import simulator


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    starter = Start(tmp_path)
    yield starter
    for command in starter.running:
        command.end()


@pytest.fixture(scope="session")
def short_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the small run, in one process, started as a command."""
    folder = tmp_path_factory.mktemp("short")
    command = Start(folder)(f"hydra.run.dir={folder / 'run'}", environ={"PYTHONPROFILEIMPORTTIME": "1"})
    ended = command.wait()
    assert ended.status == 0, ended
    return folder / "run"


@pytest.fixture(scope="session")
def long_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of some seconds, in this process."""
    return simulator.run(*SMALL, *LONG, folder=tmp_path_factory.mktemp("long") / "run").folder


@pytest.fixture(scope="session")
def ranks_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the run that takes some seconds on several ranks, in this process."""
    return simulator.run(*SMALL, *RANKS, folder=tmp_path_factory.mktemp("ranks") / "run").folder
