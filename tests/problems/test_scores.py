"""Losses and accuracies in blocks of nodes and samples, against one sample after the other in float64."""

from functools import partial

import numpy as np
import pytest
import torch

from simulator.compute.choice import EXECUTORS
from simulator.data.base import Split
from simulator.models.cnn_mnist import CnnMnist
from simulator.models.mlp import MLP
from simulator.problems import scores
from simulator.problems.heads import CrossEntropy, MixedLearners, ScaledLogits
from simulator.problems.scores import score
from simulator.rows import ModelFunction
from simulator.simulation import Simulation

NUM_CLASSES = 3
SIZES = {
    "own": [5, 0, 70, 33, 1, 64, 12],
    "equal": [40] * 7,
    "shared": [50] * 7,
    "two_sets": [50, 20, 50, 50, 20, 0, 31],
}


def split_of(kind, shape):
    draw = torch.Generator().manual_seed(1)
    sizes = np.array(SIZES[kind])
    offsets = np.zeros(7, np.int64) if kind == "shared" else np.cumsum(sizes) - sizes
    if kind == "two_sets":
        offsets = np.array([0, 50, 0, 0, 50, 999, 70])
    count = max(int((offsets + sizes)[sizes > 0].max()), 1)
    inputs = torch.randn(count, *shape, generator=draw)
    return Split(inputs, torch.randint(NUM_CLASSES, (count,), generator=draw), offsets, sizes)


def by_sample(function, head, split, params, hparams):
    """Mean loss and accuracy of every node, one model in float64 after the other."""
    found = np.full((2, len(params)), np.nan)
    for node in range(len(params)):
        inputs, labels = split.of(node)
        if len(labels) == 0:
            continue
        learners = params[node].double().view(head.num_learners, -1)
        logits = [function([v[0] for v in function.layout.views(row[None])], inputs.double()) for row in learners]
        scored = head.predict(logits[0] if len(logits) == 1 else torch.stack(logits), hparams[node].double())
        found[0, node] = -scored[torch.arange(len(labels)), labels].mean()
        found[1, node] = (scored.argmax(1) == labels).double().mean()
    return found


HEADS = {"plain": (CrossEntropy(), 0), "scaled": (ScaledLogits(), NUM_CLASSES), "mixed": (MixedLearners(2), 2)}
CASES = [("mlp", executor, head) for executor in EXECUTORS for head in HEADS]
CASES += [("cnn", executor, "plain") for executor in ("loop", "vmap", "chunked")]


@pytest.mark.parametrize(("model", "executor", "head"), CASES)
@pytest.mark.parametrize("kind", SIZES)
@pytest.mark.parametrize("block", [16, 2048])
def test_scores_are_those_of_sample_after_sample(monkeypatch, model, executor, head, kind, block):
    monkeypatch.setattr(scores, "EVALUATION_BLOCK", block)
    monkeypatch.setattr(scores, "_SAMPLES_AT_ONCE", 7 * block)
    monkeypatch.setattr(scores, "_NODES_AT_ONCE", 5)
    shape = (1, 28, 28) if model == "cnn" else (1, 3, 3)
    build = CnnMnist if model == "cnn" else partial(MLP, hidden=[6])
    torch.manual_seed(0)
    function = ModelFunction(build(input_shape=shape, num_classes=NUM_CLASSES))
    loss, num_hparams = HEADS[head]
    params = 0.3 * torch.randn(7, function.layout.num_params * loss.num_learners)
    hparams = torch.randn(7, num_hparams)
    params[3], hparams[3] = params[0], hparams[0]  # evaluated once where they hold the same samples
    split = split_of(kind, shape)
    found = np.stack([part.numpy() for part in score(EXECUTORS[executor](function, loss), split, params, hparams)])
    expected = by_sample(function, loss, split, params, hparams)
    np.testing.assert_allclose(found[0], expected[0], rtol=2e-5)
    held = split.sizes * expected[1]
    np.testing.assert_array_equal(np.round(found[1] * split.sizes, 3), np.round(held, 3))
    if kind in ("shared", "two_sets"):
        assert (found[:, 0] == found[:, 3]).all()


def test_nodes_that_agree_are_computed_once():
    """Three models that differ on one test set, among seven nodes."""
    function = ModelFunction(MLP(input_shape=(1, 3, 3), num_classes=NUM_CLASSES, hidden=[6]))
    rows = torch.randn(3, function.layout.num_params)
    params = rows[[0, 0, 1, 0, 2, 1, 0]]
    executor = EXECUTORS["loop"](function, CrossEntropy())
    calls, logits_of = [], executor.logits_of
    executor.logits_of = lambda params, *rest, **more: calls.append(len(params)) or logits_of(params, *rest, **more)
    loss, _ = score(executor, split_of("shared", (1, 3, 3)), params, params.new_zeros(7, 0))
    assert len(set(loss.tolist())) == 3
    # Those that differ from the first node are computed for themselves.
    assert calls == [1, 1, 1, 1]


@pytest.mark.parametrize("problem", ["classification", "hyper_cleaning"])
def test_the_training_set_is_evaluated_at_the_ends_only(composed, problem):
    """What is evaluated in between is what it is otherwise, without the training set."""
    data = [f"problem={problem}", "algorithm=sgp", "num_nodes=4", "dataset=digits", "compute=loop", "device=cpu"]
    always, ends = (Simulation.build(composed(*data, f"evaluate_train={when}")) for when in ("always", "ends"))
    state = always.init()
    for step, is_last in ((0, False), (1, False), (2, True)):
        expected = always.evaluate(state, step, is_last=is_last).numbers
        found = ends.evaluate(state, step, is_last=is_last).numbers
        if step == 1:
            left_out = [name for name in expected if name.startswith(("train/loss", "train/accuracy"))]
            assert "train/loss" in left_out
            expected = {name: value for name, value in expected.items() if name not in left_out}
        assert found.keys() == expected.keys()
        assert found["test/accuracy"] == expected["test/accuracy"]


@pytest.mark.parametrize("kind", SIZES)
def test_some_samples_of_a_split_are_its_own(kind):
    split = split_of(kind, (2,))
    some = split.sample(30, 0, "evaluation/test")
    np.testing.assert_array_equal(some.sizes, np.minimum(split.sizes, 30))
    for node, size in enumerate(split.sizes):
        own, drawn = (set(map(tuple, part.of(node)[0].tolist())) for part in (split, some))
        assert drawn <= own
        assert len(drawn) == min(size, 30)
    # Nodes that hold the same samples are scored on the same ones, which are kept once.
    alike = split.offsets[:, None] == split.offsets
    both = (split.sizes[:, None] == split.sizes) & alike & (split.sizes > 0)
    assert (some.offsets[:, None] == some.offsets)[both].all()
    assert len(some.labels) == sum(min(size, 30) for _, size in set(zip(split.offsets, split.sizes, strict=True)))
    assert split.sample(None, 0, "evaluation/test") is split
    assert split.sample(70, 0, "evaluation/test") is split
    others = split.sample(30, 1, "evaluation/test")
    assert (others.inputs != some.inputs).any()


def test_an_evaluation_reads_some_samples_only(composed):
    data = ["problem=classification", "algorithm=sgp", "num_nodes=4", "dataset=digits", "partition.test=shared"]
    every, some = (Simulation.build(composed(*data, f"evaluate_samples={n}", "device=cpu")) for n in ("null", 50))
    state = every.init()
    model = every.estimate(state)
    found = some.evaluate(state, 0)
    assert found.numbers.keys() == every.evaluate(state, 0).numbers.keys()
    for name in ("train", "test"):
        split = getattr(some.problem.data, name).sample(50, 0, f"evaluation/{name}")
        expected = by_sample(some.problem.function, CrossEntropy(), split, model, model.new_zeros(4, 0))
        np.testing.assert_allclose(found.per_node[f"{name}/loss"], expected[0], rtol=2e-5)
        np.testing.assert_allclose(found.per_node[f"{name}/accuracy"], expected[1], rtol=1e-5)
    assert found.numbers["test/loss"] != every.evaluate(state, 0).numbers["test/loss"]
