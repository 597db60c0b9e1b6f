"""The table of graphs."""

import csv
import re

import numpy as np
import pytest

from scripts import topology
from simulator.graphs.erdos_renyi import ErdosRenyi


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
    for picture in ("table_decay.png", "table_learning_rates.png", "table_bounds.png"):
        assert (tmp_path / "out" / picture).stat().st_size > 5_000


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


def test_any_setting_of_a_graph_is_varied_and_seeds_are_summed_up(tmp_path, capsys):
    sweep = ["graph=erdos_renyi", "num_nodes=8", "graph.probability=0.5,0.9", "graph.redraw=false,true"]
    analysis = ["algorithm.num_lrs=3", "algorithm.max_rounds=400", "algorithm.gammas=[0]", "algorithm.rate_lrs=[]"]
    arguments = [*sweep, *analysis, "seed=range(0,3)", "--gamma", "0.9", "--output", str(tmp_path / "er")]
    assert topology.main([*arguments, "--spread"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].split()[:5] == ["graph", "nodes", "graph.probability", "graph.redraw", "draws"]
    assert [line.split()[2:5] for line in printed[1:5]] == [
        *(["0.5", "false", "3"], ["0.5", "true", "3"], ["0.9", "false", "3"], ["0.9", "true", "3"])
    ]
    with (tmp_path / "er.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 12
    assert [row["seed"] for row in rows[:3]] == ["0", "1", "2"]
    assert {(row["graph.probability"], row["graph.redraw"]) for row in rows} == {
        *(("0.5", "false"), ("0.5", "true"), ("0.9", "false"), ("0.9", "true"))
    }
    # The table has the mean and the standard deviation of what the CSV has.
    name = "graph/effective_num_neighbors@gamma=0.9"
    found = [float(row[name]) for row in rows if (row["graph.probability"], row["graph.redraw"]) == ("0.5", "false")]
    mean = sum(found) / 3
    deviation = (sum((value - mean) ** 2 for value in found) / 2) ** 0.5
    assert f"{mean:.4g} ± {deviation:.4g}" in printed[1]
    assert found == [pytest.approx(effective(seed), rel=1e-9) for seed in range(3)]
    for picture in ("er_setting.png", "er_rates.png"):
        assert (tmp_path / picture).stat().st_size > 5_000
    assert not (tmp_path / "er_decay.png").exists()  # twelve curves would need twelve colours


def effective(seed):
    """n_W(0.9) of the same draw, by the plain formula."""
    matrix = ErdosRenyi(num_nodes=8, probability=0.5, seed=seed).edges(0).to_matrix(8)
    squares = np.linalg.eigvalsh(matrix) ** 2
    return 1 / ((1 - 0.9) * np.mean(squares / (1 - 0.9 * squares)))


def test_rank_correlations_need_ten_graphs(capsys):
    arguments = ["graph=ring", "algorithm.num_lrs=3", "algorithm.gammas=[0]", "algorithm.rate_lrs=[]"]
    assert topology.main([*arguments, "num_nodes=range(3,12)"]) == 0
    assert "rank correlation" not in capsys.readouterr().out
    assert topology.main([*arguments, "num_nodes=range(3,13)"]) == 0
    printed = capsys.readouterr().out
    # On larger rings the nodes average more noise and the gap is smaller.
    assert re.search(r"rank correlation of the best rate with n_W, 10 graphs: (0\.9|1\.0)", printed)
    assert re.search(r"rank correlation of the best rate with spectral gap, 10 graphs: -(0\.9|1\.0)", printed)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("0.2,0.4", ["0.2", "0.4"]),
        ("[2,3],[3,2]", ["[2,3]", "[3,2]"]),
        ("{a:1,b:2}", ["{a:1,b:2}"]),
        ("range(1,4)", ["1", "2", "3"]),
        ("ring", ["ring"]),
    ],
)
def test_values_are_separated_by_commas_outside_brackets(text, values):
    assert topology.values_of(text) == values


def test_a_wrong_range_is_one_line(capsys):
    assert topology.main(["seed=range(1)"]) == 1
    assert capsys.readouterr().err == "topology: range(1): expected range(start,stop) with two integers\n"
