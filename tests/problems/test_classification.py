"""Classification and its bilevel forms against their definitions, node by node, in float64."""

from functools import partial

import numpy as np
import pytest
import torch

from simulator.compute.choice import EXECUTORS
from simulator.models.cnn_mnist import CnnMnist
from simulator.problems.base import Setting
from simulator.problems.classification import Classification
from simulator.problems.l2_decay import L2Decay
from simulator.problems.mixture_weights import MixtureWeights

assert_equal = partial(torch.testing.assert_close, rtol=1e-12, atol=1e-12)


def oracle_gradients(function, params, hparams):
    """Gradients by node of ``function(node, row, hparams)``."""
    found = [[], []]
    for node in range(len(params)):
        row, own = params[node].clone().requires_grad_(), hparams[node].clone().requires_grad_()
        value = function(node, row, own) + 0 * row.sum() + 0 * own.sum()
        for part, gradient in zip(found, torch.autograd.grad(value, (row, own)), strict=True):
            part.append(gradient)
    return torch.stack(found[0]), torch.stack(found[1])


def positions_of(problem, step):
    """The training samples that the problem uses at a step, by node."""
    return [positions.tolist() for positions in problem.batch(step)]


@pytest.mark.parametrize("compute", EXECUTORS)
def test_gradients_are_those_of_the_definition(make, kind, point, objectives, compute):
    problem = make(kind, compute=compute)
    truth = objectives(kind, problem)
    params, hparams, _ = point(problem)
    for step in (0, 1, 7, None):
        positions = positions_of(problem, step) if step is not None else [None] * len(params)
        expected, _ = oracle_gradients(
            lambda node, row, own, positions=positions: truth.inner(node, row, own, positions[node]), params, hparams
        )
        assert_equal(problem.grad(params, hparams, step), expected)


@pytest.mark.parametrize("compute", ["loop", "vmap"])
def test_second_order_products_are_those_of_the_definition(make, kind, point, objectives, compute):
    problem = make(kind, compute=compute)
    truth = objectives(kind, problem)
    params, hparams, vector = point(problem)
    for step in (3, None):
        positions = positions_of(problem, step) if step is not None else [None] * len(params)
        expected = [[], []]
        for node in range(len(params)):
            row, own = params[node].clone().requires_grad_(), hparams[node].clone().requires_grad_()
            value = truth.inner(node, row, own, positions[node])
            (gradient,) = torch.autograd.grad(value, row, create_graph=True)
            product = (gradient * vector[node]).sum() + 0 * own.sum()
            for part, second in zip(expected, torch.autograd.grad(product, (row, own)), strict=True):
                part.append(second)
        found = problem.second_order(params, hparams, vector, step)
        for part, second in zip(found, expected, strict=True):
            assert_equal(part, torch.stack(second), rtol=1e-11)
        assert torch.equal(problem.hvp(params, hparams, vector, step), found[0])
        assert torch.equal(problem.cross_jvp(params, hparams, vector, step), found[1])


def test_the_mixed_product_is_the_difference_of_gradients(make, kind, point):
    problem = make(kind)
    params, hparams, vector = point(problem)
    found = problem.cross_jvp(params, hparams, vector, None)
    assert found.shape == (len(params), problem.num_hparams)
    epsilon = 1e-6
    for column in range(problem.num_hparams):
        shift = torch.zeros_like(hparams)
        shift[:, column] = epsilon
        change = problem.grad(params, hparams + shift, None) - problem.grad(params, hparams - shift, None)
        torch.testing.assert_close(found[:, column], (change * vector).sum(1) / (2 * epsilon), rtol=1e-6, atol=1e-8)


def test_the_hessian_product_is_the_difference_of_gradients(make, kind, point):
    problem = make(kind)
    params, hparams, vector = point(problem)
    epsilon = 1e-6
    plus, minus = (problem.grad(params + sign * epsilon * vector, hparams, 2) for sign in (1, -1))
    found = problem.hvp(params, hparams, vector, 2)
    torch.testing.assert_close(found, (plus - minus) / (2 * epsilon), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("outer_split", ["train", "valid"])
def test_outer_gradients_are_those_of_the_definition(make, kind, point, objectives, outer_split):
    problem = make(kind, outer_split=outer_split)
    params, hparams, _ = point(problem)
    truth = objectives(kind, problem)
    expected = oracle_gradients(truth.outer, params, hparams)
    for found, gradient in zip(problem.outer_grads(params, hparams), expected, strict=True):
        assert_equal(found, gradient)


@pytest.mark.parametrize("compute", EXECUTORS)
def test_both_inner_gradients_are_those_of_the_definition(make, kind, point, objectives, compute):
    problem = make(kind, compute=compute)
    truth = objectives(kind, problem)
    params, hparams, _ = point(problem)
    for step in (0, 7, None):
        positions = positions_of(problem, step) if step is not None else [None] * len(params)
        expected = oracle_gradients(
            lambda node, row, own, positions=positions: truth.inner(node, row, own, positions[node]), params, hparams
        )
        for found, gradient in zip(problem.inner_grads(params, hparams, step), expected, strict=True):
            assert_equal(found, gradient)


@pytest.mark.parametrize("outer_split", ["train", "valid"])
def test_outer_gradients_of_a_step_are_those_of_its_minibatch(make, kind, point, objectives, outer_split):
    problem = make(kind, outer_split=outer_split)
    params, hparams, _ = point(problem)
    truth = objectives(kind, problem)
    used = set()
    for step in range(4):
        (batch,) = problem._outer.batches(step, torch.float64)
        positions = [batch.index[node, :size].numpy() for node, size in enumerate(batch.sizes)]
        expected = oracle_gradients(
            lambda node, row, own, positions=positions: truth.outer(node, row, own, positions[node]), params, hparams
        )
        found = problem.outer_grads(params, hparams, step)
        for part, gradient in zip(found, expected, strict=True):
            assert_equal(part, gradient)
        assert torch.equal(problem.outer_grad(params, hparams, step), found[0])
        used.add(tuple(map(tuple, positions)))
        if outer_split == "train":
            assert [list(own) for own in positions] != positions_of(problem, step)
    assert len(used) == 4


@pytest.mark.parametrize("kind", ["l2_decay", "logit_scaling", "mixture_weights", "sample_masks"])
def test_outer_gradients_are_differences_of_the_reported_outer_loss(make, point, kind):
    problem = make(kind)
    params, hparams, vector = point(problem)
    grad_params, grad_hparams = problem.outer_grads(params, hparams)
    direction = torch.randn(hparams.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    epsilon = 1e-6
    along_params, along_hparams = (
        (
            problem.evaluate(params + epsilon * p, hparams + epsilon * h)["outer/loss"]
            - problem.evaluate(params - epsilon * p, hparams - epsilon * h)["outer/loss"]
        )
        / (2 * epsilon)
        for p, h in ((vector, 0 * direction), (0 * vector, direction))
    )
    some = torch.tensor([0, 2, 3, 4])  # node 1 has no validation sample
    torch.testing.assert_close(along_params[some], (grad_params * vector).sum(1)[some], rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(along_hparams[some], (grad_hparams * direction).sum(1)[some], rtol=1e-6, atol=1e-8)
    assert torch.isnan(along_params[1])


@pytest.mark.parametrize("compute", ["loop", "batched"])
@pytest.mark.parametrize(("alpha", "weight_decay"), [(-0.1, 0.3), (-0.1, 0.0), (-5.0, 0.3), (0.7, 1), (-0.1, 0)])
def test_adding_in_place_is_adding_elsewhere(make, kind, point, compute, alpha, weight_decay):
    problem = make(kind, compute=compute, weight_decay=weight_decay)
    params, hparams, out = point(problem)
    for step in (0, None):
        gradient = problem.grad(params, hparams, step)
        elsewhere, before = out.clone(), params.clone()
        problem.add_grad_(elsewhere, params, hparams, step, alpha)
        assert_equal(elsewhere, out + alpha * gradient)
        assert torch.equal(params, before)
        in_place = params.clone()
        problem.add_grad_(in_place, in_place, hparams, step, alpha)
        assert_equal(in_place, params + alpha * gradient)


@pytest.mark.parametrize("compute", EXECUTORS)
def test_a_full_batch_of_several_blocks_is_one_large_batch(make, kind, point, objectives, compute):
    sizes = ((1100, 2, 1), (600, 700, 1), (5, 1, 1))
    problem = make(kind, compute=compute, sizes=sizes, batch_size=None)
    assert len(list(problem.batches(None, torch.float64))) == 3
    truth = objectives(kind, problem, sizes)
    params, hparams, _ = point(problem)
    expected, _ = oracle_gradients(truth.inner, params, hparams)
    assert_equal(problem.grad(params, hparams, None), expected)
    assert_equal(problem.grad(params, hparams, 17), expected)
    in_place = params.clone()
    problem.add_grad_(in_place, in_place, hparams, 0, -0.2)
    assert_equal(in_place, params - 0.2 * expected)
    for found, gradient in zip(
        problem.outer_grads(params, hparams), oracle_gradients(truth.outer, params, hparams), strict=True
    ):
        assert_equal(found, gradient)


def test_evaluation_is_the_bare_loss_and_the_accuracy_by_node(make, kind, point, objectives):
    problem = make(kind)
    params, hparams, _ = point(problem)
    truth = objectives(kind, problem)
    values = problem.evaluate(params, hparams)
    for name in ("train", "valid", "test"):
        for node, indices in enumerate(truth.indices):
            rows = getattr(indices, name)
            loss, accuracy = values[f"{name}/loss"][node], values[f"{name}/accuracy"][node]
            if len(rows) == 0:
                assert torch.isnan(loss)
                assert torch.isnan(accuracy)
                continue
            assert_equal(loss, truth.nll(params[node], hparams[node], rows).mean())
            picked = truth.chances(params[node], hparams[node], rows).argmax(1)
            assert accuracy.item() == pytest.approx((picked == truth.labels[rows]).double().mean().item(), rel=1e-12)
    assert ("outer/loss" in values) == (problem.num_hparams > 0)
    if problem.num_hparams:
        assert_equal(values["outer/loss"][3], truth.outer(3, params[3], hparams[3]))


def test_hyperparameters_start_where_the_problem_is_the_plain_one(make, kind, objectives):
    problem = make(kind, weight_decay=0.0)
    params, hparams = problem.init_params(), problem.init_hparams()
    counts = {"classification": 0, "l2_decay": 1, "logit_scaling": 3, "mixture_weights": 3, "sample_masks": 20}
    assert hparams.shape == (5, counts[kind])
    assert problem.num_hparams == counts[kind]
    truth = objectives(kind, problem)
    losses = problem.evaluate(params, hparams)["train/loss"]
    for node in range(5):
        assert_equal(losses[node], truth.inner(node, params[node], hparams[node]))


def test_all_nodes_start_alike_from_the_seed_alone(make, kind):
    torch.manual_seed(11)
    params = make(kind).init_params()
    assert (params == params[0]).all()
    torch.manual_seed(12)
    assert torch.equal(make(kind, nodes=range(2, 4)).init_params(), params[2:4])
    assert not torch.equal(make(kind, seed=1).init_params(), params)
    assert params.dtype == torch.float64
    params[0] += 1  # rows are separate
    assert not torch.equal(params[0], params[1])
    if kind == "mixture_weights":
        first, second, third = params[1].chunk(3)
        assert not torch.equal(first, second)
        assert not torch.equal(second, third)


def test_nodes_compute_the_same_wherever_they_are(make, kind, point):
    whole = make(kind)
    params, hparams, vector = point(whole)
    for nodes in (range(2), range(1, 4), range(4, 5)):
        part, here = make(kind, nodes=nodes), slice(nodes.start, nodes.stop)
        for step in (0, 6, None):
            assert_equal(part.grad(params[here], hparams[here], step), whole.grad(params, hparams, step)[here])
            both = zip(
                part.second_order(params[here], hparams[here], vector[here], step),
                whole.second_order(params, hparams, vector, step),
                strict=True,
            )
            for mine, all_of_them in both:
                assert_equal(mine, all_of_them[here])
        values = whole.evaluate(params, hparams)
        for name, mine in part.evaluate(params[here], hparams[here]).items():
            assert_equal(mine, values[name][here], equal_nan=True)


def test_single_precision_runs_can_be_evaluated_in_double(make, kind, point):
    problem = make(kind, dtype=torch.float32)
    params, hparams, vector = point(problem)
    assert problem.init_params().dtype == problem.grad(params.float(), hparams.float(), 0).dtype == torch.float32
    reference = make(kind)
    # The inputs were rounded to single precision; nothing else.
    for found, expected in zip(
        problem.second_order(params, hparams, vector, None),
        reference.second_order(params, hparams, vector, None),
        strict=True,
    ):
        assert found.dtype == torch.float64
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_timing_chooses_among_what_applies(make, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    problem = make("classification", compute="auto")
    choices = problem.choose_compute(["first_order", "second_order"])
    assert set(choices) == {"first_order", "second_order"}
    assert choices["first_order"] in EXECUTORS
    assert choices["second_order"] in set(EXECUTORS) - {"batched"}
    follower = make("classification", compute="auto")
    follower.adopt_compute({"first_order": "loop"})
    follower.grad(follower.init_params(), follower.init_hparams(), 0)
    assert type(follower.executors.executor("first_order")).__name__ == "LoopExecutor"


def test_timing_changes_nothing(make, tmp_path, monkeypatch, point):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    problem, chosen = make("classification"), make("classification", compute="auto")
    chosen.choose_compute(["first_order"])
    params, hparams, _ = point(problem)
    assert torch.equal(problem.init_params(), chosen.init_params())
    assert_equal(chosen.grad(params, hparams, 1), problem.grad(params, hparams, 1))


def test_impossible_ways_to_compute_are_refused(make):
    problem = make("classification", compute="quickly")
    with pytest.raises(ValueError, match="compute='quickly': expected auto, loop, vmap, chunked, batched"):
        problem.choose_compute(["first_order"])
    setting = make("classification")._setting
    images = Setting(**{**vars(setting), "build_model": lambda **_: CnnMnist(input_shape=(1, 16, 16), num_classes=3)})
    convolutional = Classification(batch_size=4, drop_last=False, weight_decay=0.0, outer_split="train")
    convolutional.setup(Setting(**{**vars(images), "compute": "batched"}))
    with pytest.raises(ValueError, match="compute=batched: only models that chain"):
        convolutional.choose_compute(["first_order"])


GOOD = {"batch_size": 4, "drop_last": False, "weight_decay": 0.0, "outer_split": "train", "outer_regularization": 0.0}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 0}, "problem.batch_size=0: expected a positive number"),
        ({"outer_split": "test"}, "problem.outer_split='test': expected train or valid"),
        ({"weight_decay": -1.0}, "must not be negative"),
        ({"outer_regularization": -1.0}, "must not be negative"),
    ],
)
def test_bad_arguments_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        L2Decay(**{**GOOD, **change})
    with pytest.raises(ValueError, match=r"problem.num_learners=1: expected at least 2"):
        MixtureWeights(num_learners=1, **GOOD)


def test_facts_name_the_label_counts_of_all_nodes(make, objectives):
    problem = make("classification", nodes=range(1, 2))
    truth = objectives("classification", problem)
    expected = [np.bincount(truth.labels.numpy()[rows.train], minlength=3) for rows in truth.indices]
    np.testing.assert_array_equal(problem.facts().label_counts, expected)


@pytest.mark.parametrize("sampling", ["epochs", "uniform"])
@pytest.mark.parametrize("compute", ["loop", "vmap", "batched"])
def test_some_nodes_alone_are_computed_as_among_all(make, point, sampling, compute):
    problem = make("classification", compute=compute, sampling=sampling)
    params, hparams, _ = point(problem)
    chosen = np.array([4, 1, 2])
    part = problem.part(chosen)
    for step in (0, 7, 2):
        expected = problem.grad(params, hparams, step)[chosen]
        torch.testing.assert_close(part.grad(params[chosen], hparams[chosen], step), expected, rtol=1e-12, atol=1e-13)
    for name, values in part.evaluate(params[chosen], hparams[chosen]).items():
        torch.testing.assert_close(values, problem.evaluate(params, hparams)[name][chosen], equal_nan=True)
    assert part.data.train.inputs is problem.data.train.inputs
    assert part.sample_counts().tolist() == problem.sample_counts().tolist()


def test_another_sampling_is_refused(make):
    with pytest.raises(ValueError, match=r"problem\.sampling='random': expected epochs or uniform"):
        make("classification", sampling="random")


def test_equal_learners_train_as_one_model_with_a_share_of_the_decay_and_as_many_times_the_rate(make, point):
    """The scaling of experiment=personalization_sgp_mixture and personalization_fedem_mixture."""
    single, learners, decay, rate = make("classification"), 3, 0.3, 0.2
    mixture = make("mixture_weights", weight_decay=decay / learners)
    start, _, _ = point(single)
    alone, together = start.clone(), start.repeat(1, learners)
    for step in range(4):
        single.add_grad_(alone, alone, single.init_hparams(), step, -rate)
        mixture.add_grad_(together, together, mixture.init_hparams(), step, -learners * rate)
    assert_equal(together, alone.repeat(1, learners))
    assert (alone - start).abs().max() > 1e-2
