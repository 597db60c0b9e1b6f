"""Error against bytes from run folders."""

import csv
import json

import yaml

from scripts import tradeoff
from simulator import tables


def write(folder, *, num_pushes, depth, seed, error, total_bytes, base_probability=1.0, graph_name="random"):
    folder.mkdir(parents=True)
    algorithm = {
        "_target_": "simulator.algorithms.hypergradient.hgp.HGP",
        "num_pushes": num_pushes,
        "depth": depth,
        "step_size": 0.3,
    }
    graph = {"_target_": "simulator.graphs.random_directed.RandomDirected", "base_probability": base_probability}
    settings = {"seed": seed, "num_steps": 1, "num_nodes": 4, "algorithm": algorithm, "graph": {**graph, "seed": seed}}
    settings["choices"] = {"graph": graph_name}
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    summary = {"outer_step": 1, "comm/bytes_hypergradient": total_bytes}
    if error is not None:
        summary["hypergradient/error"] = error
    (folder / "summary.json").write_text(json.dumps(summary))


def test_points_are_medians_over_seeds_at_the_bytes_of_one_hypergradient(tmp_path):
    for seed, error in enumerate((0.4, 0.1, 0.2)):
        write(tmp_path / f"a{seed}", num_pushes=2, depth=10, seed=seed, error=error, total_bytes=4e6)
        write(tmp_path / f"b{seed}", num_pushes=2, depth=20, seed=seed, error=error / 2, total_bytes=8e6)
        write(tmp_path / f"c{seed}", num_pushes=1, depth=20, seed=seed, error=1.0, total_bytes=4e6)
    write(tmp_path / "unmeasured", num_pushes=1, depth=30, seed=0, error=None, total_bytes=1e6)
    assert tradeoff.main([str(tmp_path), "--output", str(tmp_path / "out" / "figure")]) == 0
    with (tmp_path / "out" / "figure.csv").open() as file:
        rows = list(csv.DictReader(file))
    found = [
        (int(r["num_pushes"]), int(r["depth"]), float(r["megabytes"]), float(r["last/error_median"])) for r in rows
    ]
    assert found == [(1, 20, 2.0, 1.0), (2, 10, 2.0, 0.2), (2, 20, 4.0, 0.1)]
    assert [(r["last/error_min"], r["last/error_max"], r["seeds"]) for r in rows][1] == ("0.1", "0.4", "3")
    assert [r["line"] for r in rows] == ["S = 1", "S = 2", "S = 2"]
    assert (tmp_path / "out" / "figure.png").stat().st_size > 5000


def test_a_panel_for_every_value_of_a_setting(tmp_path):
    for probability in (0.3, 1.0):
        for depth in (1, 2):
            folder = tmp_path / f"{probability}_{depth}"
            write(folder, num_pushes=1, depth=depth, seed=0, error=0.5, total_bytes=depth, base_probability=probability)
    points = tradeoff.read_points(tables.finished_runs([tmp_path]), "graph.base_probability", "last")
    assert list(points["panel"]) == ["base_probability 0.3"] * 2 + ["base_probability 1.0"] * 2
    assert list(points["line"]) == ["S = 1"] * 4


def test_every_configuration_has_a_line_and_files_are_beside_the_runs(tmp_path, monkeypatch):
    for graph in ("random", "ring"):
        for depth in (1, 2):
            folder = tmp_path / "runs" / f"{graph}_{depth}"
            write(folder, num_pushes=1, depth=depth, seed=0, error=0.5, total_bytes=depth, graph_name=graph)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert tradeoff.main([str(tmp_path / "runs")]) == 0
    assert not list((tmp_path / "elsewhere").iterdir())
    with (tmp_path / "runs" / "tradeoff.csv").open() as file:
        assert [row["line"] for row in csv.DictReader(file)] == ["S = 1, random"] * 2 + ["S = 1, ring"] * 2
    assert (tmp_path / "runs" / "tradeoff.pdf").read_bytes()[:4] == b"%PDF"


def test_folders_without_a_measured_error_are_one_line(tmp_path, capsys):
    write(tmp_path / "a", num_pushes=1, depth=1, seed=0, error=None, total_bytes=1)
    assert tradeoff.main([str(tmp_path)]) == 1
    assert "algorithm.reference=iterative" in capsys.readouterr().err
    assert tradeoff.main([str(tmp_path / "nowhere")]) == 1
    assert capsys.readouterr().err == f"tradeoff: {tmp_path / 'nowhere'}: there is no such folder\n"
