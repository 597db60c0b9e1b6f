"""Comparing methods by cost: choice of the best setting, costs to a target, table and picture from run folders."""

import csv
import json

import pytest
import yaml

from scripts import compare, table
from simulator import tables


def write(folder, algorithm, lr, accuracies, *, seed=0, loss=None, megabytes=10.0, simulated_s=None):
    """A finished run whose evaluation k, k = 0, 1, ..., comes after ``megabytes`` k and 2 k seconds."""
    folder.mkdir(parents=True)
    target = f"simulator.algorithms.{algorithm}"
    settings = {"seed": seed, "num_steps": 10, "algorithm": {"_target_": target, "lr": lr}}
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    records = []
    for k, accuracy in enumerate(accuracies):
        record = {"step": 5 * k, "test/accuracy": accuracy, "comm/bytes": megabytes * 1e6 * k, "time/wall_s": 2.0 * k}
        if simulated_s is not None:
            record |= {"time/sim_s": simulated_s * k, "time/idle_share": 0.1}
        records.append({**record, "outer/loss": 1 - accuracy if loss is None else loss})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    best = max(range(1, len(records)), key=lambda k: accuracies[k])
    summary = {**records[-1], "best/step": 5 * best, "best/test/accuracy": accuracies[best]}
    (folder / "summary.json").write_text(json.dumps(summary))


@pytest.fixture
def runs(tmp_path):
    write(tmp_path / "a0", "choco.Choco", 0.1, [0.1, 0.5, 0.7], seed=0)
    write(tmp_path / "a1", "choco.Choco", 0.1, [0.1, 0.6, 0.6], seed=1)
    write(tmp_path / "b0", "choco.Choco", 0.2, [0.1, 0.2, 0.3], seed=0)
    write(tmp_path / "b1", "choco.Choco", 0.2, [0.1, 0.2, 0.3], seed=1)
    write(tmp_path / "c0", "choco.Choco", 0.3, [0.1, 0.9, 0.95], seed=0)  # its second seed has diverged
    write(tmp_path / "d0", "dsgd.DSGD", 0.1, [0.1, 0.65, 0.8], seed=0, megabytes=100.0)
    write(tmp_path / "d1", "dsgd.DSGD", 0.1, [0.1, 0.55, 0.8], seed=1, megabytes=100.0)
    return tmp_path


def read(folder):
    with (folder / "compare.csv").open() as file:
        return list(csv.DictReader(file))


def test_methods_at_their_best_setting(runs, capsys):
    output = runs / "out"
    arguments = [str(runs), "--grid", "algorithm.lr", "--targets", "0.5,0.6,0.75", "--output", str(output)]
    assert compare.main(arguments) == 0
    choco, dsgd = read(output)
    name = "algorithm._target_"
    assert (choco[name], dsgd[name]) == ("simulator.algorithms.choco.Choco", "simulator.algorithms.dsgd.DSGD")
    assert (choco["algorithm.lr"], choco["settings"], choco["seeds"]) == ("0.1", "3", "2")
    # Seed 0 reaches 0.6 at its third evaluation (20 MB, 4 s), seed 1 at its second (10 MB, 2 s).
    assert float(choco["MB to 50 %"]) == 10
    assert (float(choco["MB to 60 %"]), float(choco["s to 60 %"]), choco["MB to 75 %"]) == (15, 3, "")
    assert (float(dsgd["MB to 60 %"]), float(dsgd["MB to 75 %"])) == (150, 200)
    assert float(choco["steps to 60 %"]) == 7.5
    assert float(choco["best/test/accuracy (%)"]) == pytest.approx(65)
    assert float(choco["best/test/accuracy (%) std"]) == pytest.approx(100 * 0.5**0.5 * 0.1)
    assert (output / "compare.png").read_bytes()[:4] == b"\x89PNG"
    assert (output / "compare.pdf").read_bytes()[:4] == b"%PDF"
    assert "| 65.0 ± 7.1 |" in (output / "compare.md").read_text() == capsys.readouterr().out


def test_the_evaluation_that_counts_is_chosen_as_in_the_table(tmp_path, capsys):
    """One number for one thing: both scripts show the same mean for the same evaluation, beside the runs."""
    write(tmp_path / "a0", "choco.Choco", 0.1, [0.1, 0.9, 0.7], seed=0)
    write(tmp_path / "a1", "choco.Choco", 0.1, [0.1, 0.6, 0.8], seed=1)
    for at, mean in (("best", 85), ("last", 75)):
        assert compare.main([str(tmp_path), "--at", at]) == 0
        (row,) = read(tmp_path)
        assert float(row[f"{at}/test/accuracy (%)"]) == pytest.approx(mean)
        capsys.readouterr()
        assert table.main([str(tmp_path), "--at", at, "--metrics", "test/accuracy"]) == 0
        shown = f"{mean:.1f} ± {float(row[f'{at}/test/accuracy (%) std']):.1f}"
        assert capsys.readouterr().out.splitlines()[2] == f"| {shown} | 2 |"


def test_curves_have_bands_over_seeds(runs):
    (choco, _) = tables.best_settings(tables.finished_runs([runs]), ["algorithm.lr"], "test/accuracy", "last")
    curve = compare.mean_curve(choco, "test/accuracy", "MB")
    assert curve.spent == [10, 20]
    assert curve.values == pytest.approx([0.55, 0.65])
    assert (curve.low, curve.high) == ([0.5, 0.6], [0.6, 0.7])


def test_simulated_seconds_where_all_runs_have_clocks(tmp_path):
    write(tmp_path / "a", "choco.Choco", 0.1, [0.1, 0.5, 0.7], simulated_s=3.0)
    write(tmp_path / "b", "dsgd.DSGD", 0.1, [0.1, 0.6, 0.8], simulated_s=7.0)
    arguments = [str(tmp_path), "--targets", "0.6", "--output", str(tmp_path / "out")]
    assert compare.main(arguments) == 0
    choco, dsgd = read(tmp_path / "out")
    assert (float(choco["simulated s to 60 %"]), float(dsgd["simulated s to 60 %"])) == (6, 7)
    assert (float(choco["MB to 60 %"]), float(choco["s to 60 %"])) == (20, 4)
    write(tmp_path / "c", "beer.Beer", 0.1, [0.1, 0.5, 0.7])
    assert compare.main(arguments) == 0
    assert "simulated s to 60 %" not in read(tmp_path / "out")[0]


def test_costs_can_be_left_out(runs, capsys):
    arguments = [str(runs), "--grid", "algorithm.lr", "--targets", "0.6", "--output", str(runs / "out")]
    assert compare.main([*arguments, "--costs", "MB,steps"]) == 0
    (row, _) = read(runs / "out")
    assert [key for key in row if " to " in key] == ["MB to 60 %", "steps to 60 %"]
    assert compare.main([*arguments, "--costs", "MB,simulated s"]) == 1
    assert capsys.readouterr().err == "compare: --costs MB,simulated s: expected some of MB, s, steps\n"


def test_another_metric_chooses_and_losses_are_best_when_small(tmp_path):
    write(tmp_path / "a", "choco.Choco", 0.1, [0.1, 0.9], loss=2.0)
    write(tmp_path / "b", "choco.Choco", 0.2, [0.1, 0.4], loss=1.0)
    shared = ["--grid", "algorithm.lr", "--output", str(tmp_path / "out")]
    assert compare.main([str(tmp_path), *shared, "--choose-by", "outer/loss"]) == 0
    assert read(tmp_path / "out")[0]["algorithm.lr"] == "0.2"
    assert compare.main([str(tmp_path), *shared, "--metric", "outer/loss", "--targets", "1.5"]) == 0
    row = read(tmp_path / "out")[0]
    assert (float(row["MB to 1.5"]), float(row["best/outer/loss"])) == (0, 1)


def test_what_is_missing_is_one_line(tmp_path, capsys):
    assert compare.main([str(tmp_path), "--output", str(tmp_path / "out")]) == 1
    assert capsys.readouterr().err.startswith(f"compare: {tmp_path}: there is no run below it")
    write(tmp_path / "a", "choco.Choco", 0.1, [0.1, 0.9])
    assert compare.main([str(tmp_path), "--metric", "x", "--output", str(tmp_path / "out")]) == 1
    assert "no evaluation has x" in capsys.readouterr().err
