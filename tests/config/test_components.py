"""Every YAML of every group composes, fits its class and is commented; every experiment runs."""

import inspect
import json
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
from hydra.utils import get_class

from simulator import config
from simulator.config.composition import group_folders
from simulator.config.hydra_versions import instantiate
from simulator.data.cifar10 import Cifar10
from simulator.data.cifar100 import Cifar100
from simulator.data.emnist_byclass import EmnistByClass
from simulator.data.emnist_digits import EmnistDigits
from simulator.data.fashion_mnist import FashionMnist
from simulator.data.mnist import Mnist
from simulator.job import Job, run_job
from simulator.processes import World

CONF = Path(__file__).parents[2] / "conf"
NO_SECTIONS = {"experiment", "hparams_search"}
GROUPS = sorted({path.name for path in group_folders()} - NO_SECTIONS)
FILES = [file for group in GROUPS for file in sorted((CONF / group).glob("*.yaml"))]
EXPERIMENTS = sorted((CONF / "experiment").rglob("*.yaml"))
# What the defaults of a YAML leave open on purpose.
REQUIRED = {
    "graph/file": "graph.path=somewhere.txt",
    "graph/exchange_tree": "num_nodes=5",
    "graph/social_network": "num_nodes=32",
    "graph/social_network_tree": "num_nodes=32",
    "timing/trace": "timing.path=somewhere.csv",
}
# Arguments that the simulator adds itself.
ADDED = {"model": {"input_shape", "num_classes"}, "faults": {"graph"}, "algorithm": {"compressor"}}


def name_of(file: Path) -> str:
    return file.relative_to(CONF).with_suffix("").as_posix()


def test_the_groups_are_the_sections_of_the_schema(composed):
    scalars = {"num_nodes", "num_steps", "seed", "eval_every", "dtype", "device", "compute", "num_threads", "timeout_s"}
    scalars |= {"objective", "choices", "data_root", "resume", "figures", "checkpoint", "link", "max_sim_s"}
    scalars |= {"eval_every_s", "evaluate_train", "evaluate_samples", "compute_capture", "budget"}
    assert set(composed()) - scalars == set(GROUPS)
    assert all((CONF / group / "none.yaml").is_file() for group in ("compressor", "faults", "logger", "timing"))


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_component_composes_fits_its_class_and_is_commented(file, composed):
    group, name = file.parent.name, file.stem
    overrides = [f"{group}={name}"] + [value for key, value in REQUIRED.items() if key == f"{group}/{name}"]
    settings = composed(*overrides)[group]
    lines = [line for line in file.read_text().splitlines() if line.strip()]
    if name == "none":
        assert settings == {}
        assert lines[0].startswith("# ")
        return
    # A _target_ says by itself what it is; every setting, also of nested components, says what it means.
    uncommented = [
        line for line in lines if "_target_:" not in line and not line.startswith("#") and "  # " not in line
    ]
    assert not uncommented
    if group == "launcher":
        assert list(settings) == ["num_processes"]
        return
    target = get_class(settings["_target_"])
    arguments = set(inspect.signature(target).parameters) - ADDED.get(group, set())
    assert {key for key in settings if key not in ("_target_", "_partial_")} == arguments
    assert settings.get("_partial_", False) is (group == "model")
    graph = instantiate(composed("graph=ring")["graph"])
    added = {"graph": graph} if group == "faults" else {}
    if group == "algorithm" and target.uses_compressor:
        added["compressor"] = composed("compressor=identity")["compressor"]
    built = instantiate(settings, **added)
    assert (built.func if group == "model" else type(built)) is target


def test_every_root_setting_is_commented():
    lines = (CONF / "config.yaml").read_text().split("  - hparams_search: null\n")[1].split("hydra:\n")[0].splitlines()
    assert all("  # " in line or line == "checkpoint:" for line in lines if line)


@pytest.fixture(scope="session")
def image_files(tmp_path_factory):
    """Random images in the files of every dataset that would have to be downloaded."""
    root = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for dataset in (Mnist, FashionMnist, EmnistDigits, EmnistByClass):
        folder = root / dataset.folder
        folder.mkdir(parents=True, exist_ok=True)
        for name, shape in zip(dataset.files, ((800, 28, 28), (800,), (100, 28, 28), (100,)), strict=True):
            values = rng.integers(0, 256 if len(shape) == 3 else dataset.num_classes, shape, dtype=np.uint8)
            header = struct.pack(f">4B{len(shape)}i", 0, 0, 8, len(shape), *shape)
            (folder / name).write_bytes(header + values.tobytes())
    for dataset, num_images in ((Cifar10, 20), (Cifar100, 300)):
        (root / dataset.folder).mkdir()
        for name in dataset.files:
            labels = [i % dataset.num_classes for i in range(num_images)]
            content = {b"data": rng.integers(0, 256, (num_images, 3072), dtype=np.uint8), dataset.label_key: labels}
            (root / dataset.folder / name).write_bytes(pickle.dumps(content))
    return root


@pytest.mark.slow
@pytest.mark.parametrize("file", EXPERIMENTS, ids=name_of)
def test_experiment_composes_and_runs_two_steps(file, composed, image_files, tmp_path, one_thread):
    assert file.read_text().startswith("# @package _global_\n# ")
    overrides = [f"experiment={file.relative_to(CONF / 'experiment').with_suffix('').as_posix()}"]
    raw = composed(*overrides)
    config.check(raw, config.build(raw), 1)
    overrides += [
        "num_steps=2",
        "eval_every=25",
        "num_threads=1",
        "figures=false",
        "compute=vmap",
        "device=cpu",
        "logger=none",
    ]
    overrides += [f"num_nodes={5 if raw['graph']['_target_'].endswith('.ExchangeTree') else 3}"]
    if raw["model"]["_target_"].rsplit(".", 1)[-1] in ("ResNet20", "VGG11", "CnnMnist4", "LeNet"):
        overrides += ["compute=loop", "checkpoint.every=0"]
    small = {"depth": 2, "num_pushes": 2, "reference_max_iterations": 3, "hidden_width": 4, "nodes_per_round": 1}
    small |= {"num_novel_nodes": 1, "novel_rounds": 2, "num_removed": 2, "local_epochs": 1}
    overrides += [f"algorithm.{key}={value}" for key, value in small.items() if key in raw["algorithm"]]
    small = {"problem.batch_size": 4, "partition.sample_fraction": 0.2, "partition.valid_size": 0.2}
    # Three nodes need not take a multiple of all classes.
    small |= {"partition.spare_share": "true", "partition.num_novel": 1}
    overrides += [f"{key}={value}" for key, value in small.items() if key.split(".")[1] in raw[key.split(".")[0]]]
    settings = composed(*overrides, f"data_root={image_files}")
    run_job(Job(settings, str(tmp_path)), World(), None)
    records = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records] == [0, 2]
    assert json.loads((tmp_path / "summary.json").read_text())["step"] == 2


def test_a_misspelt_setting_is_an_error_that_lists_the_right_ones(composed):
    settings = composed("problem=quadratic")
    settings["algorithm"]["lrr"] = 1.0
    with pytest.raises(ValueError, match=r"algorithm\.lrr is no setting of SGP; it has: lr, lr_schedule, order"):
        config.build(settings)


def test_a_setting_that_an_experiment_has_for_another_class_can_be_dropped(composed):
    """As the message says."""
    overrides = ["experiment=data_exchange", "partition=iid"]
    with pytest.raises(ValueError, match=r"partition\.digits_per_node is no setting of Iid") as caught:
        config.build(composed(*overrides))
    assert str(caught.value).endswith("; if an experiment sets it, drop it with '~partition.digits_per_node'")
    assert config.build(composed(*overrides, str(caught.value).split("'")[1])).partition is not None


def test_a_misspelt_fault_setting_does_not_list_the_graph(composed):
    settings = composed("problem=quadratic", "faults=message_loss")
    settings["faults"]["rate"] = 1.0
    with pytest.raises(ValueError, match=r"faults\.rate is no setting of MessageLoss; it has: probability, seed; "):
        config.build(settings)


def test_a_component_without_a_class_or_with_an_unknown_one_is_an_error(composed):
    settings = composed("problem=quadratic")
    with pytest.raises(ValueError, match=r"algorithm: its file in conf/algorithm/ needs a _target_"):
        config.build({**settings, "algorithm": {"lr": 1.0}})
    with pytest.raises(ValueError, match=r"^algorithm: .*nowhere"):
        config.build({**settings, "algorithm": {"_target_": "simulator.algorithms.nowhere.SGP"}})


def test_a_value_that_a_component_refuses_comes_as_its_own_line(composed):
    settings = composed("problem=quadratic", "algorithm.lr=-1")
    with pytest.raises(ValueError, match=r"^algorithm\.lr=-1: expected a positive number$"):
        config.build(settings)


def test_unknown_root_keys_and_types_are_refused(composed):
    with pytest.raises(Exception, match="num_nods"):
        composed("num_nods=3")
    with pytest.raises(Exception, match="num_nodes"):
        composed("num_nodes=three")


def test_settings_of_one_file_come_through(composed):
    settings = composed("graph=random_directed", "graph.rate_low=0.25", "seed=9")
    graph = config.build(settings).graph
    assert (graph.rate_low, graph.seed, graph.num_nodes) == (0.25, 9, 16)


def test_a_model_that_no_batched_products_fit_is_computed_otherwise(composed, tmp_path, one_thread):
    overrides = ["dataset=synthetic_mixture", "partition=as_given", "model=linear_binary", "num_steps=2", "num_nodes=3"]
    overrides += ["num_threads=1", "figures=false", "device=cpu"]
    run_job(Job(composed(*overrides, "compute=auto"), str(tmp_path)), World(), None)
    assert (tmp_path / "summary.json").is_file()
    with pytest.raises(ValueError, match=r"compute=batched: only models that chain Flatten, Linear and ReLU"):
        run_job(Job(composed(*overrides, "compute=batched"), str(tmp_path / "other")), World(), None)
