"""What stands in a page: the runs' own numbers, the matrices and label counts of their configurations, and its size."""

import json
import re
import sys

import numpy as np
import pytest
import torch
from folders import NODES, write_run, write_sweep
from plotly.offline import get_plotlyjs

from scripts import report as script
from simulator import config
from simulator.problems.base import Setting
from simulator.report import recomputed, write_report
from simulator.report.contents import contents
from simulator.report.curves import kept_evaluations
from simulator.results import load_runs
from simulator.sweeps import summarize_sweep


@pytest.fixture(scope="module")
def sweep(tmp_path_factory, composed):
    folder = tmp_path_factory.mktemp("sweep")
    return folder, write_sweep(folder, composed)


def data_of(path):
    text = path.read_text(encoding="utf-8")
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)[1])


def test_curves_and_the_last_numbers_are_those_of_the_files(sweep):
    folder, _ = sweep
    data = contents(folder, load_runs(folder))
    assert [run["name"] for run in data["runs"]] == [f"{g}_{s}" for g in ("random_directed", "ring") for s in range(3)]
    for run in data["runs"]:
        lines = [json.loads(line) for line in (folder / run["name"] / "metrics.jsonl").read_text().splitlines()]
        assert set(run["curves"]) == {name for line in lines for name in line}
        for name, column in run["curves"].items():
            expected = [line.get(name) for line in lines]
            assert [value is None for value in column] == [value is None for value in expected]
            assert column == [None if value is None else pytest.approx(value, rel=1e-6) for value in expected]
        summary = json.loads((folder / run["name"] / "summary.json").read_text())
        assert run["last"]["train/loss"] == pytest.approx(summary["train/loss"], rel=1e-6)
        assert run["best"]["step"] == 180
        assert run["best"]["test/accuracy"] == pytest.approx(lines[-2]["test/accuracy"], rel=1e-6)
        assert run["per_node"] == {"test/accuracy": pytest.approx(summary["test/accuracy_per_node"], rel=1e-5)}
    assert list(data["axes"]) == ["step", "comm/bytes", "time/sim_s", "time/wall_s", "oracle/gradients"]


def test_a_group_is_a_setting_and_its_runs_differ_by_their_seeds(sweep):
    folder, _ = sweep
    data = contents(folder, load_runs(folder))
    assert [group["label"] for group in data["groups"]] == ["random_directed", "ring"]
    assert [(run["group"], run["seed"]) for run in data["runs"]] == [(g, s) for g in (0, 1) for s in range(3)]
    assert data["differences"] == ["graph", "seed"]
    assert data["own"][0]["graph"] == "random_directed"
    assert data["own"][0]["graph.rate_low"] == load_runs(folder)[0].settings["graph.rate_low"]
    assert data["common"]["algorithm"] == "sgp"
    assert "graph" not in data["common"]


def test_matrices_and_label_counts_follow_from_the_configuration(sweep):
    folder, _ = sweep
    runs = load_runs(folder)
    data = contents(folder, runs)
    # The ring is the same for all seeds; random graphs and partitions are not.
    assert (len(data["schedules"]), len(data["partitions"])) == (4, 3)
    for run, described in zip(runs, data["runs"], strict=True):
        components = config.build(run.config)
        rounds = data["schedules"][described["schedule"]]["rounds"]
        assert len(rounds) == (components.graph.period or recomputed.MOST_ROUNDS)
        for step, entries in enumerate(rounds):
            matrix = np.zeros((NODES, NODES))
            matrix[entries["target"], entries["source"]] = entries["weight"]
            np.testing.assert_allclose(matrix, components.graph.edges(step).to_matrix(NODES), rtol=1e-3)
        settings = run.config
        components.problem.setup(
            Setting(
                nodes=range(NODES), num_nodes=NODES, seed=settings["seed"], dtype=torch.float32,
                device=torch.device("cpu"), dataset=components.dataset, partition=components.partition,
                build_model=components.build_model,
            )
        )  # fmt: skip
        counts = np.array(data["partitions"][described["partition"]])
        np.testing.assert_array_equal(counts, components.problem.facts().label_counts)
        np.testing.assert_array_equal(counts.sum(axis=1), components.problem.sample_counts())


def test_what_cannot_be_computed_anew_says_why(tmp_path, composed):
    write_run(tmp_path / "quadratic", composed("problem=random_quadratic", "num_nodes=4"))
    write_run(tmp_path / "absent", composed("dataset=mnist", f"data_root={tmp_path}/nowhere", "num_nodes=4"))
    broken = composed("num_nodes=4")
    broken["graph"] = {"_target_": "methods.of_mine.Graph", "num_nodes": 4, "seed": 0}
    write_run(tmp_path / "unknown", broken)
    absent, quadratic, unknown = contents(tmp_path, load_runs(tmp_path))["runs"]
    assert quadratic["partition"] == "RandomQuadratic has no samples with labels"
    assert isinstance(quadratic["schedule"], int)
    assert "mnist" in absent["partition"]
    assert not (tmp_path / "nowhere").exists()  # nothing is downloaded
    assert "methods" in unknown["schedule"]
    assert "\n" not in unknown["schedule"]


def test_graphs_that_depend_on_labels_get_them(tmp_path, composed):
    for seed in (0, 1):
        write_run(tmp_path / str(seed), composed("algorithm=dsgd", "graph=d_cliques", "num_nodes=12", f"seed={seed}"))
    runs = load_runs(tmp_path)
    data = contents(tmp_path, runs)
    assert [run["schedule"] for run in data["runs"]] == [0, 1]
    components = config.build(runs[1].config)
    components.graph.use_label_counts(np.array(data["partitions"][1]))
    expected = components.graph.edges(0)
    assert data["schedules"][1]["rounds"][0]["source"] == expected.source.tolist()


def test_states_of_runs(tmp_path, composed):
    settings = composed("num_nodes=4")
    write_run(tmp_path / "a", settings)
    write_run(tmp_path / "b", settings, finished=False)
    write_run(tmp_path / "c", settings, diverged=True)
    write_run(tmp_path / "d", settings, finished=False)
    (tmp_path / "d" / "metrics.jsonl").unlink()
    first, second, third, fourth = contents(tmp_path, load_runs(tmp_path))["runs"]
    assert [run["state"] for run in (first, second, third, fourth)] == [
        *("finished", "not finished", "diverged", "not finished")
    ]
    assert second["last"]["step"] == 200
    assert (second["best"], second["per_node"], fourth["curves"]) == ({}, {}, {})


def test_one_run_and_its_own_folder(tmp_path, composed):
    write_run(tmp_path / "first", composed("num_nodes=4"))
    data = data_of(write_report(tmp_path / "first"))
    assert [run["name"] for run in data["runs"]] == ["first"]
    assert data["groups"][0]["label"] == "sgp, random_directed"


def test_runs_are_named_from_the_deepest_folder_that_holds_all(tmp_path, composed):
    for method in ("a", "b"):
        write_run(tmp_path / "study" / "runs" / method / "0", composed("num_nodes=4"))
    data = contents(tmp_path, load_runs(tmp_path))
    assert [run["name"] for run in data["runs"]] == ["a/0", "b/0"]


def test_thinning_keeps_first_best_last_and_rare_evaluations(tmp_path, composed):
    write_run(tmp_path / "long", composed("num_nodes=4"), steps=10_000, every=10)
    runs = load_runs(tmp_path)
    records = runs[0].records
    (places,), every = kept_evaluations(runs, most_numbers=2000)
    assert sum(len(records[place]) for place in places) <= 2000
    kept = [records[place] for place in places]
    assert {0, 9_990, 10_000} <= {record["step"] for record in kept}
    assert [record for record in records if "hypergradient/error" in record] == [
        r for r in kept if "hypergradient/error" in r
    ]
    assert set(range(0, len(records), every)) <= set(places)
    assert kept_evaluations(runs) == ([list(range(len(records)))], 1)


@pytest.mark.slow
def test_fifty_runs_of_many_nodes_and_evaluations_stay_below_ten_megabytes(tmp_path, composed):
    """Random graphs of 100 nodes, all different; five hundred evaluations each. Every limit of the page is reached."""
    settings = composed("graph=random_directed", "num_nodes=100")
    for seed in range(50):
        folder = tmp_path / str(seed)
        graph = {**settings["graph"], "seed": seed}
        write_run(folder, {**settings, "seed": seed % 5, "graph": graph}, steps=500, every=1)
        summary = json.loads((folder / "summary.json").read_text())
        rng = np.random.default_rng(seed)
        summary |= {f"metric_{name}/x_per_node": rng.random(100).tolist() for name in range(20)}
        (folder / "summary.json").write_text(json.dumps(summary))
    path = write_report(tmp_path)
    assert path.stat().st_size < 10e6
    data = data_of(path)
    assert data["every"] > 1
    assert data["most_nodes"] < 100
    assert all(len(values) == data["most_nodes"] for run in data["runs"] for values in run["per_node"].values())
    runs = load_runs(tmp_path)
    values = runs[3].summary["test/accuracy_per_node"]
    shown = data["runs"][3]["per_node"]["test/accuracy"]
    assert (shown[0], shown[-1]) == (pytest.approx(min(values), rel=1e-5), pytest.approx(max(values), rel=1e-5))
    assert any("too large" in str(run["schedule"]) for run in data["runs"])


def test_text_of_runs_cannot_leave_its_place(tmp_path, composed):
    settings = composed("num_nodes=4")
    settings["algorithm"]["note"] = "</script><script>alert(1)</script>{{ title }}"
    write_run(tmp_path / "a", settings)
    write_run(tmp_path / "b", composed("num_nodes=4"))
    path = write_report(tmp_path)
    assert "alert(1)</script>" not in path.read_text()
    assert data_of(path)["own"][0]["algorithm.note"] == settings["algorithm"]["note"]


def test_the_page_asks_nothing_of_the_network(sweep):
    folder, _ = sweep
    text = write_report(folder).read_text()
    own = text.replace(get_plotlyjs(), "")
    assert len(own) < len(text) - 1e6
    assert re.findall(r"https?://[^\"' ]+", own) == ["http://www.w3.org/2000/svg"] * own.count(
        "http://www.w3.org/2000/svg"
    )


def test_command_and_its_errors(tmp_path, composed, capsys, monkeypatch):
    assert script.main([str(tmp_path / "nowhere")]) == 1
    assert capsys.readouterr().err == f"report: {(tmp_path / 'nowhere').resolve()}: there is no such folder\n"
    assert script.main([str(tmp_path)]) == 1
    assert "there is no run below it" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    write_run(tmp_path / "run", composed("num_nodes=4"))
    assert script.main([str(tmp_path / "run")]) == 0
    assert re.fullmatch(rf"{tmp_path}/run/report.html \(\d\.\d MB\)\n", capsys.readouterr().out)
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    assert script.main([str(tmp_path / "run")]) == 1
    expected = "report: the page needs the package plotly, of the extra report: uv pip install '.[report]'\n"
    assert capsys.readouterr().err == expected


def test_a_sweep_ends_with_the_page_where_it_is_asked_for(tmp_path, composed, monkeypatch):
    for seed in (0, 1):
        write_run(tmp_path / str(seed), composed("num_nodes=4", f"seed={seed}"))
    summarize_sweep(tmp_path)
    assert not (tmp_path / "report.html").exists()
    assert summarize_sweep(tmp_path, with_report=True).splitlines()[-1].endswith(f", report.html in {tmp_path}")
    assert (tmp_path / "report.html").is_file()
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    assert "no page of the sweep: the page needs the package plotly" in summarize_sweep(tmp_path, with_report=True)


def test_node_values_of_few_runs_are_all_there(sweep):
    folder, _ = sweep
    assert contents(folder, load_runs(folder))["most_nodes"] is None
