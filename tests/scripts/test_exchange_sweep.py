"""Tables and figures of sweeps over data exchange, from run folders written by hand."""

import csv
import json
import sys

import pytest
import yaml

from scripts import exchange_sweep


def write(
    folder,
    *,
    digits=2,
    ratio=0.2,
    graph="ring",
    model="mlp",
    seed=0,
    accuracies=(0.5, 0.75),
    leakages=(0.1, 0.3),
    partition=None,
    faults=None,
    **further,
):
    folder.mkdir(parents=True)
    known = [value for value in accuracies if value is not None]
    if partition is None:
        partition = ("iid", {}) if digits is None else ("digit_shards", {"digits_per_node": digits})
    chosen = {
        "algorithm": ("data_exchange", {"share_ratio": ratio, "mixer": "uniform"}),
        "graph": (graph, {}),
        "model": model if isinstance(model, tuple) else (model, {}),
        "partition": partition,
        "faults": faults or ("none", {}),
    }
    settings = {
        "seed": seed,
        "num_steps": 10,
        "choices": {group: name for group, (name, _) in chosen.items()},
        **{group: {"_target_": f"x.{name}", **own} for group, (name, own) in chosen.items()},
        **further,
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    summary = {
        "step": 10,
        "test/accuracy": sum(known) / len(known) if known else None,
        "test/accuracy_per_node": list(accuracies),
        "privacy/leakage": list(leakages),
        "privacy/leakage_total": sum(leakages),
        "privacy/membership_accuracy": None,
        "comm/bytes": 5e6,
        "comm/bytes_exchange": 2e6,
    }
    (folder / "summary.json").write_text(json.dumps(summary))


@pytest.fixture
def sweep(tmp_path):
    write(tmp_path / "runs" / "a", ratio=0.2, seed=1, accuracies=(0.7, 0.9))
    write(tmp_path / "runs" / "b", ratio=0.2, seed=0)
    write(tmp_path / "runs" / "c", ratio=0.0, leakages=(0.0, 0.0))
    write(tmp_path / "runs" / "d", digits=None, accuracies=(0.9, 0.8, 0.7), leakages=(0.0, 0.1, 0.2))
    write(tmp_path / "runs" / "e", graph="star")
    return tmp_path


def test_a_row_per_run_and_a_point_per_share_ratio(sweep):
    output = sweep / "out" / "v1.table"
    assert exchange_sweep.main([str(sweep / "runs"), "--output", str(output)]) == 0
    with (sweep / "out" / "v1.table.csv").open() as file:
        header, *rows = csv.reader(file)
    assert header[:6] == [
        *("nn model", "share ratio", "number of original digits", "aggregation model", "iid", "training rounds")
    ]
    assert header[6:12] == [f"{what} node {node}" for what in ("acc", "leakage") for node in range(3)]
    assert rows[0][:6] == ["mlp", "0.0", "2", "uniform", "False", "10"]
    assert [(row[1], row[2], row[4], row[12], row[13]) for row in rows] == [
        ("0.0", "2", "False", "ring", "0"),
        ("0.2", "2", "False", "ring", "0"),
        ("0.2", "2", "False", "ring", "1"),
        ("0.2", "all", "True", "ring", "0"),
        ("0.2", "2", "False", "star", "0"),
    ]
    assert rows[1][6:12] == ["50.0", "75.0", "", "0.1", "0.3", ""]
    assert [float(cell) for cell in rows[3][14:18]] == pytest.approx([80.0, 0.3, 2.0, 5.0])
    outcomes = exchange_sweep.read_outcomes([sweep / "runs"])
    line = exchange_sweep.points(outcomes[:3], lambda o: o.leakage)
    assert [value for point in line for value in point] == pytest.approx([0.0, 0.0, 62.5, 0.2, 0.4, 71.25])
    for name in ("leakage", "bytes"):
        assert (sweep / "out" / f"v1.table_{name}.png").stat().st_size > 5000


def table_of(folder):
    assert exchange_sweep.main([str(folder / "runs"), "--output", str(folder / "table")]) == 0
    with (folder / "table.csv").open() as file:
        return list(csv.DictReader(file))


def test_nodes_without_test_samples_have_empty_cells(tmp_path, capsys):
    write(tmp_path / "runs" / "a", accuracies=(None, 0.75))
    (row,) = table_of(tmp_path)
    assert [row[name] for name in ("acc node 0", "acc node 1", "acc mean")] == ["", "75.0", "75.0"]
    assert (tmp_path / "table_leakage.png").is_file()
    write(tmp_path / "none" / "runs" / "a", accuracies=(None, None))
    (row,) = table_of(tmp_path / "none")
    assert [row[name] for name in ("acc node 0", "acc mean", "leakage node 0")] == ["", "", "0.1"]
    assert not list((tmp_path / "none").glob("*.png"))
    assert "no run has test samples" in capsys.readouterr().err


def test_a_run_that_tests_nothing_says_nothing_of_accuracy(tmp_path):
    write(tmp_path / "runs" / "a")
    path = tmp_path / "runs" / "a" / "summary.json"
    summary = {key: value for key, value in json.loads(path.read_text()).items() if not key.startswith("test/")}
    path.write_text(json.dumps(summary))
    (row,) = table_of(tmp_path)
    assert [row[name] for name in ("acc node 0", "acc node 1", "acc mean")] == ["", "", ""]


def test_only_seeds_are_averaged(tmp_path):
    """Runs with other settings of any kind are neither in one panel nor alike in the table."""
    for seed in (0, 1):
        loss = ("message_loss", {"probability": 0.5, "seed": seed})
        for name, changes in {
            "2": {"num_steps": 2},
            "10": {"num_steps": 10},
            "faults": {"num_steps": 2, "faults": loss},
            "sharp": {"num_steps": 2, "partition": ("dirichlet", {"alpha": 0.1, "seed": seed})},
            "flat": {"num_steps": 2, "partition": ("dirichlet", {"alpha": 10.0, "seed": seed})},
        }.items():
            write(tmp_path / "runs" / f"{name}{seed}", seed=seed, eval_every=len(name), **changes)
    outcomes = exchange_sweep.read_outcomes([tmp_path / "runs"])
    panels = list(dict.fromkeys(outcome.panel for outcome in outcomes))
    first = "ring, uniform, mlp\n"
    assert sorted(panels) == sorted(
        [
            f"{first}none, digit_shards, num_steps=2",
            f"{first}none, digit_shards, num_steps=10",
            f"{first}message_loss, digit_shards, num_steps=2",
            f"{first}none, dirichlet, num_steps=2, alpha=0.1",
            f"{first}none, dirichlet, num_steps=2, alpha=10.0",
        ]
    )
    assert all([o.seed for o in outcomes if o.panel == panel] == [0, 1] for panel in panels)
    rows = table_of(tmp_path)
    assert list(rows[0])[-5:] == ["membership accuracy", "faults", "partition", "num_steps", "partition.alpha"]
    assert [list(row.values())[-4:] for row in rows[::2]] == [
        ["message_loss", "digit_shards", "2", ""],
        ["none", "digit_shards", "2", ""],
        ["none", "digit_shards", "10", ""],
        ["none", "dirichlet", "2", "0.1"],
        ["none", "dirichlet", "2", "10.0"],
    ]


def test_settings_that_come_with_another_class_do_not_tell(tmp_path):
    write(tmp_path / "runs" / "a", model=("mlp", {"hidden": [8]}), num_nodes=2)
    write(tmp_path / "runs" / "b", model=("lenet", {"num_kernels": 8}), num_nodes=2)
    assert list(table_of(tmp_path)[0])[-1] == "membership accuracy"
    write(tmp_path / "runs" / "c", model=("mlp", {"hidden": [16]}), num_nodes=2)
    assert [row["model.hidden"] for row in table_of(tmp_path)] == ["", "[16]", "[8]"]


def test_digits_are_sorted_as_numbers(tmp_path):
    for digits in (10, 2, 4):
        write(tmp_path / "runs" / str(digits), digits=digits)
    assert [row["number of original digits"] for row in table_of(tmp_path)] == ["2", "4", "10"]


def test_a_workbook_has_the_same_cells(sweep):
    openpyxl = pytest.importorskip("openpyxl")
    assert exchange_sweep.main([str(sweep / "runs"), "--output", str(sweep / "table"), "--xlsx"]) == 0
    sheet = openpyxl.load_workbook(sweep / "table.xlsx").active
    assert [cell.value for cell in sheet[1]] == exchange_sweep.header(3, ["partition"])
    assert [cell.value for cell in sheet[3]][:9] == ["mlp", 0.2, 2, "uniform", False, 10, 50, 75, None]


def test_errors_are_one_line(sweep, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    assert exchange_sweep.main([str(sweep / "runs"), "--output", str(sweep / "table"), "--xlsx"]) == 1
    assert capsys.readouterr().err.startswith("exchange_sweep: --xlsx needs the package openpyxl")
    assert exchange_sweep.main([str(sweep / "nowhere")]) == 1
    assert "there is no such folder" in capsys.readouterr().err
