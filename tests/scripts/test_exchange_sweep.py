"""Tables and figures of sweeps over data exchange, from run folders written by hand."""

import csv
import json
import sys

import pytest
import yaml

from scripts import exchange_sweep


def write(folder, *, digits=2, ratio=0.2, graph="ring.Ring", seed=0, accuracies=(0.5, 0.75), leakages=(0.1, 0.3)):
    folder.mkdir(parents=True)
    partition = {"_target_": "simulator.data.partitions.digit_shards.DigitShards", "digits_per_node": digits}
    if digits is None:
        partition = {"_target_": "simulator.data.partitions.iid.Iid"}
    settings = {
        "seed": seed,
        "algorithm": {"_target_": "x.DataExchange", "share_ratio": ratio, "mixer": "uniform"},
        "graph": {"_target_": f"simulator.graphs.{graph}"},
        "model": {"_target_": "simulator.models.mlp.MLP"},
        "partition": partition,
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    summary = {
        "step": 10,
        "test/accuracy": sum(accuracies) / len(accuracies),
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
    write(tmp_path / "runs" / "e", graph="star.Star")
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
    assert rows[0][:6] == ["MLP", "0.0", "2", "uniform", "False", "10"]
    assert [(row[1], row[2], row[4], row[12], row[13]) for row in rows] == [
        ("0.0", "2", "False", "Ring", "0"),
        ("0.2", "2", "False", "Ring", "0"),
        ("0.2", "2", "False", "Ring", "1"),
        ("0.2", "all", "True", "Ring", "0"),
        ("0.2", "2", "False", "Star", "0"),
    ]
    assert rows[1][6:12] == ["50.0", "75.0", "", "0.1", "0.3", ""]
    assert [float(cell) for cell in rows[3][14:18]] == pytest.approx([80.0, 0.3, 2.0, 5.0])
    outcomes = exchange_sweep.read_outcomes([sweep / "runs"])
    line = exchange_sweep.points(outcomes[:3], lambda o: o.leakage)
    assert [value for point in line for value in point] == pytest.approx([0.0, 0.0, 62.5, 0.2, 0.4, 71.25])
    for name in ("leakage", "bytes"):
        assert (sweep / "out" / f"v1.table_{name}.png").stat().st_size > 5000


def test_a_workbook_has_the_same_cells(sweep):
    openpyxl = pytest.importorskip("openpyxl")
    assert exchange_sweep.main([str(sweep / "runs"), "--output", str(sweep / "table"), "--xlsx"]) == 0
    sheet = openpyxl.load_workbook(sweep / "table.xlsx").active
    assert [cell.value for cell in sheet[1]] == exchange_sweep.header(3)
    assert [cell.value for cell in sheet[3]][:9] == ["MLP", 0.2, 2, "uniform", False, 10, 50, 75, None]


def test_errors_are_one_line(sweep, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    assert exchange_sweep.main([str(sweep / "runs"), "--output", str(sweep / "table"), "--xlsx"]) == 1
    assert capsys.readouterr().err.startswith("exchange_sweep: --xlsx needs the package openpyxl")
    assert exchange_sweep.main([str(sweep / "nowhere")]) == 1
    assert "no finished run" in capsys.readouterr().err
