"""MLflow runs in a store of files, read back with MLflow's client."""

from pathlib import Path

import pytest

from simulator.loggers.mlflow import MlflowLogger

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


def make(store: Path, **changes) -> MlflowLogger:
    settings = {"tracking_uri": store.as_uri(), "experiment": "trial", "name": None, "tags": {"by": "me"}}
    return MlflowLogger(**(settings | changes))


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    return tmp_path / "store"


def test_everything_is_read_back_and_a_resumed_run_goes_on(tmp_path: Path, store: Path) -> None:
    from mlflow.tracking import MlflowClient

    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    (first / "config.yaml").write_text("a: 1\n")
    config = {"algorithm": {"_target_": "a.B", "lr": 0.5}, "choices": {"algorithm": "sgp", "graph": "ring"}, "seed": 2}
    config["graph"] = {"_target_": "c.D"}
    with make(store) as logger:
        logger.start(first, config, {})
        for step in (0, 10):
            logger.log({"train/loss": float(step), "test/accuracy_nodes": [0.5]}, step)
        logger.finish({"best/test/accuracy": 0.75}, [])
    with make(store) as logger:
        logger.start(second, {**config, "resume": str(first)}, {}, 9)
        logger.log({"train/loss": 7.0}, 20)
        raise_nothing_after_close = logger
    raise_nothing_after_close.log({"train/loss": 1.0}, 30)
    client = MlflowClient(store.as_uri())
    experiment = client.get_experiment_by_name("trial")
    (run,) = client.search_runs([experiment.experiment_id])
    assert (run.info.run_name, run.info.status, run.data.tags["by"]) == ("sgp-ring-s2", "FINISHED", "me")
    expected = {"algorithm.name": "sgp", "algorithm.lr": "0.5", "graph.name": "ring", "seed": "2"}
    assert run.data.params == expected
    history = client.get_metric_history(run.info.run_id, "train/loss")
    assert sorted((each.step, each.value) for each in history) == [(0, 0.0), (10, 10.0), (20, 7.0)]
    assert run.data.metrics["best/test/accuracy"] == 0.75
    assert [each.path for each in client.list_artifacts(run.info.run_id)] == ["config.yaml"]


def test_a_failed_run_is_marked_and_a_bad_store_is_one_line(tmp_path: Path, store: Path) -> None:
    from mlflow.tracking import MlflowClient

    def fail() -> None:
        with make(store) as logger:
            logger.start(tmp_path, {}, {})
            raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"):
        fail()
    client = MlflowClient(store.as_uri())
    (run,) = client.search_runs([client.get_experiment_by_name("trial").experiment_id])
    assert run.info.status == "FAILED"
    with pytest.raises(ValueError, match=r"^logger=mlflow: the store nowhere://x cannot be used \(.*\); set logger"):
        make(store, tracking_uri="nowhere://x").start(tmp_path, {}, {})
