"""The table of run folders: grouping, choice, statistics and both formats."""

import csv
import json
import statistics
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from scripts import table

ROOT = Path(__file__).parents[2]


def write(folder, *, lr=0.1, seed=0, algorithm="fedavg.FedAvg", valid=0.5, test=0.5, low=0.2, **changes):
    folder.mkdir(parents=True)
    settings = {
        "seed": seed,
        "figures": False,
        "num_nodes": 4,
        "algorithm": {"_target_": f"simulator.algorithms.{algorithm}", "lr": lr},
        "graph": {"_target_": "simulator.graphs.hub.Hub", "seed": seed},
        "faults": {},
    }
    settings["algorithm"] |= changes.pop("algorithm_settings", {})
    settings |= changes
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    summary = {"step": 40, "time/wall_s": 2.0 + seed, "comm/bytes": 9e9, "valid/accuracy": 0.0, "test/accuracy": 0.0}
    best = {"step": 20, "valid/accuracy": valid, "test/accuracy": test, "test/accuracy_bottom_decile": low}
    best["test/accuracy_weighted"] = test + 0.1
    summary |= {f"best/{key}": value for key, value in {**best, "comm/bytes": 3e6}.items()}
    (folder / "summary.json").write_text(json.dumps(summary))


def rows_of(folder, grid=()):
    return table.make_rows(table.read_runs([folder]), grid)


def test_seeds_are_averaged(tmp_path):
    tests = [0.5, 0.7, 0.8]
    for seed, test in enumerate(tests):
        write(tmp_path / "deep" / "er" / str(seed), seed=seed, test=test, low=test / 2)
    (row,) = rows_of(tmp_path)
    assert row.num_seeds == 3
    assert row.numbers["Average (%)"] == pytest.approx((100 * sum(tests) / 3, 100 * statistics.stdev(tests)))
    assert row.numbers["Weighted (%)"][0] == pytest.approx(10 + 100 * sum(tests) / 3)
    assert row.numbers["Bottom 10 % (%)"][0] == pytest.approx(50 * sum(tests) / 3)
    assert row.numbers["MB"] == (3.0, 0.0)
    assert row.numbers["Steps"] == (20.0, 0.0)
    assert row.numbers["Time (s)"][0] == pytest.approx(3.0)


def test_the_grid_is_decided_by_validation_alone(tmp_path):
    for lr, valids, test in ((0.1, (0.6, 0.8), 0.5), (0.2, (0.9, 0.4), 0.9), (0.3, (0.65, 0.7), 0.95)):
        for seed, valid in enumerate(valids):
            write(tmp_path / f"{lr}_{seed}", lr=lr, seed=seed, valid=valid, test=test)
    (row,) = rows_of(tmp_path, ["algorithm.lr"])
    assert row.chosen == {"algorithm.lr": 0.1}
    assert row.numbers["Average (%)"] == (50.0, 0.0)
    assert len(rows_of(tmp_path)) == 3


def test_a_setting_in_which_a_run_is_missing_does_not_compete(tmp_path):
    for seed in (0, 1):
        write(tmp_path / f"good{seed}", seed=seed, valid=0.5)
    write(tmp_path / "lucky", lr=0.9, valid=0.99)
    (row,) = rows_of(tmp_path, ["algorithm.lr"])
    assert row.chosen == {"algorithm.lr": 0.1}
    assert row.num_seeds == 2


def test_rows_are_named_by_what_differs(tmp_path):
    write(tmp_path / "a", algorithm_settings={"adaptation_epochs": 0})
    write(tmp_path / "b", algorithm_settings={"adaptation_epochs": 1})
    write(tmp_path / "c", algorithm="fedem.FedEM")
    write(tmp_path / "d", graph={"_target_": "simulator.graphs.ring.Ring", "seed": 0})
    assert [row.label for row in rows_of(tmp_path)] == [
        "FedAvg, Hub, adaptation_epochs=0",
        "FedAvg, Hub, adaptation_epochs=1",
        "FedEM, Hub",
        "FedAvg, Ring",
    ]


def test_what_does_not_matter_does_not_divide(tmp_path):
    write(tmp_path / "a", seed=0, num_threads=1, launcher={"num_processes": 1})
    write(tmp_path / "b", seed=1, num_threads=2, launcher={"num_processes": 3})
    assert [row.num_seeds for row in rows_of(tmp_path)] == [2]
    write(tmp_path / "c", seed=1, num_threads=4)
    with pytest.raises(ValueError, match="several runs with one seed"):
        rows_of(tmp_path)


def test_unfinished_runs_are_left_out_and_none_at_all_is_an_error(tmp_path):
    write(tmp_path / "a")
    write(tmp_path / "b", lr=0.2)
    (tmp_path / "b" / "summary.json").unlink()
    assert len(table.read_runs([tmp_path, tmp_path / "a"])) == 1
    with pytest.raises(ValueError, match="no finished run"):
        table.read_runs([tmp_path / "b"])


def test_without_a_best_evaluation_the_last_counts(tmp_path):
    write(tmp_path / "a")
    summary = {"step": 7, "time/wall_s": 1.0, "comm/bytes": 5e6, "test/accuracy": 0.25}
    (tmp_path / "a" / "summary.json").write_text(json.dumps({**summary, "test/accuracy_bottom_decile": None}))
    (row,) = rows_of(tmp_path)
    assert row.numbers["Average (%)"][0] == 25.0
    assert row.numbers["Steps"][0] == 7.0
    assert row.numbers["Bottom 10 % (%)"][0] != row.numbers["Bottom 10 % (%)"][0]


def test_command_writes_markdown_and_csv(tmp_path):
    for lr, valid in ((0.1, 0.6), (0.2, 0.7)):
        for seed, test in enumerate((0.5, 0.6)):
            write(tmp_path / "runs" / f"{lr}_{seed}", lr=lr, seed=seed, valid=valid, test=test)
    command = [sys.executable, str(ROOT / "scripts" / "table.py"), str(tmp_path / "runs"), "--grid", "algorithm.lr"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    lines = done.stdout.splitlines()
    assert lines[0] == "|  | Average (%) | Weighted (%) | Bottom 10 % (%) | MB | Steps | Time (s) | Seeds | lr |"
    assert lines[2] == "| all runs | 55.0 ± 7.1 | 65.0 ± 7.1 | 20.0 ± 0.0 | 3.0 | 20 | 2.5 | 2 | 0.2 |"
    assert len(lines) == 3
    subprocess.run([*command, "--output", str(tmp_path / "table")], check=True, timeout=60)
    assert (tmp_path / "table.md").read_text() == done.stdout
    (entry,) = csv.DictReader((tmp_path / "table.csv").read_text().splitlines())
    assert float(entry["Average (%)"]) == pytest.approx(55.0)
    assert float(entry["Average (%) std"]) == pytest.approx(statistics.stdev([50, 60]))
    assert entry["algorithm.lr"] == "0.2"


def test_command_says_in_one_line_what_is_wrong(tmp_path, capsys):
    assert table.main([str(tmp_path)]) == 1
    assert capsys.readouterr().err == f"table: no finished run (summary.json and config.yaml) below {tmp_path}\n"
