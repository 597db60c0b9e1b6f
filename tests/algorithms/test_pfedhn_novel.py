"""Nodes that come late to pFedHN: what they learn, against autograd and torch.optim, and what is reported of them."""

import numpy as np
import pytest
import torch

from simulator.algorithms.hypernetworks.hub_round import choose_nodes
from simulator.algorithms.hypernetworks.model_generator import init_embeddings
from simulator.algorithms.hypernetworks.pfedhn_novel import PFedHNNovel, total_variation
from simulator.metrics import evaluate
from tests.algorithms.hub_data import NUM_NODES, SETTINGS, Plain, clip_, make, make_network, make_problem, run

NUM_STEPS, LATE = 3, {"num_novel_nodes": 2, "novel_rounds": 3, "nodes_per_round": 1, "outer_clip": 0.02}
NOVEL = np.array([3, 4])

pytestmark = pytest.mark.usefixtures("one_thread")


def make_novel(**changes):
    return make(kind=PFedHNNovel, **{**LATE, **changes})


@pytest.fixture
def studied():
    algorithm, problem, network = make_novel(), make_problem(), make_network()
    states, _ = run(algorithm, NUM_STEPS, problem, network)
    before = {key: rows.clone() for key, rows in states[-1].items()}
    num_bytes = network.ledger.bytes
    report = algorithm.report(states[-1], NUM_STEPS - 1, problem, network)
    assert all(torch.equal(rows, before[key]) for key, rows in states[-1].items())
    return algorithm, problem, network, states, report, network.ledger.bytes - num_bytes


def test_late_nodes_take_no_part_in_training(studied):
    algorithm, problem, network, states, *_ = studied
    assert states[0]["hub/embeddings"].shape == (1, 2, 2)
    drawn = [choose_nodes(np.array([1, 2]), 1, SETTINGS["seed"], step) for step in range(NUM_STEPS)]
    times = np.bincount(np.concatenate(drawn), minlength=NUM_NODES)
    assert algorithm.members(problem).tolist() == [1, 2]
    assert network.ledger.phases["inner"].messages == 2 * times[1:3].sum() == 2 * NUM_STEPS


def test_late_nodes_learn_their_embedding_alone(studied):
    _, problem, _, states, report, _ = studied
    settings = {**SETTINGS, **LATE}
    plain = Plain(settings, problem, states[-1], private=False)
    # Node i's embedding is row i - 1.
    start = torch.zeros(NUM_NODES - 1, 2, dtype=torch.float64)
    start[NOVEL - 1] = init_embeddings(NOVEL, 2, SETTINGS["seed"])
    plain.embeddings = torch.nn.Parameter(start.clone())
    optimizer = torch.optim.SGD(
        [plain.embeddings],
        lr=settings["embedding_lr"],
        momentum=settings["outer_momentum"],
        weight_decay=settings["outer_weight_decay"],
    )
    norms = []
    for index in range(LATE["novel_rounds"]):
        optimizer.zero_grad()
        for node in NOVEL:
            plain.train(node, NUM_STEPS + index)
        norms += [clip_([plain.embeddings.grad[node - 1]], settings["outer_clip"]) for node in NOVEL]
        optimizer.step()
    found = torch.from_numpy(report.arrays["novel_embeddings"])
    assert (found - start[NOVEL - 1]).abs().max() > 1e-3
    assert min(norms) < 0.02 < max(norms)
    torch.testing.assert_close(found, plain.embeddings.detach()[NOVEL - 1], rtol=1e-9, atol=1e-11)


def test_their_accuracy_is_compared_with_that_of_the_others(studied):
    algorithm, problem, network, states, report, num_bytes = studied
    net = algorithm.generator(problem).hypernetwork
    embeddings = torch.zeros(NUM_NODES, 2, dtype=torch.float64)
    embeddings[1:3] = states[-1]["hub/embeddings"][0]
    embeddings[NOVEL] = torch.from_numpy(report.arrays["novel_embeddings"])
    models, _ = net.generate(states[-1]["hub/hypernetwork"][0], embeddings)
    accuracy = problem.evaluate(models, problem.init_hparams())["test/accuracy"].numpy()
    numbers = report.numbers
    assert numbers["novel/nodes"] == NOVEL.tolist()
    np.testing.assert_allclose(numbers["novel/accuracy_per_node"], accuracy[NOVEL])
    assert numbers["trained/accuracy"] == pytest.approx(accuracy[1:3].mean())
    assert numbers["novel/gap"] == pytest.approx(accuracy[1:3].mean() - accuracy[NOVEL].mean())
    shares = problem.facts().label_counts[1:] / problem.facts().label_counts[1:].sum(axis=1, keepdims=True)
    for place, node in enumerate(NOVEL):
        distances = [0.5 * sum(abs(a - b) for a, b in zip(shares[node - 1], shares[j], strict=True)) for j in (0, 1)]
        assert numbers["novel/total_variation_per_node"][place] == pytest.approx(min(distances))
        assert numbers["novel/nearest_per_node"][place] == 1 + int(np.argmin(distances))
    assert num_bytes == LATE["novel_rounds"] * 2 * 2 * 8 * net.num_outputs
    assert network.ledger.phases["novel"].bytes == num_bytes


def test_only_nodes_that_were_trained_with_are_evaluated(studied):
    algorithm, problem, network, states, report, _ = studied
    found = evaluate(algorithm, states[-1], NUM_STEPS, problem, network)
    per_node = found.per_node["test/accuracy"]
    assert np.flatnonzero(~per_node.isnan()).tolist() == [1, 2]
    assert found.numbers["test/accuracy"] == pytest.approx(report.numbers["trained/accuracy"])
    sizes = problem.split_sizes()["test"][1:3]
    weighted = (per_node[1:3].numpy() * sizes).sum() / sizes.sum()
    assert found.numbers["test/accuracy_weighted"] == pytest.approx(weighted)


def test_total_variation_of_simple_distributions():
    some, others = np.array([[4, 0, 0], [1, 1, 2]]), np.array([[0, 0, 9], [2, 2, 0], [3, 0, 0]])
    np.testing.assert_allclose(total_variation(some, others), [[1.0, 0.5, 0.0], [0.5, 0.5, 0.75]])


def test_late_nodes_are_drawn(studied, tmp_path):
    *_, report, _ = studied
    path = report.figures["novel_nodes"](tmp_path / "novel_nodes.png")
    assert path is not None
    assert path.stat().st_size > 5000
    assert set(report.figures) == {"embeddings", "novel_nodes"}


@pytest.mark.parametrize("name", ["num_novel_nodes", "novel_rounds"])
def test_nothing_late_is_refused(name):
    with pytest.raises(ValueError, match=f"algorithm.{name}=0"):
        make_novel(**{name: 0})
    with pytest.raises(ValueError, match="nodes_per_round=3: only 2 nodes take part in training"):
        make_novel(nodes_per_round=3).init(make_problem(), make_network())
    with pytest.raises(ValueError, match="num_novel_nodes=4: only 4 nodes have training samples"):
        make_novel(num_novel_nodes=4).init(make_problem(), make_network())
