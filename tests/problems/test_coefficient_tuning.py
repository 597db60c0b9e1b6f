"""Coefficient tuning against its formulas, on dense and on sparse features."""

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, log_loss

from simulator.problems.base import Setting
from simulator.problems.coefficient_tuning import CoefficientTuning
from simulator.testing.dealt_data import NUM_CLASSES, NUM_FEATURES, Dealt, Fixed
from tests.problems.points import assert_equal, assert_same_elsewhere, point

SIZES = ((7, 5, 4), (12, 4, 2), (3, 4, 3), (20, 6, 3))


def make(*, sizes=SIZES, nodes=None, sparse=False, shared_test=False, dtype=torch.float64, **changes):
    arguments = {
        "batch_size": 4,
        "drop_last": False,
        "regularization": 0.7,
        "scale_regularization": True,
        "outer_regularization": 0.2,
        **changes,
    }
    problem = CoefficientTuning(**arguments)
    partition = Dealt(sizes, shared_test=shared_test)
    problem.setup(
        Setting(
            nodes=nodes or range(len(sizes)),
            num_nodes=len(sizes),
            seed=0,
            dtype=dtype,
            device=torch.device("cpu"),
            dataset=Fixed(partition.num_samples, sparse=sparse),
            partition=partition,
        )
    )
    return problem


@pytest.fixture(params=[False, True], ids=["dense", "sparse"])
def sparse(request):
    return request.param


class Truth:
    """g_i and f_i by their formulas, differentiable."""

    def __init__(self, problem, sparse):
        partition = Dealt(SIZES)
        data = Fixed(partition.num_samples, sparse=sparse)
        self.inputs, self.labels, self.indices, self.problem = data.dense, data.samples.labels, partition.nodes, problem

    def cross_entropy(self, row, rows):
        logits = self.inputs[rows] @ row.view(NUM_FEATURES, NUM_CLASSES)
        chances = torch.exp(logits) / torch.exp(logits).sum(1, keepdim=True)
        return -torch.log(chances[torch.arange(len(rows)), self.labels[rows]]).mean()

    def inner(self, node, row, x, positions=slice(None)):
        coefficient = self.problem.regularization
        if self.problem.scale_regularization:
            coefficient /= NUM_FEATURES * NUM_CLASSES
        squares = (torch.exp(x)[:, None] * row.view(NUM_FEATURES, NUM_CLASSES) ** 2).sum()
        return self.cross_entropy(row, self.indices[node].train[positions]) + coefficient / 2 * squares

    def outer(self, node, row, x, positions=slice(None)):
        penalty = self.problem.outer_regularization / 2 * (x * x).sum()
        return self.cross_entropy(row, self.indices[node].valid[positions]) + penalty


def derivatives(function, params, hparams):
    found = []
    for node in range(len(params)):
        row, own = params[node].clone().requires_grad_(), hparams[node].clone().requires_grad_()
        found.append(torch.autograd.grad(function(node, row, own), (row, own)))
    return [torch.stack(part) for part in zip(*found, strict=True)]


@pytest.mark.parametrize("scale", [True, False])
def test_gradients_are_those_of_the_formulas(sparse, scale):
    problem = make(sparse=sparse, scale_regularization=scale)
    truth, (params, hparams, _) = Truth(problem, sparse), point(problem)
    for step in (0, 1, 9, None):
        slices = {}
        for name in ("inner", "outer"):
            slices[name] = [slice(None)] * 4 if step is None else problem.batch(step, outer=name == "outer")
        assert step is None or [len(own) for own in slices["inner"]][2] == 3
        expected = derivatives(lambda i, y, x, s=slices: truth.inner(i, y, x, s["inner"][i]), params, hparams)
        for found, gradient in zip(problem.inner_grads(params, hparams, step), expected, strict=True):
            assert_equal(found, gradient)
        assert torch.equal(problem.grad(params, hparams, step), problem.inner_grads(params, hparams, step)[0])
        expected = derivatives(lambda i, y, x, s=slices: truth.outer(i, y, x, s["outer"][i]), params, hparams)
        for found, gradient in zip(problem.outer_grads(params, hparams, step), expected, strict=True):
            assert_equal(found, gradient)
        assert torch.equal(problem.outer_grad(params, hparams, step), problem.outer_grads(params, hparams, step)[0])


def test_minibatches_are_passes_in_two_independent_orders():
    problem = make(sizes=((8, 8, 1),) * 3)
    orders = [
        [np.concatenate([problem.batch(step, outer=outer)[node] for step in (0, 1)]).tolist() for node in range(3)]
        for outer in (False, True)
    ]
    assert all(sorted(order) == list(range(8)) for kind in orders for order in kind)
    assert orders[0] != orders[1]


def test_second_order_products_are_those_of_the_dense_hessian(sparse):
    problem = make(sparse=sparse)
    truth, (params, hparams, vector) = Truth(problem, sparse), point(problem)
    for step in (5, None):
        positions = [slice(None)] * 4 if step is None else problem.batch(step)
        found = problem.second_order(params, hparams, vector, step)
        for node in range(4):
            joint = torch.cat([params[node], hparams[node]])
            hessian = torch.autograd.functional.hessian(
                lambda both, i=node, at=positions[node]: truth.inner(
                    i, both[: problem.num_params], both[problem.num_params :], at
                ),
                joint,
            )
            expected = hessian[:, : problem.num_params] @ vector[node]
            assert_equal(torch.cat([part[node] for part in found]), expected, rtol=1e-11)


def test_adding_in_place_is_adding_elsewhere(sparse):
    problem = make(sparse=sparse)
    params, hparams, out = point(problem)
    for step in (0, None):
        expected = -0.3 * problem.grad(params, hparams, step)
        problem.add_grad_(elsewhere := out.clone(), params, hparams, step, -0.3)
        assert_equal(elsewhere, out + expected)
        problem.add_grad_(in_place := params.clone(), in_place, hparams, step, -0.3)
        assert_equal(in_place, params + expected)


def test_every_node_may_have_a_step_of_its_own():
    problem = make()
    params, hparams, _ = point(problem)
    found = problem.grad_at(params, hparams, np.array([0, 2, -1, 4]))
    for node, step in ((0, 0), (1, 2), (3, 4)):
        assert_equal(found[node], problem.grad(params, hparams, step)[node])
    assert problem.epoch_lengths().tolist() == [2, 3, 1, 5]
    assert problem.sample_counts().tolist() == [7, 12, 3, 20]


def test_evaluation_is_that_of_scikit_learn(sparse):
    problem = make(sparse=sparse)
    truth, (params, hparams, _) = Truth(problem, sparse), point(problem)
    found = problem.evaluate(params, hparams)
    for node in range(4):
        for name in ("train", "valid", "test"):
            rows = getattr(truth.indices[node], name)
            scores = truth.inputs[rows].numpy() @ params[node].numpy().reshape(NUM_FEATURES, NUM_CLASSES)
            chances = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
            labels = truth.labels[rows].numpy()
            expected = log_loss(labels, chances, labels=range(NUM_CLASSES))
            assert found[f"{name}/loss"][node].item() == pytest.approx(expected, rel=1e-12)
            expected = accuracy_score(labels, scores.argmax(1))
            assert found[f"{name}/accuracy"][node].item() == pytest.approx(expected, rel=1e-12)
        expected = truth.outer(node, params[node], hparams[node]).item()
        assert found["outer/loss"][node].item() == pytest.approx(expected, rel=1e-12)


def test_equal_nodes_are_scored_once_on_a_shared_test_set(monkeypatch, sparse):
    problem = make(sparse=sparse, shared_test=True)
    params = point(problem)[0]
    calls = []
    original = type(problem._test)._logits
    monkeypatch.setattr(type(problem._test), "_logits", lambda *args: calls.append(1) or original(*args))
    different = problem._test.score(params)
    assert len(calls) == 4
    mean = params.mean(0).expand(4, -1).contiguous()
    alike = problem._test.score(mean)
    assert len(calls) == 5
    for part in alike:
        torch.testing.assert_close(part, part[:1].expand(4), rtol=0, atol=0)
    params[2] = mean[0]
    again = problem._test.score(params)
    assert again[0][2] == alike[0][0]
    assert again[0][3] == different[0][3]


def test_nodes_compute_the_same_wherever_they_are(sparse):
    whole, part = make(sparse=sparse), make(sparse=sparse, nodes=range(1, 3))
    assert_same_elsewhere(part, whole, slice(1, 3))


def test_sparse_features_in_single_precision_stay_so(sparse):
    problem = make(sparse=sparse, dtype=torch.float32)
    params, hparams = problem.init_params(), problem.init_hparams()
    assert (params.shape, hparams.shape) == ((4, 12), (4, 4))
    assert problem.grad(params, hparams, None).dtype == torch.float32
    assert (problem._train._dense is None) is sparse


def test_a_node_without_validation_samples_is_an_error():
    with pytest.raises(ValueError, match=r"partition: node 1 gets no validation sample"):
        make(sizes=((3, 2, 1), (3, 0, 1)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 0}, "problem.batch_size=0: expected a positive number"),
        ({"regularization": 0.0}, "problem.regularization=0.0: expected a positive number"),
        ({"outer_regularization": -1.0}, "problem.outer_regularization=-1.0: must not be negative"),
    ],
)
def test_bad_arguments_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        make(**change)
