"""What predicts the loss, from made-up run folders whose losses were made from n_W at a known gamma."""

import csv
import functools
import json

import numpy as np
import pytest
import yaml

from scripts import topology_correlation
from simulator.topology.neighbors import doubling_num_neighbors

NUM_NODES, GAMMA, SEEDS, LRS = 16, 0.9, (0, 1), (0.1, 0.2, 0.4)
GRAPHS = ("solo", "ring", "hypercube", "one_peer_exponential", "fully_connected")
SMALL = ("experiment=topology_training", "dataset=synthetic_mixture", "dataset.num_train=40")


def neighbors(graph, num_nodes=NUM_NODES):
    """n_W(GAMMA) in closed form: from the eigenvalues of circulant graphs, and for powers of two."""
    if graph == "one_peer_exponential":
        return doubling_num_neighbors(num_nodes, GAMMA)
    frequencies = np.arange(num_nodes)
    values = {
        "solo": np.ones(num_nodes),
        "ring": (1 + 2 * np.cos(2 * np.pi * frequencies / num_nodes)) / 3,
        "hypercube": np.array([1 - 2 * bin(k).count("1") / (1 + np.log2(num_nodes)) for k in frequencies]),
        "fully_connected": (frequencies == 0).astype(float),
    }[graph]
    return 1 / ((1 - GAMMA) * np.mean(values**2 / (1 - GAMMA * values**2)))


def loss(num_neighbors):
    return 2.0 - 0.4 * float(np.log2(num_neighbors))


@functools.cache
def yaml_of(composed, *overrides):
    return yaml.safe_dump(composed(*SMALL, *overrides))


def settings_of(composed, *overrides):
    return yaml.safe_load(yaml_of(composed, *overrides))


def write(composed, folder, graph, lr, seed, *, num_nodes=NUM_NODES, value=None, megabytes=8.0, overrides=(), **extra):
    settings = settings_of(composed, f"graph={graph}", f"num_nodes={num_nodes}", *overrides)
    settings["algorithm"]["lr"] = lr
    settings["seed"] = settings["graph"]["seed"] = seed
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    best = loss(neighbors(graph, num_nodes)) if value is None else value
    # Best at 0.2, and the seeds differ by 0.02 about the mean; half way the loss is larger by 1.
    end = best + 5 * abs(lr - 0.2) + (seed - 0.5) * 0.02
    sent = 0.0 if graph == "solo" else megabytes * 1e6
    summary = {"step": 200, "train/loss": end, "test/accuracy": 0.5, "comm/bytes": sent, **extra}
    records = [{"step": 0, "train/loss": 3.0, "comm/bytes": 0}]
    records += [{"step": 100, "train/loss": end + 1, "test/accuracy": 0.4, "comm/bytes": sent / 2}, summary]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    (folder / "summary.json").write_text(json.dumps(summary))


@pytest.fixture(scope="module")
def sweep(composed, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweep")
    for seed in SEEDS:
        for lr in LRS:
            for graph in GRAPHS:
                write(composed, folder / f"{graph}_{lr}_{seed}", graph, lr, seed,
                      megabytes=2.0 if graph == "one_peer_exponential" else 8.0)  # fmt: skip
        write(composed, folder / f"reference_{seed}", "fully_connected", 0.2, seed, num_nodes=4)
    return folder


def study(folder, output, *options):
    assert topology_correlation.main([str(folder), "--output", str(output), *options]) == 0
    with (output / "table.csv").open() as file:
        lines = {(line["graph"].partition(",")[0], int(line["nodes"])): line for line in csv.DictReader(file)}
    return lines, json.loads((output / "numbers.json").read_text())


@pytest.mark.slow
def test_the_decay_and_the_ranks(sweep, tmp_path):
    lines, numbers = study(sweep, tmp_path / "out", "--gamma", "0.5")
    assert numbers["fit/gamma"] == pytest.approx(GAMMA, abs=1e-4)
    assert numbers["fit/error"] < 1e-4
    assert numbers["fit/reference"] == pytest.approx({"1": 2.0, "4": 1.2, "16": 0.4})
    assert numbers["graphs"] == 5
    assert numbers["rank_correlation/effective_num_neighbors@gamma=fitted"] == pytest.approx(-1.0)
    assert numbers["rank_correlation/spectral_gap"] > -1.0  # that of one_peer_exponential is 1, as of exact averaging
    assert numbers["learning_rates_at_end_of_grid"] == []
    for graph in ("solo", "ring", "hypercube", "one_peer_exponential"):
        line = lines[graph, 16]
        assert float(line["best lr"]) == 0.2
        assert float(line["train/loss"]) == pytest.approx(loss(neighbors(graph)))
        assert float(line["std. error"]) == pytest.approx(0.01)
        assert float(line["n_W(fitted)"]) == pytest.approx(neighbors(graph), rel=1e-3)
        assert line["seeds"] == "2"
    assert float(lines["ring", 16]["spectral gap"]) == pytest.approx((2 - 2 * np.cos(np.pi / 8)) / 3)
    assert float(lines["fully_connected", 4]["train/loss"]) == pytest.approx(loss(4))
    assert len(lines) == 6
    first = (tmp_path / "out" / "table.md").read_text().splitlines()[2]
    assert first.startswith("| fully_connected, num_nodes=16 | 16 | 0.2 | 0.4 ± 0.01 |")
    for name in ("against_neighbors", "against_gap", "against_learning_rate", "against_bytes"):
        assert (tmp_path / "out" / f"{name}.png").stat().st_size > 10_000


@pytest.mark.slow
def test_settings_may_be_ignored(composed, tmp_path, capsys):
    for seed in SEEDS:
        for graph in ("solo", "ring"):
            decay = f"problem.weight_decay={seed}"
            write(composed, tmp_path / "in" / f"{graph}{seed}", graph, 0.2, seed, overrides=[decay])
    lines, _ = study(tmp_path / "in", tmp_path / "out", "--ignore", "problem.weight_decay,problem.drop_last")
    assert {line["seeds"] for line in lines.values()} == {"2"}
    assert topology_correlation.main([str(tmp_path / "in"), "--output", str(tmp_path / "no")]) == 1
    assert "both average 1 nodes exactly" in capsys.readouterr().err


@pytest.mark.slow
def test_equal_bytes(sweep, tmp_path):
    """What sent 2 MB is at its end, what sent 8 MB at its start, and of 4 MB half way; who sends nothing always."""
    for option, losses in (("least", (0.0, 3.0)), ("1", (1.0, 3.0))):
        lines, numbers = study(sweep, tmp_path / option, "--megabytes", option)
        assert numbers["fit/gamma"] is None
        mean = loss(neighbors("one_peer_exponential"))
        assert float(lines["one_peer_exponential", 16]["train/loss"]) == pytest.approx(mean + losses[0])
        assert float(lines["ring", 16]["train/loss"]) == losses[1]
        assert float(lines["solo", 16]["train/loss"]) == pytest.approx(2.0)


@pytest.mark.slow
def test_another_metric_may_choose_and_diverged_learning_rates_do_not_compete(composed, tmp_path):
    for graph, accuracy in (("ring", 0.5), ("fully_connected", 0.9)):
        for lr, score, value in ((0.1, 0.2, 0.8), (0.2, 0.1, 0.5), (0.4, float("nan"), 0.1)):
            write(composed, tmp_path / "in" / f"{graph}{lr}", graph, lr, 0, value=score - 5 * abs(lr - 0.2),
                  **{"test/accuracy": accuracy * value})  # fmt: skip
    options = ("--metric", "test/accuracy", "--choose-by", "train/loss")
    lines, numbers = study(tmp_path / "in", tmp_path / "out", *options)
    assert {float(line["best lr"]) for line in lines.values()} == {0.2}
    assert float(lines["fully_connected", 16]["test/accuracy"]) == pytest.approx(0.45)
    assert numbers["rank_correlation/effective_num_neighbors@gamma=0.951"] == pytest.approx(1.0)
    assert (numbers["fit/gamma"], numbers["fit/reference"]) == (None, {"16": pytest.approx(0.45)})
    lines, numbers = study(tmp_path / "in", tmp_path / "again", "--metric", "test/accuracy")
    assert {float(line["best lr"]) for line in lines.values()} == {0.1}
    assert numbers["learning_rates_at_end_of_grid"] == ["fully_connected", "ring"]
    assert "| 0.1* |" in (tmp_path / "again" / "table.md").read_text()


@pytest.mark.slow
def test_graphs_that_follow_the_labels_are_built_from_the_data(composed, tmp_path):
    skew = ("partition=class_skew", "num_steps=1", "problem.batch_size=2")
    for graph in ("d_cliques", "erdos_renyi"):
        for seed in SEEDS:
            write(composed, tmp_path / "in" / f"{graph}{seed}", graph, 0.2, seed, value=1.0, overrides=skew)
    lines, _ = study(tmp_path / "in", tmp_path / "out")
    assert {label for label, _ in lines} == {"d_cliques", "erdos_renyi"}
    assert all(1.5 < float(line["n_W(0.951)"]) < 16 for line in lines.values())


def test_what_is_wrong_is_one_line(composed, sweep, tmp_path, capsys):
    def refusal(*arguments):
        assert topology_correlation.main([*map(str, arguments), "--output", str(tmp_path / "out")]) == 1
        return capsys.readouterr().err

    assert "there is no run below it" in refusal(tmp_path)
    assert "no valid/loss among its metrics" in refusal(sweep, "--metric", "valid/loss")
    assert "sent only 2" in refusal(sweep, "--megabytes", "3")
    write(composed, tmp_path / "one" / "a", "ring", 0.2, 0)
    assert "1 schedules of 16 nodes: expected two or more" in refusal(tmp_path / "one")
    write(composed, tmp_path / "one" / "b", "fully_connected", 0.2, 0)
    write(composed, tmp_path / "one" / "c", "fully_connected", 0.2, 0, overrides=["problem.batch_size=3"])
    assert "both average 16 nodes exactly" in refusal(tmp_path / "one")
    assert not (tmp_path / "out").exists()
