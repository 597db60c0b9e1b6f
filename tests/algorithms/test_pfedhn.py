"""pFedHN and pFedHN-PC against their authors' program written again with autograd and torch.optim."""

import json
from itertools import pairwise

import numpy as np
import pytest
import torch

import simulator
from simulator import metrics
from simulator.algorithms.hypernetworks.hub_round import HubRound, choose_nodes
from simulator.algorithms.hypernetworks.hypernetwork import Hypernetwork
from simulator.faults.message_loss import MessageLoss
from simulator.graphs.ring import Ring
from simulator.graphs.star import Star
from simulator.problems.mixture_weights import MixtureWeights
from simulator.testing.dealt_data import NUM_CLASSES, NUM_FEATURES
from tests.algorithms.hub_data import (
    CASES,
    HIDDEN,
    NUM_NODES,
    SETTINGS,
    SIZES,
    Plain,
    make,
    make_network,
    make_problem,
    run,
)

MEMBERS = np.arange(1, NUM_NODES)
NUM_FEATURE_PARAMS = (NUM_FEATURES + 1) * HIDDEN
NUM_PARAMS = NUM_FEATURE_PARAMS + (HIDDEN + 1) * NUM_CLASSES

pytestmark = pytest.mark.usefixtures("one_thread")


def chosen(algorithm, step):
    return choose_nodes(MEMBERS, algorithm.nodes_per_round, algorithm.seed, step)


@pytest.mark.slow
@pytest.mark.parametrize("private", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_rounds_are_those_of_the_authors_program(case, private):
    algorithm, problem = make(private, **CASES[case]), make_problem()
    states, _ = run(algorithm, 4, problem)
    plain = Plain({**SETTINGS, **CASES[case]}, problem, states[0], private)
    for step in range(4):
        plain.step(chosen(algorithm, step), step)
        found = states[step + 1]
        torch.testing.assert_close(found["hub/hypernetwork"][0], plain.net.row(), rtol=1e-9, atol=1e-10)
        torch.testing.assert_close(found["hub/embeddings"][0], plain.embeddings.detach(), rtol=1e-9, atol=1e-10)
        if private:
            torch.testing.assert_close(found["private_heads"], plain.private_rows(), rtol=1e-9, atol=1e-10)
    assert (states[4]["hub/hypernetwork"] - states[0]["hub/hypernetwork"]).abs().max() > 1e-3
    if case == "clipped":
        assert max(plain.norms["inner"]) > 0.3
        assert max(plain.norms["outer"]) > 0.05


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_rounds_of_which_the_hub_hears_nothing_are_no_updates(optimizer):
    changes = {"nodes_per_round": 1, "optimizer": optimizer, "outer_lr": 0.01}
    changes |= {"embedding_lr": None} if optimizer == "adam" else {}
    network = make_network(graph=MessageLoss(graph=Star(num_nodes=NUM_NODES), probability=0.4, seed=1))
    algorithm, problem, num_steps = make(**changes), make_problem(), 8
    states, _ = run(algorithm, num_steps, problem, network)
    plain, lost = Plain({**SETTINGS, **changes}, problem, states[0], private=False), []
    for step in range(num_steps):
        heard = HubRound(chosen(algorithm, step), step, network).senders
        lost.append(len(heard) == 0)
        if len(heard):
            plain.step(heard, step)
    assert lost[0]
    assert 1 < sum(lost) < num_steps - 2
    torch.testing.assert_close(states[-1]["hub/hypernetwork"][0], plain.net.row(), rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(states[-1]["hub/embeddings"][0], plain.embeddings.detach(), rtol=1e-9, atol=1e-10)


def test_one_plain_step_makes_the_gradient_through_the_hypernetwork():
    """K = 1, no momentum, no decay, no clipping: G is inner_lr times the gradient of the mean loss by phi and v."""
    free = {"inner_momentum": 0.0, "inner_weight_decay": 0.0, "inner_clip": 1e9, "outer_clip": 1e9, "inner_steps": 1}
    free |= {"outer_momentum": 0.0, "outer_weight_decay": 0.0, "outer_lr": 1.0, "embedding_lr": 1.0}
    algorithm, problem = make(**free), make_problem()
    states, _ = run(algorithm, 1, problem)
    plain = Plain({**SETTINGS, **free}, problem, states[0], private=False)
    losses = [plain.loss(plain.net(plain.embeddings[node - 1]), node, 0) for node in chosen(algorithm, 0)]
    (sum(losses) / len(losses)).backward()
    for parameter in plain.net.parameters():
        parameter.data = parameter.grad
    for name, expected in (("hub/hypernetwork", plain.net.row()), ("hub/embeddings", plain.embeddings.grad)):
        moved = states[0][name][0] - states[1][name][0]
        assert expected.norm() > 1e-3
        torch.testing.assert_close(moved, SETTINGS["inner_lr"] * expected, rtol=1e-9, atol=1e-12)


def test_embeddings_that_were_not_drawn_move_by_momentum_and_decay_alone():
    algorithm = make(nodes_per_round=1)
    states, _ = run(algorithm, 6)
    lr, momentum, decay = SETTINGS["embedding_lr"], SETTINGS["outer_momentum"], SETTINGS["outer_weight_decay"]
    for step, (before, after) in enumerate(pairwise(states)):
        away = ~np.isin(MEMBERS, chosen(algorithm, step))
        v, m = before["hub/embeddings"][0, away], before["hub/embeddings_momentum"][0, away]
        expected = v - lr * (momentum * m + decay * v)
        torch.testing.assert_close(after["hub/embeddings"][0, away], expected, rtol=1e-13, atol=1e-14)
        drawn = after["hub/embeddings"][0, ~away] - before["hub/embeddings"][0, ~away]
        assert drawn.abs().max() > 1e-6
    assert m.abs().max() > 1e-6
    states, _ = run(make(nodes_per_round=1, outer_momentum=0.0, outer_weight_decay=0.0), 2)
    away = ~np.isin(MEMBERS, chosen(algorithm, 0))
    assert torch.equal(states[0]["hub/embeddings"][0, away], states[1]["hub/embeddings"][0, away])


def test_forgotten_momentum_is_none():
    forgetful, _ = run(make(reset_momentum=True), 3)
    without, _ = run(make(outer_momentum=0.0), 3)
    assert not [name for name in forgetful[0] if name.endswith("momentum")]
    for name in ("hub/hypernetwork", "hub/embeddings"):
        torch.testing.assert_close(forgetful[3][name], without[3][name], rtol=0, atol=0)


def test_private_heads_start_apart_and_wait_for_their_node():
    algorithm = make(private=True, nodes_per_round=1)
    states, _ = run(algorithm, 6)
    assert len({tuple(row.tolist()) for row in states[0]["private_heads"]}) == NUM_NODES
    for step, (before, after) in enumerate(pairwise(states)):
        moved = (after["private_heads"] != before["private_heads"]).any(dim=1)
        assert np.flatnonzero(moved).tolist() == chosen(algorithm, step).tolist()
        waits = (after["private_momentum"] == before["private_momentum"]).all(dim=1)
        assert np.flatnonzero(~waits).tolist() == chosen(algorithm, step).tolist()


@pytest.mark.parametrize("private", [False, True])
@pytest.mark.parametrize("nodes_per_round", [1, 3])
def test_only_models_and_their_changes_are_sent(private, nodes_per_round):
    algorithm, num_steps = make(private, nodes_per_round=nodes_per_round), 5
    _, network = run(algorithm, num_steps)
    row_bytes = 8 * (NUM_FEATURE_PARAMS if private else NUM_PARAMS)
    ledger = network.ledger
    assert ledger.bytes == 2 * row_bytes * nodes_per_round * num_steps
    assert ledger.messages == 2 * nodes_per_round * num_steps
    times = np.bincount(np.concatenate([chosen(algorithm, step) for step in range(num_steps)]), minlength=NUM_NODES)
    assert ledger.node_received.tolist() == [row_bytes * times.sum(), *(row_bytes * times[1:])]
    edges = ledger.per_edge()
    assert ((edges["source"] == 0) ^ (edges["target"] == 0)).all()


def test_a_hub_with_data_takes_part_and_sends_nothing_to_itself():
    sizes = ((6, 2, 2), *SIZES[1:])
    problem, algorithm = make_problem(sizes), make(nodes_per_round=5)
    states, network = run(algorithm, 2, problem)
    assert states[0]["hub/embeddings"].shape == (1, NUM_NODES, 2)
    assert network.ledger.bytes == 2 * 2 * 8 * NUM_PARAMS * (NUM_NODES - 1)
    grown = (states[1]["hub/embeddings_momentum"] - 0.02 * states[0]["hub/embeddings"])[0].norm(dim=1)
    assert (grown > 1e-6).all()


def test_nodes_are_drawn_uniformly_and_once_per_round():
    draws = np.stack([choose_nodes(np.array([2, 3, 5, 9]), 2, seed=1, step=step) for step in range(3000)])
    assert (draws[:, 0] < draws[:, 1]).all()
    frequencies = np.array([(draws == node).sum() for node in (2, 3, 5, 9)]) / 3000
    np.testing.assert_allclose(frequencies, 0.5, atol=5 * np.sqrt(0.25 / 3000))
    repeated = (draws[1:] == draws[:-1]).all(axis=1).mean()
    assert repeated == pytest.approx(1 / 6, abs=5 * np.sqrt(5 / 36 / 3000))


@pytest.mark.parametrize("private", [False, True])
def test_an_evaluation_makes_every_model_once(private, monkeypatch):
    algorithm, problem, network = make(private), make_problem(), make_network()
    (*_, state), _ = run(algorithm, 3, problem, network)
    made, generate = [], Hypernetwork.generate

    def counted(self, row, embeddings):
        made.append(len(embeddings))
        return generate(self, row, embeddings)

    monkeypatch.setattr(Hypernetwork, "generate", counted)
    before = network.ledger.state_dict()
    evaluation = metrics.evaluate(algorithm, state, 3, problem, network)
    assert made == [NUM_NODES]
    assert network.ledger.state_dict() == before
    embeddings = state["hub/embeddings"][0]
    expected = generate(
        algorithm.generator(problem).hypernetwork,
        state["hub/hypernetwork"][0],
        torch.cat([embeddings.mean(0, keepdim=True), embeddings]),
    )[0]
    if private:
        expected = torch.cat([expected, state["private_heads"]], dim=1)
    found = algorithm.estimate(algorithm.prepare_evaluation(state, problem, network))
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-13)
    assert (found[2:] - found[1]).norm(dim=1).min() > 1e-3
    scores = problem.evaluate(expected, problem.init_hparams())["test/accuracy"]
    torch.testing.assert_close(evaluation.per_node["test/accuracy"], scores, equal_nan=True)
    assert torch.isnan(scores).tolist() == [True] + [False] * 4
    counts = np.array([sizes[2] for sizes in SIZES[1:]])
    known = scores[1:].numpy()
    numbers = evaluation.numbers
    assert numbers["test/accuracy_weighted"] == pytest.approx((known * counts).sum() / counts.sum(), rel=1e-12)
    assert numbers["test/accuracy_std"] == pytest.approx(known.std(), rel=1e-12)


def test_sizes_are_reported():
    algorithm, problem, network = make(private=True), make_problem(), make_network()
    (*_, state), _ = run(algorithm, 1, problem, network)
    report = algorithm.report(state, 0, problem, network)
    assert report.numbers["hypernetwork/num_params"] == state["hub/hypernetwork"].numel() + 4 * 2
    assert report.numbers["target/num_params"] == NUM_FEATURE_PARAMS
    assert report.numbers["private/num_params"] == NUM_PARAMS - NUM_FEATURE_PARAMS
    assert report.numbers["comm/bytes_per_evaluation"] == 4 * 8 * NUM_FEATURE_PARAMS
    np.testing.assert_array_equal(report.arrays["embeddings"], state["hub/embeddings"][0].numpy())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"nodes_per_round": 0}, "nodes_per_round=0"),
        ({"optimizer": "lion"}, "expected sgd or adam"),
        ({"optimizer": "adam"}, "one learning rate"),
        ({"embedding_dim": 0}, "embedding_dim=0"),
        ({"outer_momentum": 1.0}, r"outer_momentum=1.0: expected a number in \[0, 1\)"),
        ({"inner_weight_decay": -1.0}, "inner_weight_decay=-1.0: expected at least 0"),
        ({"num_hidden": -1}, "num_hidden=-1"),
    ],
)
def test_settings_out_of_range_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        make(**changes)


def test_what_it_cannot_run_on_is_refused():
    with pytest.raises(ValueError, match="needs graph=star, and this graph is Ring"):
        make().check_graph(Ring(num_nodes=5))
    mixture = MixtureWeights(num_learners=2, batch_size=4, drop_last=False, weight_decay=0.0, outer_split="train")
    with pytest.raises(ValueError, match="algorithm=pfedhn_pc needs problem=classification"):
        make(private=True).check_problem(mixture)
    with pytest.raises(ValueError, match="only 4 nodes take part in training"):
        make(nodes_per_round=5).init(make_problem(), make_network())


@pytest.mark.slow
def test_a_process_with_the_hub_alone_gives_the_same_run(tmp_path):
    """Three nodes on three processes: the first has no data at all, and still counts and evaluates as the others."""
    words = ["algorithm=pfedhn_pc", "graph=star", "num_nodes=3", "num_steps=4"]
    words += ["algorithm.inner_steps=3", "algorithm.hidden_width=8", "algorithm.nodes_per_round=2"]
    words += ["partition=class_shards", "partition.valid_size=0.2", "model.hidden=[8]", "dtype=float64"]
    words += ["problem.sampling=uniform", "figures=false", "compute=loop", "eval_every=2", "device=cpu"]
    runs = (simulator.run(*words, folder=tmp_path / str(n), processes=n) for n in (1, 3))
    summaries = [json.loads((finished.folder / "summary.json").read_text()) for finished in runs]
    one, three = summaries
    assert one["comm/bytes"] == three["comm/bytes"] == 4 * 2 * 2 * 8 * 65 * 8
    assert one["target/num_params"] == 65 * 8
    assert three["comm/evaluation_bytes"] > 3 * one["comm/bytes_per_evaluation"] / 2
    for name in ("test/loss", "test/accuracy_weighted", "best/step", "best/test/accuracy_std", "test/loss_per_node"):
        found, expected = (np.array(summary[name], dtype=float) for summary in (three, one))
        np.testing.assert_allclose(found, expected, rtol=1e-9, err_msg=name)
    assert np.isnan(np.array(one["test/loss_per_node"], dtype=float)).tolist() == [True, False, False]
