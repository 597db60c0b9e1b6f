"""What a user gets wrong ends in one line that says what, where and what is allowed, before the first step."""

import contextlib
import multiprocessing
import os
import sys
from pathlib import Path

import pytest
from commands import ROOT, SMALL, Start

import launch
import simulator.job  # noqa: F401
from simulator import config, load_run

CASES = {
    "root key": (["nodes=3"], "nodes: there is no such key"),
    "appended root key": (["+nodes=3"], "nodes: there is no such key; the root.* has: choices, num_nodes, num_steps"),
    "appended key of a section": (
        ["+checkpoint.evry=3"],
        "checkpoint.evry: there is no such key; checkpoint.* has: every",
    ),
    "group setting": (["algorithm.lrr=1"], "algorithm.lrr: there is no such key"),
    "appended group setting": (["+algorithm.lrr=1"], "algorithm.lrr is no setting of HGP; it has: depth, "),
    "choice": (["algorithm=sgd"], "algorithm=sgd: there is no such file in conf/algorithm/; choose one of its "),
    "experiment": (
        ["experiment=nope"],
        "experiment=nope: there is no such file in conf/experiment/; choose one of its ",
    ),
    "group": (["algorithms=sgp"], "algorithms: there is no such key"),
    "type": (["num_nodes=many"], "num_nodes=many: Value 'many' of type 'str' could not be converted to Integer"),
    "type of a setting": (["algorithm.lr=fast"], "algorithm.lr=fast: expected a number"),
    "syntax": (["num_nodes=[1"], "[1"),
    "sweep without -m": (["algorithm.lr=0.1,0.2"], "algorithm.lr=0.1,0.2: several values are a sweep"),
    "no nodes": (["num_nodes=0"], "=0: "),
    "dtype": (["dtype=float16"], "dtype='float16': expected float32 or float64"),
    "device": (["device=tpu"], "device='tpu': expected auto, cpu or cuda"),
    "compute": (["compute=fast"], "compute='fast': expected auto, loop, vmap, chunked, batched"),
    "lr": (["algorithm.lr=-1"], "algorithm.lr=-1: expected a positive number"),
    "eval_every": (["eval_every=0"], "eval_every=0: expected an integer of at least 1"),
    "no processes": (["launcher.num_processes=0"], "launcher.num_processes=0: expected at least 1"),
    "too many processes": (["launcher.num_processes=6"], "6 processes for num_nodes=5"),
    "not doubly stochastic": (["algorithm=dsgd", "graph=random_directed"], "algorithm=dsgd needs doubly stochastic"),
    "cannot mix": (
        ["graph=erdos_renyi", "graph.probability=0.01"],
        "graph of 5 nodes: none of 1000 draws is connected",
    ),
    "no dataset": (["dataset=mnist", "data_root=/nowhere", "dataset.download=false"], "/nowhere"),
    "idle compressor": (["compressor=top_k", "compressor.fraction=0"], "compressor.fraction=0: expected"),
    "idle dataset": (
        ["problem=quadratic", "algorithm=sgp", "dataset=digits"],
        "dataset=digits: problem Quadratic uses no dataset",
    ),
    "processes twice": (["launcher.num_processes=2"], "=2: 1 process(es) have been started from outside already"),
    "timing": (["timing=slow"], "timing=slow: there is no such file in conf/timing/; choose one of: constant"),
    "negative duration": (["timing=constant", "timing.step_s=-1"], "timing.step_s=-1: expected a number of at least 0"),
    "no trace": (["timing=trace"], "timing.path: a value is needed"),
    "trace is no file": (["timing=trace", "timing.path=/nowhere.csv"], "timing.path='/nowhere.csv': there is no such"),
    "no run to resume": (["resume=/nowhere"], "resume=/nowhere: expected a run folder"),
}


@pytest.fixture(scope="module", autouse=True)
def _everything_is_imported(composed):
    """Imports once, before the forks, what each of them would import."""
    settings = composed(*SMALL)
    config.check(settings, config.build(settings), world_size=1)


def complaints_of(arguments: list[str], folder: Path, environ: dict[str, str]) -> tuple[int, str, str]:
    """Status, standard error and standard output of ``launch.py`` in a fork of this process, which has torch."""
    out, err = folder / "out", folder / "err"

    def child() -> None:
        for path, number in ((out, 1), (err, 2)):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
        for name in ("HYDRA_FULL_ERROR", "RANK", "WORLD_SIZE"):
            os.environ.pop(name, None)
        os.environ.update(environ)
        sys.argv = ["launch.py", *arguments]
        status = launch.main()
        with contextlib.suppress(ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join(60)
    if process.is_alive():
        process.kill()
        pytest.fail("still running after 60 s")
    assert process.exitcode is not None
    return process.exitcode, err.read_text(), out.read_text()


@pytest.mark.parametrize("case", CASES)
def test_one_line_says_what_is_wrong(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(ROOT)
    overrides, expected = CASES[case]
    run = tmp_path / "run"
    settings = [] if case == "experiment" else [s for s in SMALL if case != "no nodes" or "num_nodes" not in s]
    if case in ("idle dataset", "not doubly stochastic"):
        settings = ["num_nodes=5"]
    environ = {"RANK": "0", "WORLD_SIZE": "1"} if case == "processes twice" else {}
    status, err, out = complaints_of([*settings, f"hydra.run.dir={run}", *overrides], tmp_path, environ)
    assert status == 1, (err, out)
    lines = err.splitlines()
    assert len(lines) == 1, err
    assert lines[0].startswith("hypergossip: ")
    assert expected in lines[0]
    assert len(lines[0]) < 400
    assert lines[0].removeprefix("hypergossip: ") not in out  # once, on standard error
    assert not run.exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("overrides", "kept"),
    [
        ([*SMALL, "algorithm.lr=0.5"], "algorithm.lr=0.5: a resumed run keeps algorithm.lr=0.1; only num_steps, "),
        (
            ["problem=l2_decay"],
            "problem=l2_decay: a resumed run keeps problem._target_=simulator.problems.logit_scaling.",
        ),
        (["num_steps=8"], " is past num_steps=8 already"),
    ],
    ids=["setting", "component", "steps"],
)
def test_a_resumed_run_keeps_its_settings(overrides: list[str], kept: str, short_run: Path, tmp_path: Path):
    folder = tmp_path / "run"
    arguments = [*overrides, f"resume={short_run}", f"hydra.run.dir={folder}"]
    status, err, _ = complaints_of(arguments, tmp_path, {})
    assert status == 1
    assert len(err.splitlines()) == 1, err
    assert kept in err
    assert not folder.exists()


def test_only_folders_that_a_rejected_command_has_made_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(ROOT)
    rejected = ["problem=quadratic", "algorithm=sgp", "graph=ring", "device=cpu", "algorithm.lr=-1"]
    (tmp_path / "empty").mkdir()
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "launch.log").write_text("earlier")
    for name in ("empty", "used", "new/one"):
        status, _, _ = complaints_of([*rejected, f"hydra.run.dir={tmp_path / name}"], tmp_path, {})
        assert status == 1
    assert not list((tmp_path / "empty").iterdir())
    assert (tmp_path / "used" / "launch.log").read_text().startswith("earlier")
    assert not (tmp_path / "new").exists()
    status, err, out = complaints_of(
        ["-m", *rejected, "seed=0,1", f"hydra.sweep.dir={tmp_path / 'new' / 'sweep'}"], tmp_path, {}
    )
    assert (status, len(err.splitlines())) == (1, 2), (err, out)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("overrides", "expected", "one_line"),
    [
        (["algorithm.lrr=1"], "algorithm.lrr: there is no such key", True),
        (["dataset=mnist", "data_root=/nowhere", "dataset.download=false"], "/nowhere", False),
    ],
    ids=["composing", "on all ranks"],
)
@pytest.mark.slow
def test_torchrun_ends_on_all_ranks(overrides: list[str], expected: str, one_line: bool, start: Start, tmp_path: Path):
    command = start(f"hydra.run.dir={tmp_path / 'run'}", *overrides, ranks=2, one_line=one_line)
    ended = command.wait()
    assert ended.status != 0
    assert len(ended.complaints) == 1, ended.err
    assert expected in ended.complaints[0]
    if one_line:
        assert ended.err.splitlines() == ended.complaints
    else:  # the report of torchrun itself repeats the line of the first cause
        assert ended.err.count(ended.complaints[0].removeprefix("hypergossip: ")) == 2, ended.err
    assert not (tmp_path / "run").exists()
    assert not command.left_behind()


def test_hydra_is_told_how_every_job_of_a_sweep_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """And a sweep that is repeated in its folder runs only what is not finished."""
    monkeypatch.chdir(ROOT)
    words = ["-m", "problem=quadratic", "algorithm=sgp", "num_nodes=4", "graph=ring", "num_steps=4"]
    words += ["device=cpu", "algorithm.lr=-1,0.1", "objective=comm/bytes", f"hydra.sweep.dir={tmp_path / 'sweep'}"]
    words += ["+hydra.callbacks.told._target_=callbacks.Told"]
    environ = {"TOLD": str(tmp_path / "told")}
    status, err, _ = complaints_of(words, tmp_path, environ)
    assert status == 1
    assert err == "hypergossip: job 0 (algorithm.lr=-1): algorithm.lr=-1: expected a positive number\n"
    assert not (tmp_path / "sweep" / "0").exists()
    sent = float(load_run(tmp_path / "sweep" / "1").summary["comm/bytes"])
    assert (tmp_path / "told").read_text() == f"FAILED ToldError\nCOMPLETED {sent}\n"
    finished = (tmp_path / "sweep" / "1" / "summary.json").stat().st_mtime_ns
    words[words.index("algorithm.lr=-1,0.1")] = "algorithm.lr=0.2,0.1"
    status, err, _ = complaints_of(words, tmp_path, environ)
    assert (status, err) == (0, "")
    assert not (tmp_path / "sweep" / "1" / "figures").exists()  # figures=auto
    assert (tmp_path / "sweep" / "1" / "summary.json").stat().st_mtime_ns == finished
    assert load_run(tmp_path / "sweep" / "0").summary["step"] == 4
    assert (tmp_path / "told").read_text().count("COMPLETED") == 3
    words[words.index("objective=comm/bytes")] = "objective=comm/byte"
    status, err, _ = complaints_of(words, tmp_path, environ)
    assert status == 1
    assert "objective=comm/byte: summary.json has no number of this name; similar: comm/bytes" in err
