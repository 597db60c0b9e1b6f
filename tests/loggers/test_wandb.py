"""Offline runs of the real library, read back from the file that `wandb sync` would send."""

import inspect
import json
import math
import struct
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf
from PIL import Image

from simulator import run
from simulator.loggers import wandb
from simulator.loggers.run_description import run_name
from simulator.loggers.wandb import WandbLogger


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("API_KEY", "MODE", "DIR", "RUN_ID", "RESUME", "RUN_GROUP", "PROJECT", "ENTITY"):
        monkeypatch.delenv(f"WANDB_{name}", raising=False)
    for name in ("WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name))


def make(**changes: Any) -> WandbLogger:
    settings = {"project": "trial", "entity": None, "mode": "offline", "group": None, "name": None, "tags": ["a", "b"]}
    settings |= {"node_table": False, "checkpoints": False, "folder": False}
    return WandbLogger(**(settings | changes))


def offline_folders(run_folder: Path) -> list[Path]:
    return sorted((run_folder / "wandb").glob("offline-run-*"))


def stored(folder: Path) -> list[Any]:
    """The records of one offline run, decoded from its file.

    The file is a LevelDB log (https://github.com/google/leveldb/blob/main/doc/log_format.md) with seven bytes in
    front: blocks of 32 KiB hold pieces of (checksum: 4 bytes, length: 2, kind: 1), kind 1 a whole record, 2 to 4
    its first, middle and last piece.
    """
    from wandb.proto import wandb_internal_pb2

    (path,) = folder.glob("run-*.wandb")
    data = path.read_bytes()
    assert data[:4] == b":W&B"
    records, pieces, place = [], b"", 7
    while place < len(data):
        left_in_block = 32768 - place % 32768
        if left_in_block < 7:
            place += left_in_block
            continue
        _, length, kind = struct.unpack_from("<IHB", data, place)
        pieces += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(pieces)
            records.append(record)
            pieces = b""
    return records


def history(records: list[Any]) -> list[dict[str, Any]]:
    rows = []
    for record in records:
        if record.WhichOneof("record_type") == "history":
            items = record.history.item
            rows.append({item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items})
    return rows


def only(records: list[Any], kind: str) -> Any:
    found = [getattr(record, kind) for record in records if record.WhichOneof("record_type") == kind]
    assert len(found) >= 1
    return found[0]


@pytest.mark.slow
def test_an_offline_run_writes_everything_and_finishes(tmp_path: Path) -> None:
    run_folder = tmp_path / "2030-01-02_03-04-05"
    run_folder.mkdir()
    picture = run_folder / "partition.png"
    Image.new("RGB", (20, 10), "red").save(picture)
    (run_folder / "launch.log").write_text("a line\n")
    config = {
        "algorithm": {"_target_": "a.B", "lr": 0.125},
        "graph": {"_target_": "c.D", "base": {"_target_": "e.F"}},
        "compressor": None,
        "choices": {
            "algorithm": "sgp",
            "graph": "gossip_pga",
            "graph.base": "ring",
            "compressor": "none",
            "experiment": "personalization_sgp",
        },
        "seed": 3,
    }
    with make() as logger:
        logger.start(run_folder, config, {"world_size": 2})
        for step in (0, 10, 20):
            metrics = {
                "train/loss": 1.0 / (step + 1),
                "comm/bytes": 100 * step,
                "test/accuracy": 0.5 + (step == 10),
                "test/accuracy_nodes": [0.5, math.nan, step / 40],
            }
            logger.log(metrics, step)
        logger.finish({"test/accuracy": 0.5, "accuracy/final": 0.75}, [picture])
    (folder,) = offline_folders(run_folder)
    records = stored(folder)

    run = only(records, "run")
    assert (run.project, run.display_name, run.run_group) == ("trial", "sgp-gossip_pga-s3", "")
    assert (list(run.tags), run.job_type) == (["a", "b", "personalization_sgp"], "personalization_sgp")
    assert run.run_id == (run_folder / "wandb_id.txt").read_text().strip()
    config = {item.key: json.loads(item.value_json) for item in run.config.update}
    assert config["algorithm"] == {"name": "sgp", "lr": 0.125}
    assert config["graph"] == {"name": "gossip_pga", "base": {"name": "ring"}}
    assert (config["compressor"], config["experiment"], config["seed"]) == (
        {"name": "none"},
        "personalization_sgp",
        3,
    )
    assert config["environment"] == {"world_size": 2}
    assert (folder / "files" / "launch.log").read_text() == "a line\n"

    rows = history(records)
    assert [row["step"] for row in rows] == [0, 10, 20, 20]
    assert [row["_step"] for row in rows] == [0, 10, 20, 21]
    assert [row["train/loss"] for row in rows[:3]] == [1.0, 1.0 / 11.0, 1.0 / 21.0]
    assert [row["comm/bytes"] for row in rows[:3]] == [0, 1000, 2000]
    assert not any(key.startswith("test/accuracy_nodes") for row in rows[:3] for key in row)
    assert rows[3]["figures/partition/_type"] == "image-file"
    assert rows[3]["test/accuracy_nodes/_type"] == "histogram"
    assert sum(rows[3]["test/accuracy_nodes/values"]) == 2
    stored_pictures = list((folder / "files" / "media").rglob("*.png"))
    assert [path.read_bytes() for path in stored_pictures] == [picture.read_bytes()]

    metrics = [record.metric for record in records if record.WhichOneof("record_type") == "metric"]
    assert any(metric.glob_name == "*" and metric.step_metric == "step" for metric in metrics)
    kept = {metric.name: metric.summary for metric in metrics}
    assert (kept["test/accuracy"].max, kept["test/accuracy"].last) == (True, True)
    assert (kept["train/loss"].min, kept["comm/bytes"].max) == (True, False)
    summary = {
        item.key: json.loads(item.value_json)
        for record in records
        if record.WhichOneof("record_type") == "summary"
        for item in record.summary.update
    }
    assert summary["accuracy/final"] == 0.75
    assert not any(record.WhichOneof("record_type") == "artifact" for record in records)
    assert only(records, "exit").exit_code == 0


@pytest.mark.slow
def test_a_failing_run_is_marked_as_failed(tmp_path: Path) -> None:
    def fail_midway() -> None:
        with make() as logger:
            logger.start(tmp_path, {}, {})
            logger.log({"train/loss": 1.0}, 0)
            raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"):
        fail_midway()
    (folder,) = offline_folders(tmp_path)
    assert only(stored(folder), "exit").exit_code == 1


@pytest.mark.slow
def test_a_resumed_run_keeps_its_id_and_a_new_one_does_not(tmp_path: Path) -> None:
    ids = []
    for resume_step in (None, 10, None):
        with make() as logger:
            logger.start(tmp_path, {}, {}, resume_step)
            logger.log({"train/loss": 1.0}, 20)
        ids.append((tmp_path / "wandb_id.txt").read_text())
    assert ids[0] == ids[1] != ids[2]


@pytest.mark.slow
def test_a_step_that_comes_again_adds_no_row(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with make() as logger:
        logger.start(tmp_path, {}, {})
        for step in (0, 10, 0, 10, 20):
            logger.log({"train/loss": 1.0}, step)
    (folder,) = offline_folders(tmp_path)
    assert [row["step"] for row in history(stored(folder))] == [0, 10, 20]
    assert "WARNING" not in capfd.readouterr().err


def test_without_a_login_an_online_run_is_refused_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")

    def start() -> None:
        with make(mode="online") as logger:
            logger.start(tmp_path, {}, {})

    with pytest.raises(ValueError, match=r"^logger=wandb could not start a run .* set logger.mode=offline$"):
        start()


@pytest.mark.slow
def test_runs_of_a_sweep_share_a_group(tmp_path: Path) -> None:
    sweep = tmp_path / "2030-01-02_03-04-05"
    (sweep / "7").mkdir(parents=True)
    (sweep / "multirun.yaml").touch()
    with make() as logger:
        logger.start(sweep / "7", {}, {})
    run = only(stored(offline_folders(sweep / "7")[0]), "run")
    assert (run.run_group, run.display_name) == (sweep.name, "7")


def test_the_name_of_a_run_in_a_sweep_says_what_is_swept(tmp_path: Path) -> None:
    config = {"choices": {"algorithm": "sgp", "graph": "ring"}, "seed": 2}
    assert run_name(config, tmp_path) == "sgp-ring-s2"
    (tmp_path / "7" / ".hydra").mkdir(parents=True)
    task = ["experiment=x", "graph=ring,star", "algorithm.lr=0.1,0.2", "num_nodes=4", "seed=1,2"]
    OmegaConf.save({"hydra": {"overrides": {"task": task}}}, tmp_path / "multirun.yaml")
    own = ["experiment=x", "graph=ring", "algorithm.lr=0.1", "num_nodes=4", "seed=2"]
    OmegaConf.save(OmegaConf.create(own), tmp_path / "7" / ".hydra" / "overrides.yaml")
    assert run_name(config, tmp_path / "7") == "sgp-ring-s2-lr0.1"


@pytest.mark.slow
def test_tables_and_artifacts_are_there_when_asked_for(tmp_path: Path) -> None:
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "checkpoint" / "latest").write_text("x")
    (tmp_path / "config.yaml").write_text("a: 1\n")
    with make(node_table=True, checkpoints=True, folder=True) as logger:
        logger.start(tmp_path, {}, {})
        logger.log({"test/accuracy": [0.25, 0.5], "train/loss": [1.0, 2.0]}, 0)
        logger.finish({}, [])
    records = stored(offline_folders(tmp_path)[0])
    artifacts = [record for record in records if record.WhichOneof("record_type") in ("artifact", "request")]
    found = [getattr(record, record.WhichOneof("record_type")) for record in artifacts]
    text = "\n".join(map(str, found))
    assert 'type: "model"' in text
    assert 'type: "results"' in text
    (table,) = (offline_folders(tmp_path)[0] / "files" / "media" / "table").glob("nodes_*.json")
    content = json.loads(table.read_text())
    assert content["columns"] == ["node", "test/accuracy", "train/loss"]
    assert content["data"] == [[0, 0.25, 1.0], [1, 0.5, 2.0]]


def test_variables_count_where_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    unsaid = {"project": None, "entity": None, "mode": None}
    plain = make(**unsaid)
    assert (plain.project, plain.entity, plain.mode) == ("hypergossip", None, "online")
    for name, value in (("WANDB_PROJECT", "mine"), ("WANDB_ENTITY", "us"), ("WANDB_MODE", "offline")):
        monkeypatch.setenv(name, value)
    told = make(**unsaid)
    assert (told.project, told.entity, told.mode) == ("mine", "us", "offline")
    said = make(project="a", entity="b", mode="disabled")
    assert (said.project, said.entity, said.mode) == ("a", "b", "disabled")
    monkeypatch.setenv("WANDB_MODE", "dryrun")
    with pytest.raises(ValueError, match=r"logger\.mode='dryrun': choose one of online, offline, disabled"):
        make(**unsaid)


def test_disabled_does_nothing(tmp_path: Path) -> None:
    with make(mode="disabled") as logger:
        logger.start(tmp_path, {}, {})
        logger.log({"train/loss": 1.0}, 0)
        logger.finish({}, [])
    assert not list(tmp_path.glob("wandb*"))


@pytest.mark.slow
def test_a_server_that_cannot_be_reached_leaves_an_offline_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setattr(wandb, "_CONNECT_S", 5.0)
    with make(mode="online") as logger:
        logger.start(tmp_path, {}, {})
        logger.log({"train/loss": 1.0}, 0)
        logger.finish({}, [])
    told = [line for line in caplog.messages if line.startswith("W&B cannot be reached (")]
    assert len(told) == 1
    assert len(history(stored(offline_folders(tmp_path)[0]))) == 1


@pytest.mark.slow
def test_a_run_that_is_resumed_elsewhere_continues_the_same_wandb_run(tmp_path: Path) -> None:
    words = ("problem=quadratic", "algorithm=sgp", "num_nodes=4", "num_steps=4", "figures=false", "device=cpu")
    words += ("logger=wandb", "logger.mode=offline", "logger.project=ours")
    first = run(*words, folder=tmp_path / "first")
    second = run(resume=first.folder, num_steps=6, folder=tmp_path / "second", **{"logger.group": "later"})
    assert (first.folder / "wandb_id.txt").read_text() == (second.folder / "wandb_id.txt").read_text()
    started = only(stored(offline_folders(second.folder)[0]), "run")
    assert (started.project, started.run_group, started.display_name) == ("ours", "later", "sgp-random_directed-s0")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mode": "on"}, r"logger.mode='on': choose one of online, offline, disabled"),
        ({"project": ""}, "logger.project is empty"),
        ({"tags": "quick"}, r"logger.tags='quick': give a list of strings, such as \[quick\]"),
    ],
)
def test_bad_settings_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**changes)


def test_configurations_name_every_argument() -> None:
    folder = Path(__file__).parents[2] / "conf" / "logger"
    assert OmegaConf.to_container(OmegaConf.load(folder / "none.yaml")) == {}
    config = OmegaConf.to_container(OmegaConf.load(folder / "wandb.yaml"))
    assert isinstance(config, dict)
    assert config.pop("_target_") == f"{WandbLogger.__module__}.{WandbLogger.__qualname__}"
    assert set(config) == set(inspect.signature(WandbLogger).parameters)
    WandbLogger(**config)
