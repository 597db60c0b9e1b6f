"""The end of a sweep: its tables and its picture, from run folders."""

import csv
import json
import math

import numpy as np
import pytest
import yaml
from PIL import Image

from simulator.figures.sweep import metric_by_setting
from simulator.sweeps import SweepFolder, summarize_sweep


def write(folder, *, lr, seed=0, threads=None, **numbers):
    folder.mkdir(parents=True)
    settings = {"num_steps": 5, "seed": seed, "num_threads": threads, "algorithm": {"lr": lr}}
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    if numbers:
        (folder / "summary.json").write_text(json.dumps({"step": 5, **numbers}))


def size_of(path):
    with Image.open(path) as image:
        return image.size


def rows_of(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_a_sweep_has_a_table_of_settings_one_of_runs_and_a_picture(tmp_path):
    values = {0: 0.5, 1: 0.75, 10: 0.25, 11: 0.5}
    for job, value in values.items():
        write(tmp_path / str(job), lr=0.1 if job < 10 else 0.2, seed=job % 10, **{"test/accuracy": value})
    write(tmp_path / "12", lr=0.4)  # has diverged
    text = summarize_sweep(tmp_path)
    assert [float(row["last/test/accuracy (%)"]) for row in rows_of(tmp_path / "sweep.csv")] == [62.5, 37.5]
    assert [row["algorithm.lr"] for row in rows_of(tmp_path / "sweep.csv")] == ["0.1", "0.2"]
    runs = rows_of(tmp_path / "runs.csv")
    assert [row["folder"].rpartition("/")[2] for row in runs] == ["0", "1", "10", "11", "12"]
    assert [row["test/accuracy"] for row in runs] == ["0.5", "0.75", "0.25", "0.5", ""]
    assert "| 0.1 | 62.5 ± 17.7 |" in text
    assert "1 of 5 runs have not finished and are left out" in text
    assert text.splitlines()[-1] == f"sweep.csv, runs.csv, sweep.png, sweep.pdf in {tmp_path}"
    assert size_of(tmp_path / "sweep.png")[0] > 500
    assert (tmp_path / "sweep.pdf").read_bytes()[:4] == b"%PDF"


def test_what_was_swept_on_purpose_is_shown_even_if_it_changes_no_result(tmp_path):
    for threads in (1, 2):
        write(tmp_path / str(threads), lr=0.1, threads=threads, **{"train/loss": 1.0, "time/wall_s": 1.0 * threads})
    summarize_sweep(tmp_path)
    assert [row["num_threads"] for row in rows_of(tmp_path / "sweep.csv")] == ["1", "2"]


def test_the_objective_comes_first(tmp_path):
    for lr in (0.1, 0.2):
        write(tmp_path / str(lr), lr=lr, **{"test/accuracy": 0.5, "comm/bytes": 1e6, "quadratic/score": lr})
    summarize_sweep(tmp_path, ["quadratic/score"])
    assert list(rows_of(tmp_path / "sweep.csv")[0])[:2] == ["algorithm.lr", "last/quadratic/score"]


@pytest.mark.parametrize("numbers", [[{"test/accuracy": 0.5}], [{"x/own": 1.0}, {"x/own": 2.0}], [{}, {}], []])
def test_one_run_or_no_metrics_write_nothing(tmp_path, numbers):
    for job, each in enumerate(numbers):
        write(tmp_path / str(job), lr=0.1 * job, **each)
    assert summarize_sweep(tmp_path) == ""
    assert not [path for path in tmp_path.iterdir() if path.is_file()]


def test_a_failure_is_a_warning(tmp_path, monkeypatch, capsys):
    import launch

    for lr in (0.1, 0.2):
        write(tmp_path / str(lr), lr=lr, **{"test/accuracy": 0.5})
    (tmp_path / "sweep.csv").mkdir()
    monkeypatch.setattr(SweepFolder, "folder", tmp_path)
    launch.end_sweep([])
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("hypergossip: warning: no table of the sweep: ")
    (tmp_path / "sweep.csv").rmdir()
    launch.end_sweep([])
    assert "sweep.csv, runs.csv" in capsys.readouterr().out


def test_pictures_of_numbers_of_names_and_of_random_trials(tmp_path):
    nan = math.nan
    grid = {"graph": ["ring", "ring", "star", "star"], "algorithm.lr": [0.001, 0.1, 0.001, 0.1]}
    names = {"graph": ["ring", "star", "torus"], "algorithm.x": [None, 1, None]}
    trials = {"algorithm.lr": [0.01, 0.2, 0.05, 0.3], "algorithm.momentum": [0.1, 0.9, 0.5, 0.4]}
    wide = {}
    for name, settings in (("grid", grid), ("names", names), ("trials", trials)):
        rows = len(next(iter(settings.values())))
        path = tmp_path / f"{name}.png"
        drawn = metric_by_setting(settings, np.arange(1.0, rows + 1), np.full(rows, nan), "best/x", path)
        assert drawn == path
        wide[name] = size_of(path)
    assert len(set(wide.values())) == 3
    one = np.array([1.0, nan])
    assert metric_by_setting({"graph": ["ring", "star"]}, one, one, "x", tmp_path / "none.png") is None
