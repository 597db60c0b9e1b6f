"""Sweepers and launchers of Hydra that are installed beside it get every run's objective and failure."""

import importlib.util
import sqlite3
from pathlib import Path

import pytest
from commands import Start

pytestmark = pytest.mark.slow

QUICK = ["algorithm=sgp", "graph=ring", "num_nodes=4", "num_steps=40", "eval_every=20", "model=logistic_regression"]
QUICK += ["figures=false", "num_threads=1", "compute=batched"]


def needs(plugin: str) -> pytest.MarkDecorator:
    found = importlib.util.find_spec("hydra_plugins") and importlib.util.find_spec(f"hydra_plugins.{plugin}")
    return pytest.mark.skipif(not found, reason=f"{plugin.replace('_', '-')} is not installed")


@needs("hydra_optuna_sweeper")
@pytest.mark.parametrize("ranks", [None, 2])
def test_a_study_of_six_trials_is_stopped_and_resumed(ranks: int | None, start: Start, tmp_path: Path):
    study = [f"hydra.sweeper.storage=sqlite:///{tmp_path}/study.db", f"hydra.sweep.dir={tmp_path}/trials"]
    for num_trials in (2, 4):
        words = ["hparams_search=optuna", *study, f"hydra.sweeper.n_trials={num_trials}"]
        ended = start(*QUICK, *words, settings=[], ranks=ranks, arguments="-m").wait()
        assert ended.status == 0, ended
        assert "Best value: 0." in ended.out
        assert "sweep.csv, runs.csv, sweep.png, sweep.pdf in" in ended.out
        with (tmp_path / "trials" / "runs.csv").open() as file:
            assert len(file.readlines()) == 1 + len(list((tmp_path / "trials").glob("*/summary.json"))) > num_trials
    with sqlite3.connect(tmp_path / "study.db") as database:
        values = [value for (value,) in database.execute("select value from trial_values")]
    assert len(values) == 6
    assert len(set(values)) > 3
    assert all(0 < value < 1 for value in values)


@needs("hydra_joblib_launcher")
def test_joblib_is_told_of_a_job_that_fails(start: Start, tmp_path: Path):
    words = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "algorithm.lr=0.1,-1"]
    ended = start(*QUICK, *words, f"hydra.sweep.dir={tmp_path}", settings=[], arguments="-m").wait()
    assert ended.status == 1, ended
    assert (tmp_path / "0" / "summary.json").is_file()
    assert "algorithm.lr=-1: expected a positive number" in ended.err


@needs("hydra_submitit_launcher")
def test_submitit_runs_every_job_and_is_told_of_failures(start: Start, tmp_path: Path):
    words = ["hydra/launcher=submitit_local", "hydra.launcher.timeout_min=2", "algorithm.lr=0.1,-1"]
    ended = start(*QUICK, *words, f"hydra.sweep.dir={tmp_path}", settings=[], arguments="-m").wait()
    assert ended.status != 0, ended
    assert (tmp_path / "0" / "summary.json").is_file()


@needs("hydra_submitit_launcher")
def test_two_tasks_of_submitit_are_two_processes_of_one_run(start: Start, tmp_path: Path):
    words = ["hydra/launcher=submitit_local", "hydra.launcher.timeout_min=2", "hydra.launcher.tasks_per_node=2"]
    ended = start(*QUICK, *words, "seed=0", f"hydra.sweep.dir={tmp_path}", settings=[], arguments="-m").wait()
    assert ended.status == 0, ended
    environment = (tmp_path / "0" / "environment.json").read_text()
    assert '"world_size": 2' in environment
    assert (tmp_path / "0" / "metrics.jsonl").read_text().count("\n") == 3
