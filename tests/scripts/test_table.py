"""The table of run folders: grouping, choice, the evaluation that counts, statistics and both formats."""

import csv
import json
import statistics

import pytest
import yaml

from scripts import table
from simulator import tables


def write(folder, *, lr=0.1, seed=0, algorithm="fedavg", graph="hub", valid=0.5, test=0.5, low=0.2, **changes):
    """A finished run whose best evaluation is at step 20 of 40; everything is 0.9 times as good at its end."""
    folder.mkdir(parents=True)
    settings = {
        "seed": seed,
        "num_steps": 40,
        "num_nodes": 4,
        "algorithm": {"_target_": f"simulator.algorithms.{algorithm}", "lr": lr, **changes.pop("settings", {})},
        "graph": {"_target_": f"simulator.graphs.{graph}", "num_nodes": changes.get("num_nodes", 4), "seed": seed},
        "choices": {"algorithm": algorithm, "graph": graph, "launcher": "local"},
        **changes,
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    best = {"valid/accuracy": valid, "test/accuracy": test, "test/accuracy_bottom_decile": low, "comm/bytes": 3e6}
    best["test/accuracy_weighted"] = test + 0.1
    last = {name: 0.9 * value for name, value in best.items()} | {"step": 40, "comm/bytes": 6e6, "time/wall_s": 4.0}
    record = {**best, "step": 20, "time/wall_s": 2.0 + seed}
    (folder / "metrics.jsonl").write_text(json.dumps(record) + "\n" + json.dumps(last) + "\n")
    summary = last | {f"best/{name}": value for name, value in best.items()} | {"best/step": 20}
    (folder / "summary.json").write_text(json.dumps(summary))


def frame_of(folder, grid=(), at=None):
    runs = tables.finished_runs([folder])
    at = tables.which_evaluation(runs, at)
    return tables.table(tables.best_settings(runs, grid, "valid/accuracy", at), at)


def test_seeds_are_averaged_at_the_evaluation_that_the_columns_name(tmp_path):
    tests = [0.5, 0.7, 0.8]
    for seed, test in enumerate(tests):
        write(tmp_path / "deep" / "er" / str(seed), seed=seed, test=test)
    (best,) = frame_of(tmp_path).to_dict("records")
    assert best["seeds"] == 3
    assert best["best/test/accuracy (%)"] == pytest.approx(100 * statistics.fmean(tests))
    assert best["best/test/accuracy (%) std"] == pytest.approx(100 * statistics.stdev(tests))
    assert best["best/test/accuracy_weighted (%)"] == pytest.approx(10 + 100 * statistics.fmean(tests))
    assert (best["best/comm/bytes (MB)"], best["best/step"], best["best/time/wall_s (s)"]) == (3.0, 20.0, 3.0)
    (last,) = frame_of(tmp_path, at="last").to_dict("records")
    assert last["last/test/accuracy (%)"] == pytest.approx(90 * statistics.fmean(tests))
    assert (last["last/comm/bytes (MB)"], last["last/step"]) == (6.0, 40.0)
    assert not [name for name in last if name.startswith("best/")]


def test_the_grid_is_decided_by_validation_alone(tmp_path):
    for lr, valids, test in ((0.1, (0.6, 0.8), 0.5), (0.2, (0.9, 0.4), 0.9), (0.3, (0.65, 0.7), 0.95)):
        for seed, valid in enumerate(valids):
            write(tmp_path / f"{lr}_{seed}", lr=lr, seed=seed, valid=valid, test=test)
    (row,) = frame_of(tmp_path, ["algorithm.lr"]).to_dict("records")
    assert (row["algorithm.lr"], row["best/test/accuracy (%)"]) == (0.1, 50.0)
    assert list(frame_of(tmp_path)["algorithm.lr"]) == [0.1, 0.2, 0.3]
    with pytest.raises(ValueError, match=r"--grid algorithm.l: no run has this setting; similar: algorithm.lr"):
        frame_of(tmp_path, ["algorithm.l"])


def test_a_setting_in_which_a_seed_is_missing_does_not_compete(tmp_path):
    for name, seed in (("good0", 0), ("good1", 1), ("again1", 1)):
        write(tmp_path / name, seed=seed, valid=0.5)
    for name in ("a", "b", "c"):  # three runs, but one seed
        write(tmp_path / name, lr=0.9, valid=0.99)
    (row,) = frame_of(tmp_path, ["algorithm.lr"]).to_dict("records")
    assert (row["algorithm.lr"], row["seeds"]) == (0.1, 2)


def test_rows_are_what_differs_once(tmp_path):
    write(tmp_path / "a", settings={"epochs": 0})
    write(tmp_path / "b", settings={"epochs": 1})
    write(tmp_path / "c", algorithm="fedem", lr=0.7, num_nodes=4)
    write(tmp_path / "d", graph="ring", settings={"epochs": 0})
    frame = frame_of(tmp_path)
    # The learning rate follows from the algorithm, and neither num_nodes nor the launcher tells rows apart.
    assert list(frame.columns)[:4] == ["algorithm", "graph", "algorithm.epochs", "best/test/accuracy (%)"]
    labels = [group.label for group in tables.by_setting(tables.finished_runs([tmp_path]))]
    assert labels == ["fedavg, hub, epochs=0", "fedavg, hub, epochs=1", "fedem, hub", "fedavg, ring, epochs=0"]


def test_the_number_of_nodes_is_one_column(tmp_path):
    write(tmp_path / "a", num_nodes=4)
    write(tmp_path / "b", num_nodes=8)
    frame = frame_of(tmp_path)
    assert [name for name in frame.columns if "num_nodes" in name] == ["num_nodes"]
    assert list(frame["num_nodes"]) == [4, 8]


def test_a_repeated_seed_counts_as_a_repetition_and_is_told(tmp_path, capsys):
    write(tmp_path / "a", seed=1, test=0.4, num_threads=1)
    write(tmp_path / "b", seed=1, test=0.6, num_threads=2)
    assert table.main([str(tmp_path)]) == 0
    printed = capsys.readouterr()
    expected = "1 setting(s) have several runs with one seed, which all count: that of"
    assert printed.err == f"table: {expected} {tmp_path / 'a'}\n"
    assert "| 50.0 ± 14.1 |" in printed.out


def test_unfinished_runs_are_left_out_and_none_at_all_is_one_line(tmp_path, capsys):
    write(tmp_path / "a")
    write(tmp_path / "b", lr=0.2)
    (tmp_path / "b" / "summary.json").unlink()
    assert len(tables.finished_runs([tmp_path, tmp_path / "a"])) == 1
    assert table.main([str(tmp_path / "b")]) == 1
    message = f"table: no finished run (one with a summary.json) below {tmp_path / 'b'}\n"
    assert capsys.readouterr().err == message


def test_without_a_best_evaluation_the_last_counts_and_missing_numbers_are_empty(tmp_path, capsys):
    write(tmp_path / "a")
    write(tmp_path / "b", lr=0.2)
    summary = {"step": 7, "time/wall_s": 1.0, "comm/bytes": 5e6, "test/accuracy": 0.25}
    (tmp_path / "b" / "summary.json").write_text(json.dumps({**summary, "test/accuracy_bottom_decile": None}))
    assert table.main([str(tmp_path), "--metrics", "test/accuracy,test/accuracy_bottom_decile"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "| algorithm.lr | last/test/accuracy (%) | last/test/accuracy_bottom_decile (%) | seeds |"
    assert lines[2:] == ["| 0.1 | 45.0 | 18.0 | 1 |", "| 0.2 | 25.0 |  | 1 |"]
    assert table.main([str(tmp_path), "--at", "best", "--metrics", "test/accuracy"]) == 0
    assert capsys.readouterr().out.splitlines()[2:] == ["| 0.1 | 50.0 | 1 |", "| 0.2 |  | 1 |"]


def test_losses_are_shown_where_there_is_no_accuracy_and_the_smallest_is_best(tmp_path):
    for lr, value in ((0.1, 2.0), (0.2, 1.0)):
        write(tmp_path / str(lr), lr=lr)
        (tmp_path / str(lr) / "summary.json").write_text(json.dumps({"step": 3, "train/loss": value}))
    runs = tables.finished_runs([tmp_path])
    (row,) = tables.table(tables.best_settings(runs, ["algorithm.lr"], "train/loss", "last"), "last").to_dict("records")
    assert {name: row[name] for name in ("last/train/loss", "algorithm.lr")} == {
        "last/train/loss": 1.0,
        "algorithm.lr": 0.2,
    }
    with pytest.raises(ValueError, match="no last/valid/accuracy; choose by another metric"):
        tables.best_settings(runs, ["algorithm.lr"], "valid/accuracy", "last")


def test_command_writes_markdown_and_csv(tmp_path, capsys):
    for lr, valid in ((0.1, 0.6), (0.2, 0.7)):
        for seed, test in enumerate((0.5, 0.6)):
            write(tmp_path / "runs" / f"{lr}_{seed}", lr=lr, seed=seed, valid=valid, test=test)
    arguments = [str(tmp_path / "runs"), "--grid", "algorithm.lr", "--metrics", "test/accuracy,comm/bytes"]
    assert table.main(arguments) == 0
    printed = capsys.readouterr().out
    assert printed.splitlines()[0] == "| best/test/accuracy (%) | best/comm/bytes (MB) | seeds | algorithm.lr |"
    assert printed.splitlines()[2:] == ["| 55.0 ± 7.1 | 3 | 2 | 0.2 |"]
    assert table.main([*arguments, "--output", str(tmp_path / "new" / "table")]) == 0
    assert (tmp_path / "new" / "table.md").read_text() == printed
    (entry,) = csv.DictReader((tmp_path / "new" / "table.csv").read_text().splitlines())
    assert float(entry["best/test/accuracy (%)"]) == pytest.approx(55.0)
    assert float(entry["best/test/accuracy (%) std"]) == pytest.approx(statistics.stdev([50, 60]))
    assert entry["algorithm.lr"] == "0.2"
