"""The parts of a study: its file, the choice of trials, statistics and tables."""

from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from scipy.stats import t, ttest_rel

from simulator.averages import mean, spread
from simulator.results import Run
from simulator.studies import runs
from simulator.studies.comparison import Cell, best_trial, holm, judge, paired_p_value
from simulator.studies.plan import read_study
from simulator.studies.report import remarks, spent_of
from simulator.studies.runs import Result
from simulator.studies.tables import make_tables, to_frame, to_latex, to_markdown

TINY = Path(__file__).parent / "tiny.yaml"
SHIPPED = sorted((Path(__file__).parents[2] / "conf" / "study").glob("*.yaml"))


@pytest.fixture(scope="module")
def study():
    return read_study(TINY)


def result(spec, metric, value, state="finished", **summary):
    run = Run(Path("run"), {}, {"step": 1, metric: value, **summary}, []) if state == "finished" else None
    return Result(spec, state, "" if run else "it broke", 1.0, run, "last")


def state_of(value):
    return "failed" if value is None else "finished"


def cell_of(study, method, graph, values, trials=(3.0, 1.0, 2.0)):
    """A cell with these trials and, by seed, these values; None for what is lost."""
    case = next(case for case in study.cases if case.graph == graph)
    method = next(each for each in study.methods if each.name == method)
    tried = [
        result(spec, case.metric, value, state_of(value))
        for spec, value in zip(study.trials_of(case, method), trials, strict=True)
    ]
    best = best_trial(tried, case.select)
    finals = [
        result(study.spec(case, method, best.spec.point, seed), case.metric, value, state_of(value))
        for seed, value in enumerate(values)
    ]
    return Cell(case, method, tried, best, finals)


def test_the_tiny_study_is_read(study):
    assert [case.words for case in study.cases] == [("quadratic", graph, "10 calls") for graph in ("ring", "directed")]
    assert [(case.graph, method.name) for case, method in study.pairs] == [
        ("ring", "D-SGD"), ("ring", "SGP"), ("ring", "tracking"), ("directed", "D-SGD"), ("directed", "SGP"),
    ]  # fmt: skip
    assert study.num_runs == 5 * (3 + 2)
    spec = study.trials_of(study.cases[0], study.methods[0])[1]
    assert spec.overrides[-4:] == ("budget.oracle_calls=10", "algorithm=dsgd", "algorithm.lr=0.1", "seed=7")
    assert spec.folder == Path("quadratic", "ring", "10_calls", "D-SGD", "lr=0.1,seed=7")


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_studies_give_every_method_the_same_trials(path):
    study = read_study(path)
    assert {each.stem for each in SHIPPED} == {"bilevel", "hyper_representation", "single_level"}
    for case, method in study.pairs:
        folders = {spec.folder for spec in study.trials_of(case, method)}
        assert len(folders) == study.trials


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"trials": 4}, r"methods\.D-SGD: its grid has 3 points on quadratic, and every method gets trials=4"),
        ({"seeds": [7, 8]}, r"tuning_seed=7: must be none of seeds=\[7, 8\]"),
        ({"seeds": [1, 1]}, r"seeds=\[1, 1\]: expected different integers"),
        ({"at": "first"}, r"at='first': expected last or best"),
        ({"spread": "range"}, r"spread='range': expected std or ci95"),
        ({"budget": []}, r"budget: there is no such key; a study has: .*budgets"),
        ({"methods": {}}, r"methods: expected a mapping with at least one entry"),
        ({"budgets": ["budget.bytes=1"]}, r"budgets: expected a mapping with at least one entry"),
        ({"budgets": {"few": {"digits": []}}}, r"budgets\.few: digits is none of quadratic"),
        ({"methods": {"A": {"graphs": None}}}, r"methods\.A\.graphs: expected one or more of directed, ring"),
        ({"methods": {"A": {"graphs": ["star"]}}}, r"methods\.A\.graphs: star is none of directed, ring"),
        ({"seeds": 3}, r"seeds=3: expected a list of different integers"),
        ({"seeds": [[1]]}, r"seeds=\[\[1\]\]: expected different integers"),
        ({"trials": True}, r"trials=True: expected an integer"),
        ({"significance": "low"}, r"significance=low: must be between 0 and 1"),
        ({"problems": {"quadratic": {"metric": 3}}}, r"problems\.quadratic: .*metric=3: expected names of metrics"),
        ({"graphs": {"ring": "graph=ring"}}, r"graphs\.ring: expected a list of overrides"),
    ],
)
def test_bad_files_are_named(change, message, tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(TINY.read_text()) | change))
    with pytest.raises(ValueError, match=message):
        read_study(path)


def test_numbers_are_those_of_overrides_and_names_are_text(tmp_path):
    path = tmp_path / "study.yaml"
    methods = "{16: {grid: {algorithm.lr: [1e-3, 1e-2, 1]}, graphs: [8]}}"
    sections = {"graphs": {8: ["graph=ring"]}, "budgets": {"few": {"quadratic": ["budget.bytes=1e3"]}}}
    content = {key: value for key, value in yaml.safe_load(TINY.read_text()).items() if key != "methods"} | sections
    path.write_text(f"{yaml.safe_dump(content)}methods: {methods}\n")
    study = read_study(path, ["data_root=/data"])
    (case,), (method,) = study.cases, study.methods
    assert [dict(spec.point)["algorithm.lr"] for spec in study.trials_of(case, method)] == [0.001, 0.01, 1]
    assert (case.graph, method.name, len(study.pairs)) == ("8", "16", 1)
    with pytest.raises(ValueError, match="overrides: expected a list of overrides"):
        read_study(path, ["fast"])


@pytest.mark.parametrize(
    ("common", "budget", "spent"),
    [
        ([], "budget.bytes=1e3", "comm/bytes"),
        ([], "num_steps=3", "comm/bytes"),
        (["budget.oracle_calls=10"], "num_steps=3", "oracle/gradients"),
        (["max_sim_s=5"], "num_steps=3", "time/sim_s"),
        (["budget.oracle_calls=10"], "budget.bytes=1e3", "comm/bytes"),
        (["max_sim_s=5", "budget.oracle_calls=10"], "budget.oracle_calls=null", "time/sim_s"),
    ],
)
def test_pictures_show_what_a_budget_limits_wherever_it_is_set(study, common, budget, spent):
    case = replace(study.cases[0], overrides=("problem=quadratic", budget))
    assert spent_of(replace(study, common=tuple(common)), case) == spent


def test_runs_are_repeated_for_what_changes_their_results_alone(tmp_path, monkeypatch):
    performed = []
    monkeypatch.setattr(runs, "run", lambda *overrides, **settings: performed.append((overrides, settings)))

    def spec(*words):
        study = read_study(TINY, words)
        return study.trials_of(study.cases[0], study.methods[0])[0]

    first = spec("data_root=/here", "launcher.num_processes=2", "num_steps=50")
    runs.perform(first, tmp_path)
    (tmp_path / "summary.json").write_text('{"step": 1, "train/loss": 2.0}')
    (tmp_path / "metrics.jsonl").touch()
    assert runs.read(first, tmp_path, "last").number("train/loss") == 2.0
    elsewhere = spec("num_steps=50", "data_root=/there", "num_threads=2", "device=auto", "logger=wandb")
    assert runs.read(elsewhere, tmp_path, "last").number("train/loss") == 2.0
    assert runs.read(spec("num_steps=50", "dtype=float64"), tmp_path, "last") is None
    assert runs.read(spec("num_steps=60"), tmp_path, "last") is None
    assert runs.read(spec("num_steps=60", "num_steps=50"), tmp_path, "last") is not None

    # One that was stopped goes on with the new machine's settings; one with other results begins anew.
    monkeypatch.setattr(runs.checkpoint, "find", lambda folder: (folder / "summary.json").exists() or None)
    runs.perform(elsewhere, tmp_path)
    overrides, settings = performed[-1]
    assert settings == {"resume": tmp_path, "folder": tmp_path}
    assert {"data_root=/there", "num_threads=2", "device=auto", "logger=wandb"} <= set(overrides)
    assert not [word for word in overrides if word.startswith(("problem", "algorithm", "seed", "budget"))]
    other = spec("num_steps=60")
    runs.perform(other, tmp_path)
    assert performed[-1] == (other.overrides, {"folder": tmp_path})


def test_grids_with_more_points_are_drawn_from_once(study):
    method = replace(study.methods[0], grid={"a": [1, 2, 3], "b": [4, 5, 6]})
    points = method.points("quadratic", 5)
    assert len(set(points)) == 5
    assert points == method.points("quadratic", 5)
    assert len(method.points("quadratic", 9)) == 9


def test_lost_trials_do_not_compete(study):
    cell = cell_of(study, "D-SGD", "ring", [1.0, 1.0], trials=(None, 4.0, 3.0))
    assert dict(cell.chosen.spec.point) == {"algorithm.lr": 100.0}
    assert cell.grid_ends == {"algorithm.lr": "upper"}
    assert "algorithm.lr=100.0 is the upper end of its grid" in remarks([cell])
    assert "trial algorithm.lr=0.02 seed=7: it broke" in remarks([cell])
    inside = cell_of(study, "D-SGD", "ring", [1.0, 1.0], trials=(4.0, 3.0, 5.0))
    assert inside.grid_ends == {}
    diverged = result(inside.trials[0].spec, "train/loss", 0.1, diverged=True)
    assert best_trial([diverged, inside.trials[1]], "train/loss") is inside.trials[1]
    assert best_trial([diverged], "train/loss") is None
    nan = result(inside.trials[0].spec, "train/loss", float("nan"))
    assert "no finite last/train/loss" in nan.loss


def test_statistics_are_those_of_scipy():
    values, others = [0.3, 0.5, 0.45, 0.2], [0.35, 0.52, 0.6, 0.21]
    expected = ttest_rel(values, others).pvalue
    assert paired_p_value(dict(enumerate(values)), dict(enumerate(others))) == pytest.approx(expected, rel=1e-10)
    assert paired_p_value({0: 1.0}, {0: 2.0}) is None
    assert paired_p_value({0: 1.0, 1: 2.0}, {0: 1.0, 1: 2.0}) == 1.0
    assert spread([1.0, 2.0, 4.0], "ci95") == pytest.approx(
        t.interval(0.95, 2, 0, spread([1, 2, 4], "std") / 3**0.5)[1]
    )
    assert mean([]) != mean([])
    # The smallest is multiplied by 3, the next by 2, and none gets below one before it.
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03}) == pytest.approx({"a": 0.03, "c": 0.06, "b": 0.06})


def test_verdicts_and_tables(study):
    cells = [
        cell_of(study, "D-SGD", "ring", [1.0, 1.1]),
        cell_of(study, "SGP", "ring", [1.3, 1.0]),
        cell_of(study, "tracking", "ring", [0.1, None]),  # the best, had it not lost a seed
    ]
    verdicts = judge(cells, 0.05)
    assert verdicts["D-SGD"].is_best
    assert verdicts["SGP"].is_alike
    assert not verdicts["tracking"].is_best
    assert judge([cells[0], cell_of(study, "SGP", "ring", [2.0, 2.1])], 0.05)["SGP"].p_value == pytest.approx(
        0, abs=1e-9
    )
    (table,) = make_tables(study, cells)
    assert to_markdown(study, table).splitlines()[2:] == [
        "| train/loss | ring |",
        "| --- | ---: |",
        "| D-SGD | **1.05 ± 0.07** |",
        "| SGP | 1.15 ± 0.2 † |",
        "| tracking | 0.1 (1/2) |",
    ]
    latex = to_latex(study, [table])
    assert "    SGP & $1.15 \\pm 0.2^{\\dagger}$ \\\\" in latex
    assert "    D-SGD & $\\mathbf{1.05 \\pm 0.07}$ \\\\" in latex
    assert latex.count("{") == latex.count("}")
    frame = to_frame(study, cells)
    assert frame["lost_seeds"].tolist() == [0, 0, 1]
    assert frame["mean"].tolist() == pytest.approx([1.05, 1.15, 0.1])
    assert frame["chosen"].tolist() == ["algorithm.lr=0.1", "algorithm.lr=0.05", "algorithm.lr=0.05"]
