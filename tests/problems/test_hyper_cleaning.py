"""Hyper-cleaning: which labels are wrong, and gradients by the formulas in which x holds the samples of all nodes."""

import numpy as np
import pytest
import torch

from simulator.compute.choice import EXECUTORS
from simulator.models.logistic_regression import LogisticRegression
from simulator.problems.base import Setting
from simulator.problems.hyper_cleaning import HyperCleaning
from simulator.testing.dealt_data import NUM_CLASSES, NUM_FEATURES, Dealt, Fixed
from tests.problems.points import assert_equal, assert_same_elsewhere, point

SIZES = ((7, 5, 4), (12, 4, 2), (3, 4, 3), (20, 6, 3))
FIRST = (0, 7, 19, 22)


def make(*, sizes=SIZES, nodes=None, compute="vmap", seed=0, **changes):
    arguments = {"batch_size": 4, "drop_last": False, "weight_decay": 0.3, "corruption": 0.4, **changes}
    problem = HyperCleaning(**arguments)
    partition = Dealt(sizes)
    problem.setup(
        Setting(
            nodes=nodes or range(len(sizes)),
            num_nodes=len(sizes),
            seed=seed,
            dtype=torch.float64,
            device=torch.device("cpu"),
            dataset=Fixed(partition.num_samples),
            partition=partition,
            build_model=LogisticRegression,
            compute=compute,
        )
    )
    return problem


def inner(problem, node, row, x, positions=None):
    """g_i by its formula."""
    split, positions = problem.data.train, np.arange(SIZES[node][0]) if positions is None else positions
    rows = split.offsets[node] + positions
    logits = split.inputs[rows] @ row[:-NUM_CLASSES].view(NUM_CLASSES, NUM_FEATURES).T + row[-NUM_CLASSES:]
    losses = -torch.log(torch.softmax(logits, 1)[torch.arange(len(rows)), split.labels[rows]])
    weights = 1 / (1 + torch.exp(-x[FIRST[node] + positions]))
    return (weights * losses).mean() + problem.weight_decay / 2 * (row * row).sum()


@pytest.mark.parametrize("compute", EXECUTORS)
def test_gradients_are_those_of_the_formula(compute):
    problem = make(compute=compute)
    params, hparams, out = point(problem)
    assert problem.num_hparams == 42
    for step in (0, 9, None):
        positions = [None] * 4 if step is None else problem.batch(step)
        found = problem.inner_grads(params, hparams, step)
        problem.add_grad_(added := out.clone(), params, hparams, step, -0.3)
        problem.add_grad_(in_place := params.clone(), in_place, hparams, step, -0.3)
        for node in range(4):
            row, x = params[node].clone().requires_grad_(), hparams[node].clone().requires_grad_()
            expected = torch.autograd.grad(inner(problem, node, row, x, positions[node]), (row, x))
            for part, gradient in zip(found, expected, strict=True):
                assert_equal(part[node], gradient)
            assert_equal(added[node], out[node] - 0.3 * expected[0])
            assert_equal(in_place[node], params[node] - 0.3 * expected[0])
    own = torch.zeros(4, 42, dtype=torch.bool)
    for node, (start, (size, _, _)) in enumerate(zip(FIRST, SIZES, strict=True)):
        own[node, start : start + size] = True
    along_hparams = problem.inner_grads(params, hparams, None)[1]
    assert torch.equal(along_hparams != 0, own)


@pytest.mark.parametrize("compute", ["loop", "vmap"])
def test_second_order_products_are_those_of_the_dense_hessian(compute):
    problem = make(compute=compute)
    params, hparams, vector = point(problem)
    num_params = problem.num_params
    for step in (5, None):
        positions = [None] * 4 if step is None else problem.batch(step)
        found = problem.second_order(params, hparams, vector, step)
        for node in range(4):
            hessian = torch.autograd.functional.hessian(
                lambda both, i=node, at=positions[node]: inner(problem, i, both[:num_params], both[num_params:], at),
                torch.cat([params[node], hparams[node]]),
            )
            expected = hessian[:, :num_params] @ vector[node]
            assert_equal(torch.cat([part[node] for part in found]), expected, rtol=1e-11)


def test_the_outer_objective_is_the_plain_loss_of_clean_samples():
    problem = make()
    params, hparams, _ = point(problem)
    samples, indices = Fixed(Dealt(SIZES).num_samples).samples, Dealt(SIZES).nodes
    along_params, along_hparams = problem.outer_grads(params, hparams)
    assert not along_hparams.any()
    values = problem.evaluate(params, hparams)
    for node in range(4):
        row, rows = params[node].clone().requires_grad_(), indices[node].valid
        logits = samples.inputs[rows] @ row[:-NUM_CLASSES].view(NUM_CLASSES, NUM_FEATURES).T + row[-NUM_CLASSES:]
        loss = torch.nn.functional.cross_entropy(logits, samples.labels[rows])
        assert_equal(along_params[node], torch.autograd.grad(loss, row)[0])
        assert_equal(values["outer/loss"][node], loss.detach())
    assert_equal(problem.outer_grad(params, hparams), along_params)


@pytest.mark.parametrize("corruption", [0.0, 0.29, 0.4, 1.0])
def test_a_share_of_every_nodes_labels_is_wrong(corruption):
    sizes = ((100, 2, 1), (50, 2, 1), (50, 2, 1), (7, 2, 1))
    problem = make(sizes=sizes, corruption=corruption)
    truth = Fixed(Dealt(sizes).num_samples).samples.labels
    split = problem.data.train
    for node, (offset, size) in enumerate(zip(split.offsets, split.sizes, strict=True)):
        right = truth[Dealt(sizes).nodes[node].train]
        wrong = (split.labels[offset : offset + size] != right).numpy()
        assert wrong.sum() == int(corruption * size + 1e-9)
        np.testing.assert_array_equal(wrong, problem.is_corrupted[offset : offset + size])
    assert set(split.labels.tolist()) <= set(range(NUM_CLASSES))
    if 0 < corruption < 1:
        assert (problem.is_corrupted[100:150] != problem.is_corrupted[150:200]).any()
    rows = np.concatenate([indices.valid for indices in Dealt(sizes).nodes])
    assert torch.equal(problem.data.valid.labels, truth[rows])


def test_wrong_labels_are_a_function_of_the_seed_and_the_node():
    whole, again, other, part = make(), make(), make(seed=1), make(nodes=range(1, 3))
    assert torch.equal(whole.data.train.labels, again.data.train.labels)
    assert not torch.equal(whole.data.train.labels, other.data.train.labels)
    assert torch.equal(part.data.train.labels, whole.data.train.labels[7:22])
    assert_same_elsewhere(part, whole, slice(1, 3))


def test_evaluation_tells_the_weights_of_right_and_wrong_labels():
    problem = make()
    params, hparams = problem.init_params(), problem.init_hparams()
    assert not hparams.any()
    for node, start in enumerate(FIRST):
        size, offset = SIZES[node][0], problem.data.train.offsets[node]
        is_wrong = torch.from_numpy(problem.is_corrupted[offset : offset + size])
        hparams[node, start : start + size] = torch.where(is_wrong, -1.0, 2.0).double()
    values = problem.evaluate(params, hparams)
    assert values["train/weight_of_clean"].tolist() == pytest.approx([1 / (1 + np.exp(-2.0))] * 4)
    assert values["train/weight_of_corrupted"].tolist() == pytest.approx([1 / (1 + np.exp(1.0))] * 4)
    clean = make(corruption=0.0)
    assert torch.isnan(clean.evaluate(params, hparams)["train/weight_of_corrupted"]).all()


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match=r"problem.corruption=1.5: must be in \[0, 1\]"):
        make(corruption=1.5)
    with pytest.raises(ValueError, match="partition: node 1 gets no validation sample"):
        make(sizes=((3, 2, 1), (3, 0, 1)))
    with pytest.raises(ValueError, match="HyperCleaning cannot be computed for several runs at once"):
        make().replicate([0, 1])
