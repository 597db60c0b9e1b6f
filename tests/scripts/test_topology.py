"""The table of graphs."""

import csv

import pytest

from scripts import topology


def test_several_graphs_and_sizes_make_one_table(tmp_path, capsys):
    arguments = ["graph=ring,star", "num_nodes=4,8", "algorithm.gammas=[0]", "algorithm.num_lrs=10", "--gamma", "0.9"]
    assert topology.main([*arguments, "--output", str(tmp_path / "out" / "table")]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].split()[:2] == ["graph", "nodes"]
    assert [line.split()[:2] for line in printed[1:5]] == [["ring", "4"], ["ring", "8"], ["star", "4"], ["star", "8"]]
    with (tmp_path / "out" / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["graph"] for row in rows] == ["ring", "ring", "star", "star"]
    assert float(rows[3]["graph/spectral_gap"]) == pytest.approx(1 / 8)
    assert float(rows[0]["graph/effective_num_neighbors@gamma=0"]) == pytest.approx(3)
    assert float(rows[0]["graph/effective_num_neighbors@gamma=0.9"]) > 3
    assert rows[0]["graph/rounds_to_consensus"] == ""
    markdown = (tmp_path / "out" / "table.md").read_text().splitlines()
    assert len(markdown) == 6
    assert markdown[1].startswith("| --- | ---: |")


def test_settings_seeds_and_all_numbers(capsys):
    arguments = ["graph=erdos_renyi", "num_nodes=8", "seed=1,2", "graph.probability=0.4", "algorithm.num_lrs=5"]
    assert topology.main([*arguments, "--all"]) == 0
    printed = capsys.readouterr().out
    assert printed.splitlines()[0].split()[2] == "seed"
    assert printed.count("graph/mean_degree = ") == 2
    first, second = (line.split()[3] for line in printed.splitlines()[1:3])
    assert first != second


def test_reasons_are_printed_and_errors_are_one_line(capsys):
    assert topology.main(["graph=self_loop", "num_nodes=4", "algorithm.num_lrs=5"]) == 0
    assert "self_loop, 4 nodes: no diameter: some nodes never hear of some others" in capsys.readouterr().out
    for arguments, message in (
        (["graph=nowhere"], "nowhere"),
        (["ring"], "ring: expected key=value"),
        (["algorithm.zeta=0"], "algorithm.zeta=0: expected a number above 1"),
    ):
        assert topology.main(arguments) == 1
        error = capsys.readouterr().err
        assert message in error
        assert len(error.splitlines()) == 1
