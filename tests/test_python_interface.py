"""Runs from Python: the numbers and lines of the command line, and an interpreter that is afterwards as before."""

import asyncio
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from hydra.core.global_hydra import GlobalHydra

from simulator import fresh_interpreter, load_run, load_runs, run
from simulator.errors import RunError
from simulator.loggers import console

ROOT = Path(__file__).parents[1]
QUICK = ("problem=quadratic", "algorithm=sgp", "num_nodes=4", "num_steps=6", "eval_every=2", "dtype=float64")
QUICK += ("graph=ring", "figures=false", "device=cpu", "timeout_s=60")
ENDLESS = {"num_steps": 10_000_000, "eval_every": 1000, "checkpoint.every": 0, "algorithm.lr": 0.02}
TIMES = ("time/wall_s", "throughput/node_steps_per_s", "comm/wire_bytes", "comm/evaluation_bytes")


def numbers(records):
    """Without what depends on the clock or on the placement."""
    return [{name: value for name, value in record.items() if name not in TIMES} for record in records]


def interpreter():
    """What a run must leave as it was."""
    loggers = [logging.getLogger(), logging.getLogger("simulator")]
    return {
        "threads": torch.get_num_threads(),
        "signals": [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)],
        "folder": Path.cwd(),
        "arguments": list(sys.argv),
        "environment": dict(os.environ),
        "hydra": GlobalHydra.instance().is_initialized(),
        "logging": [(logger.level, list(logger.handlers), list(logger.filters)) for logger in loggers],
        "gradients": torch.is_grad_enabled(),
        "children": Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text(),
    }


def wait_for_lines(folder, count):
    path = folder / "metrics.jsonl"
    deadline = time.monotonic() + 120
    while not path.is_file() or path.read_text().count("\n") < count:
        assert time.monotonic() < deadline, "waited too long for evaluations"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return run(*QUICK, folder=tmp_path_factory.mktemp("finished"))


def test_a_run_is_an_object(finished):
    assert finished.summary["step"] == 6
    assert [record["step"] for record in finished.records] == [0, 2, 4, 6]
    assert finished.summary["train/loss"] == finished.records[-1]["train/loss"]
    assert finished.config["choices"]["algorithm"] == "sgp"
    assert finished.figures == {}
    assert "sgp on ring, 4 nodes: 6 steps" in repr(finished)
    assert str(finished.folder) in finished._repr_html_()
    table = finished.table()
    assert list(table.index) == [0, 2, 4, 6]
    assert list(table["train/loss"]) == [record["train/loss"] for record in finished.records]
    lines = (finished.folder / "launch.log").read_text().splitlines()
    assert sum("finished" in line for line in lines) == 1
    environment = json.loads((finished.folder / "environment.json").read_text())
    assert environment["arguments"] == ["simulator.run", *QUICK]


def test_three_runs_leave_the_interpreter_as_it_was(tmp_path, finished):
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        before = interpreter()
        for index in range(3):
            again = run(*QUICK, folder=tmp_path / str(index))
            assert interpreter() == before
            assert numbers(again.records) == numbers(finished.records)
        with torch.no_grad():
            assert numbers(run(*QUICK, folder=tmp_path / "no_grad").records) == numbers(finished.records)
            assert not torch.is_grad_enabled()
        with pytest.raises(ValueError, match="algorithm"):
            run(*QUICK, "algorithm.lr=-1", folder=tmp_path / "wrong")
        assert interpreter() == before
    finally:
        torch.set_num_threads(threads)


def test_keywords_are_settings(tmp_path):
    overrides = [override for override in QUICK if not override.startswith(("num_steps", "graph", "dtype"))]
    made = run(*overrides, num_steps=3, graph="star", folder=tmp_path, num_threads=None, **{"algorithm.lr": 0.25})
    assert (made.summary["step"], made.config["algorithm"]["lr"], made.config["num_threads"]) == (3, 0.25, None)
    assert made.config["choices"]["graph"] == "star"


def test_the_default_folder_is_that_of_the_command_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = run(*QUICK)
    assert made.folder.relative_to(tmp_path).parts[0] == "outputs"
    assert len(made.folder.relative_to(tmp_path).parts) == 3


def test_in_a_thread_and_beside_a_running_event_loop(tmp_path, finished):
    made = {}

    async def in_a_loop():
        made["loop"] = run(*QUICK, folder=tmp_path / "loop")

    thread = threading.Thread(target=lambda: made.update(thread=run(*QUICK, folder=tmp_path / "thread")))
    thread.start()
    thread.join(120)
    asyncio.run(in_a_loop())
    for name in ("thread", "loop"):
        assert numbers(made[name].records) == numbers(finished.records), name


def test_two_processes(tmp_path, finished, capfd):
    before = interpreter()
    torch.ones(3, requires_grad=True).sum().backward()
    made = run(*QUICK, processes=2, folder=tmp_path / "two")
    assert interpreter() == before
    for mine, other in zip(numbers(made.records), numbers(finished.records), strict=True):
        assert mine == pytest.approx(other, rel=1e-10, abs=1e-10)
    assert made.summary["comm/wire_bytes"] > 0
    assert json.loads((made.folder / "environment.json").read_text())["world_size"] == 2
    lines = (made.folder / "launch.log").read_text().splitlines()
    assert sum("4 nodes on 2 process(es)" in line for line in lines) == 1
    assert sum("step 4  train/loss" in line for line in lines) == 1
    assert sum("finished" in line for line in lines) == 1
    assert "Traceback" not in capfd.readouterr().err


def test_processes_find_the_modules_of_this_interpreter(tmp_path, monkeypatch):
    (tmp_path / "my_own_ring.py").write_text("from simulator.graphs.ring import Ring\nclass Mine(Ring): pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    overrides = ("graph._target_=my_own_ring.Mine", *QUICK)
    assert run(*overrides, processes=2, folder=tmp_path / "run").summary["step"] == 6
    with pytest.raises(ValueError, match=r"^__main__\.Mine: several processes can only import a class from a file"):
        fresh_interpreter._require_importable({"graph": {"_target_": "__main__.Mine"}})


@pytest.mark.parametrize("processes", [1, 2])
def test_user_errors_are_one_line(processes, tmp_path):
    cases = {
        "algorithm=sgd": "algorithm=sgd: there is no such file in conf/algorithm/",
        "nodes=3": "nodes: there is no such key",
        "algorithm.lr=-1": "algorithm.lr=-1: expected a positive number",
        "dataset=digits": "dataset=digits: problem Quadratic uses no dataset",
        "num_nodes=1": "2 processes for num_nodes=1" if processes == 2 else None,
    }
    for override, message in cases.items():
        if message is None:
            continue
        folder = tmp_path / override
        with pytest.raises(ValueError) as caught:  # noqa: PT011
            run(*QUICK, override, processes=processes, folder=folder)
        assert str(caught.value).startswith(message)
        assert "\n" not in str(caught.value)
        assert not folder.exists()


@pytest.mark.parametrize("processes", [1, 2])
def test_a_run_that_diverges_is_one_line(processes, tmp_path):
    with pytest.raises(RunError, match=r"^NaN or infinity in params of node \d after step") as caught:
        run(*QUICK, "num_steps=400", "algorithm.lr=1e30", processes=processes, folder=tmp_path)
    assert str(caught.value) in (tmp_path / "launch.log").read_text()
    assert load_run(tmp_path).summary is None


@pytest.mark.parametrize("processes", [1, 2])
def test_control_c_leaves_a_checkpoint(processes, tmp_path):
    """Control-C reaches the main thread, in which pytest runs the tests."""
    assert threading.current_thread() is threading.main_thread()
    before = interpreter()
    stopped = tmp_path / "stopped"

    def interrupt():
        wait_for_lines(stopped, 2)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt, match="continues"):
        run(*QUICK, processes=processes, folder=stopped, **ENDLESS)
    thread.join()
    assert interpreter() == before
    (checkpoint,) = (stopped / "checkpoint").glob("step_*")
    step = int(checkpoint.name.removeprefix("step_"))
    assert load_run(stopped).summary is None
    assert "not finished" in repr(load_run(stopped))
    goes_on = run(resume=str(stopped), num_steps=step + 2, eval_every=1, folder=tmp_path / "on", processes=1)
    assert goes_on.summary["step"] == step + 2


def test_a_process_that_dies_is_one_line(tmp_path):
    caught = []

    def start():
        try:
            run(*QUICK, processes=2, folder=tmp_path, **ENDLESS)
        except RunError as error:
            caught.append(str(error))

    thread = threading.Thread(target=start)
    thread.start()
    wait_for_lines(tmp_path, 2)
    (supervisor,) = children_of(os.getpid())
    ranks = children_of(supervisor)
    assert len(ranks) == 2
    os.kill(ranks[1], signal.SIGKILL)
    thread.join(120)
    assert caught == ["rank 1 was killed by SIGKILL; the run was ended everywhere"]
    assert not [pid for pid in ranks if Path(f"/proc/{pid}").exists()]


def children_of(pid):
    found = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        found += map(int, path.read_text().split())
    return sorted(found)


@pytest.mark.parametrize("processes", [1, 2])
def test_a_notebook_has_a_progress_bar(processes, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(console, "_in_notebook", lambda: True)
    run(*QUICK, folder=tmp_path, processes=processes)
    assert "6/6" in capsys.readouterr().err


def test_load_run_says_what_is_wrong(tmp_path):
    with pytest.raises(ValueError, match=r"nowhere: there is no such folder$"):
        load_run(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r": this is no run folder, there is no config\.yaml of a run in it$"):
        load_run(tmp_path)
    with pytest.raises(ValueError, match=r"nowhere: there is no such folder$"):
        load_runs(tmp_path / "nowhere")
    (tmp_path / "config.yaml").write_text("a: 1\n")
    with pytest.raises(ValueError, match=r": there is no run below it, no folder with the config\.yaml of a run$"):
        load_runs(tmp_path)


def test_a_sweep_is_a_table(tmp_path, finished):
    for index, (graph, lr) in enumerate((("ring", 0.1), ("ring", 0.2), ("random_directed", 0.1))):
        run(*QUICK, f"graph={graph}", folder=tmp_path / str(9 + index), seed=index, **{"algorithm.lr": lr})
    (tmp_path / "9" / ".hydra").mkdir()
    (tmp_path / "9" / ".hydra" / "config.yaml").write_text((tmp_path / "9" / "config.yaml").read_text())
    (tmp_path / "11" / "summary.json").unlink()
    runs = load_runs(tmp_path)
    assert [each.folder.name for each in runs] == ["9", "10", "11"]
    table = runs.table()
    assert list(table.columns[:3]) == ["graph", "seed", "algorithm.lr"]
    assert list(table["graph"]) == ["ring", "ring", "random_directed"]
    assert list(table["algorithm.lr"]) == [0.1, 0.2, 0.1]
    assert table["train/loss"].notna().tolist() == [True, True, False]
    assert table["train/loss"].iloc[0] == runs[0].summary["train/loss"]
    assert not [name for name in table.columns if name.endswith(("_target_", ".seed"))]
    assert len(runs[:2]) == 2
    assert repr(runs).startswith("<3 runs>\n<Run sgp on ring")
    assert "<table" in runs._repr_html_()


@pytest.mark.slow
def test_numbers_and_lines_are_those_of_the_command_line(tmp_path, finished):
    def launch(*overrides):
        command = [sys.executable, "launch.py", *QUICK, f"hydra.run.dir={tmp_path / 'run'}", *overrides]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200)

    assert launch().returncode == 0
    assert numbers(load_run(tmp_path / "run").records) == numbers(finished.records)
    assert load_run(tmp_path / "run").config == finished.config
    for wrong in ("algorithm.lr=-1", "algorithm=sgd", "graph=ring,star"):
        printed = launch(wrong).stderr.strip()
        with pytest.raises(ValueError) as caught:  # noqa: PT011
            run(*QUICK, wrong, folder=tmp_path / "wrong")
        assert printed == f"hypergossip: {caught.value}"
