"""Hyper-representation: features and head against the formulas of the whole model, node by node."""

from functools import partial

import pytest
import torch
from sklearn.metrics import log_loss
from torch import nn

from simulator.compute.choice import EXECUTORS
from simulator.compute.executors import LoopExecutor, VmapExecutor
from simulator.models.logistic_regression import LogisticRegression
from simulator.models.mlp import MLP
from simulator.problems.base import Setting
from simulator.problems.hyper_representation import HyperRepresentation
from simulator.rows import ModelFunction
from simulator.testing.dealt_data import NUM_CLASSES, NUM_FEATURES, Dealt, Fixed
from tests.problems.points import assert_equal, assert_same_elsewhere, point

SIZES = ((7, 5, 4), (12, 4, 2), (3, 4, 3), (20, 6, 3))
HIDDEN = 5


class Convolutional(nn.Sequential):
    def __init__(self, *, input_shape, num_classes):
        super().__init__(
            nn.Unflatten(1, (1, 2, 2)), nn.Conv2d(1, 3, 2), nn.Flatten(), nn.Tanh(), nn.Linear(3, num_classes)
        )


class Dropping(nn.Sequential):
    def __init__(self, *, input_shape, num_classes):
        super().__init__(nn.Linear(NUM_FEATURES, 6), nn.ReLU(), nn.Dropout(0.5), nn.Linear(6, num_classes))


PERCEPTRON = partial(MLP, hidden=(HIDDEN,))


def make(*, nodes=None, model=PERCEPTRON, compute="vmap", shared_test=False, **changes):
    arguments = {"batch_size": 4, "drop_last": False, "weight_decay": 0.3, **changes}
    problem = HyperRepresentation(**arguments)
    partition = Dealt(SIZES, shared_test=shared_test)
    problem.setup(
        Setting(
            nodes=nodes or range(len(SIZES)),
            num_nodes=len(SIZES),
            seed=0,
            dtype=torch.float64,
            device=torch.device("cpu"),
            dataset=Fixed(partition.num_samples),
            partition=partition,
            build_model=model,
            compute=compute,
        )
    )
    return problem


class Truth:
    """g_i and f_i of a perceptron with one hidden layer, by their formulas."""

    def __init__(self, problem):
        partition = Dealt(SIZES)
        samples = Fixed(partition.num_samples).samples
        self.inputs, self.labels = samples.inputs, samples.labels
        self.indices, self.problem = partition.nodes, problem

    def logits(self, row, x, rows):
        first = self.inputs[rows] @ x[: HIDDEN * NUM_FEATURES].view(HIDDEN, NUM_FEATURES).T + x[-HIDDEN:]
        features = first * (first > 0)
        return features @ row[:-NUM_CLASSES].view(NUM_CLASSES, HIDDEN).T + row[-NUM_CLASSES:]

    def loss(self, row, x, rows):
        chances = torch.softmax(self.logits(row, x, rows), 1)
        return -torch.log(chances[torch.arange(len(rows)), self.labels[rows]]).mean()

    def inner(self, node, row, x, positions=slice(None)):
        decay = self.problem.weight_decay / 2 * (row * row).sum()
        return self.loss(row, x, self.indices[node].train[positions]) + decay

    def outer(self, node, row, x, positions=slice(None)):
        return self.loss(row, x, self.indices[node].valid[positions])


def derivatives(function, params, hparams):
    found = []
    for node in range(len(params)):
        row, own = params[node].clone().requires_grad_(), hparams[node].clone().requires_grad_()
        found.append(torch.autograd.grad(function(node, row, own), (row, own)))
    return [torch.stack(part) for part in zip(*found, strict=True)]


@pytest.mark.parametrize("compute", EXECUTORS)
def test_gradients_are_those_of_the_formulas(compute):
    problem = make(compute=compute)
    truth, (params, hparams, out) = Truth(problem), point(problem)
    for step in (0, 9, None):
        inner, outer = (
            [slice(None)] * 4 if step is None else problem.batch(step, outer=outer) for outer in (False, True)
        )
        expected = derivatives(lambda i, y, x, at=inner: truth.inner(i, y, x, at[i]), params, hparams)
        for found, gradient in zip(problem.inner_grads(params, hparams, step), expected, strict=True):
            assert_equal(found, gradient)
        assert_equal(problem.grad(params, hparams, step), expected[0])
        problem.add_grad_(in_place := params.clone(), in_place, hparams, step, -0.3)
        assert_equal(in_place, params - 0.3 * expected[0])
        problem.add_grad_(elsewhere := out.clone(), params, hparams, step, 0.7)
        assert_equal(elsewhere, out + 0.7 * expected[0])
        expected = derivatives(lambda i, y, x, at=outer: truth.outer(i, y, x, at[i]), params, hparams)
        for found, gradient in zip(problem.outer_grads(params, hparams, step), expected, strict=True):
            assert_equal(found, gradient)
        assert_equal(problem.outer_grad(params, hparams, step), expected[0])


@pytest.mark.parametrize("compute", ["loop", "vmap"])
def test_second_order_products_are_those_of_the_dense_hessian(compute):
    problem = make(compute=compute)
    truth, (params, hparams, vector) = Truth(problem), point(problem)
    num_params = problem.num_params
    for step in (5, None):
        positions = [slice(None)] * 4 if step is None else problem.batch(step)
        found = problem.second_order(params, hparams, vector, step)
        for node in range(4):
            hessian = torch.autograd.functional.hessian(
                lambda both, i=node, at=positions[node]: truth.inner(i, both[:num_params], both[num_params:], at),
                torch.cat([params[node], hparams[node]]),
            )
            expected = hessian[:, :num_params] @ vector[node]
            assert_equal(torch.cat([part[node] for part in found]), expected, rtol=1e-11)


@pytest.mark.parametrize("compute", ["loop", "vmap", "batched"])
def test_features_are_computed_once_while_the_hyperparameters_stay(compute, monkeypatch):
    problem = make(compute=compute)
    params, hparams, other = point(problem)
    calls = []
    kind = LoopExecutor if compute == "loop" else VmapExecutor
    original = kind.outputs
    monkeypatch.setattr(kind, "outputs", lambda *args: calls.append(1) or original(*args))

    def count(action):
        calls.clear()
        action()
        return len(calls)

    assert count(lambda: problem.grad(params, hparams, None)) == 1
    assert count(lambda: problem.grad(other, hparams, None)) == 0
    assert count(lambda: problem.outer_grad(other, hparams, None)) == 1
    assert count(lambda: problem.outer_grad(params, hparams.clone(), None)) == 0
    assert count(lambda: problem.grad(params, hparams, 3)) == 1
    assert count(lambda: problem.grad(params, hparams, 3)) == 1
    # What was kept is not a view of rows that an algorithm updates in place.
    hparams.mul_(1.5)
    assert count(lambda: problem.grad(params, hparams, None)) == 1
    assert_equal(problem.grad(params, hparams, None), problem.inner_grads(params, hparams, None)[0])


@pytest.mark.parametrize("compute", ["loop", "vmap"])
@pytest.mark.parametrize("batch_size", [4, None])
def test_dropout_is_the_same_in_both_ways_to_the_gradient(compute, batch_size):
    problem = make(model=Dropping, compute=compute, batch_size=batch_size)
    params, hparams, _ = point(problem)
    gradients = [problem.grad(params, hparams, step) for step in (0, 1, 2, None)]
    for step, gradient in zip((0, 1, 2, None), gradients, strict=True):
        assert_equal(gradient, problem.inner_grads(params, hparams, step)[0])
    assert not torch.equal(gradients[0], gradients[3])
    assert not torch.equal(gradients[0], gradients[1])


def test_any_sequential_model_with_a_linear_head_will_do():
    problem = make(model=Convolutional, compute="loop")
    assert (problem.num_hparams, problem.num_params) == (15, 12)
    params, hparams, vector = point(problem)
    for step in (1, None):
        gradient, along_hparams = problem.inner_grads(params, hparams, step)
        assert_equal(problem.grad(params, hparams, step), gradient)
        epsilon = 1e-6
        plus, minus = (problem.inner_grads(params + sign * epsilon * vector, hparams, step) for sign in (1, -1))
        found = problem.second_order(params, hparams, vector, step)
        for part, first, second in zip(found, plus, minus, strict=True):
            torch.testing.assert_close(part, (first - second) / (2 * epsilon), rtol=1e-6, atol=1e-8)
        assert along_hparams.abs().min() > 0


def test_rows_start_as_the_model_does():
    problem = make()
    whole = torch.cat([problem.init_hparams(), problem.init_params()], 1)
    assert torch.equal(whole, problem.initial_rows())
    assert problem.num_hparams + problem.num_params == whole.shape[1]
    assert whole.abs().max() > 0


def test_the_perceptron_for_mnist_has_the_known_sizes():
    parts = ModelFunction(MLP(input_shape=(1, 28, 28), num_classes=10, hidden=[200])).split_head()
    assert [part.layout.num_params for part in parts] == [157_000, 2_010]


@pytest.mark.parametrize(
    "model", [LogisticRegression, lambda **_: nn.Sequential(nn.Linear(NUM_FEATURES, 3), nn.Tanh())]
)
def test_models_without_a_linear_head_on_other_layers_are_refused(model):
    with pytest.raises(ValueError, match=r"^model \w+: a linear head on layers with parameters is needed.*model=mlp$"):
        make(model=model)


def test_evaluation_is_that_of_the_whole_model():
    problem = make()
    truth, (params, hparams, _) = Truth(problem), point(problem)
    found = problem.evaluate(params, hparams)
    for node in range(4):
        for name in ("train", "valid", "test"):
            rows = getattr(truth.indices[node], name)
            logits = truth.logits(params[node], hparams[node], rows)
            labels = truth.labels[rows].numpy()
            expected = log_loss(labels, logits.softmax(1).numpy(), labels=range(NUM_CLASSES))
            assert found[f"{name}/loss"][node].item() == pytest.approx(expected, rel=1e-12)
            expected = (logits.argmax(1).numpy() == labels).mean()
            assert found[f"{name}/accuracy"][node].item() == pytest.approx(expected, rel=1e-12)
    assert torch.equal(found["outer/loss"], found["valid/loss"])


def test_equal_nodes_are_scored_once_on_a_shared_test_set(monkeypatch):
    problem = make(shared_test=True)
    params, hparams, _ = point(problem)
    expected = problem.evaluate(params, hparams)["test/loss"][2]
    calls = []
    original = EXECUTORS["loop"].logits
    monkeypatch.setattr(EXECUTORS["loop"], "logits", lambda *args: calls.append(1) or original(*args))
    alike = [rows[2].expand(4, -1).contiguous() for rows in (params, hparams)]
    found = problem.evaluate(*alike)["test/loss"]
    assert len(calls) == 4 + 4 + 1
    torch.testing.assert_close(found, expected.expand(4), rtol=0, atol=0)


def test_nodes_compute_the_same_wherever_they_are():
    whole, part = make(), make(nodes=range(1, 3))
    assert_same_elsewhere(part, whole, slice(1, 3))
