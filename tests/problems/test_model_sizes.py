"""Classification by models of several sizes against each size alone, and against torch's modules."""

from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from simulator.models.logistic_regression import LogisticRegression
from simulator.models.mlp import MLP
from simulator.problems.base import Setting
from simulator.problems.model_sizes import ModelSizes
from simulator.testing.dealt_data import NUM_CLASSES, NUM_FEATURES, Dealt, Fixed
from tests.problems.conftest import build

SIZES = ((0, 0, 0), (7, 5, 4), (12, 0, 2), (3, 4, 5), (20, 6, 3), (1, 1, 1))
WIDTHS = {"small": 2, "medium": 3, "large": 6}
SIZE_OF_NODE = [0, 0, 1, 2, 0, 1]
NUM_PARAMS = [(NUM_FEATURES + 1) * width + (width + 1) * NUM_CLASSES for width in WIDTHS.values()]
STARTS = np.cumsum([0, *NUM_PARAMS])
NUM_NODES, DECAY = len(SIZES), 0.3

pytestmark = pytest.mark.usefixtures("one_thread")


def make(*, sizes=SIZES, nodes=None, compute="vmap", models=None, **changes):
    arguments = {"batch_size": 4, "drop_last": False, "weight_decay": DECAY, **changes}
    problem = ModelSizes(models=models or {name: partial(MLP, hidden=[w]) for name, w in WIDTHS.items()}, **arguments)
    partition = Dealt(sizes)
    partition.skip_hub = True
    problem.setup(
        Setting(
            nodes=nodes or range(len(sizes)),
            num_nodes=len(sizes),
            seed=0,
            dtype=torch.float64,
            device=torch.device("cpu"),
            dataset=Fixed(partition.num_samples),
            partition=partition,
            compute=compute,
        )
    )
    return problem


def own(node):
    return slice(*STARTS[SIZE_OF_NODE[node] : SIZE_OF_NODE[node] + 2])


def rows(seed):
    return torch.randn(NUM_NODES, STARTS[-1], generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def no_hparams(params):
    return params.new_zeros(len(params), 0)


def module(node, row):
    width = list(WIDTHS.values())[SIZE_OF_NODE[node]]
    net = nn.Sequential(nn.Linear(NUM_FEATURES, width), nn.ReLU(), nn.Linear(width, NUM_CLASSES)).double()
    nn.utils.vector_to_parameters(row[own(node)].clone(), net.parameters())
    return net


def test_sizes_go_round_among_the_nodes_with_training_samples():
    problem = make()
    assert problem.size_of_node.tolist() == SIZE_OF_NODE
    assert problem.sizes == ("small", "medium", "large")
    assert [(c.start, c.stop) for c in problem.columns] == list(pairwise(STARTS))
    assert problem.num_params == STARTS[-1]
    numbers = problem.facts().numbers
    assert [numbers[f"{name}/num_params"] for name in WIDTHS] == NUM_PARAMS
    assert [numbers[f"{name}/num_nodes"] for name in WIDTHS] == [2, 2, 1]


@pytest.mark.parametrize("nodes", [range(NUM_NODES), range(2, 4)])
def test_gradients_are_those_of_each_nodes_own_module(nodes):
    problem, params = make(nodes=nodes), rows(1)
    here = params[nodes.start : nodes.stop].clone()
    found = problem.grad(here, no_hparams(here), None)
    samples, dealt = Fixed(Dealt(SIZES).num_samples).samples, Dealt(SIZES).nodes
    for node, gradient in zip(nodes, found, strict=True):
        net, train = module(node, params[node]), dealt[node].train
        loss = DECAY / 2 * sum((p**2).sum() for p in net.parameters())
        if len(train):
            loss = loss + F.cross_entropy(net(samples.inputs[train]), samples.labels[train])
        loss.backward()
        expected = torch.zeros(STARTS[-1], dtype=torch.float64)
        expected[own(node)] = nn.utils.parameters_to_vector(p.grad for p in net.parameters())
        torch.testing.assert_close(gradient, expected, rtol=1e-10, atol=1e-12)
        assert not gradient[expected == 0].any()
    in_place = here.clone()
    problem.add_grad_(in_place, in_place, no_hparams(here), None, -0.1)
    torch.testing.assert_close(in_place, here - 0.1 * found, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("compute", ["loop", "batched", "auto"])
def test_minibatches_and_scores_are_those_of_each_size_alone(compute):
    """A node sees the samples that it would see if all nodes had its model; steps may differ by node."""
    problem, params = make(compute=compute), rows(2)
    steps = np.array([0, 3, 1, 2, -1, 0])
    found = [problem.grad(params, no_hparams(params), 5), problem.grad_at(params, no_hparams(params), steps)]
    scores = problem.evaluate(params, no_hparams(params))
    start = problem.init_params()
    for size, width in enumerate(WIDTHS.values()):
        alone = build("classification", sizes=SIZES, hidden=(width,), batch_size=4, weight_decay=DECAY)
        nodes = np.flatnonzero(np.array(SIZE_OF_NODE) == size)
        columns = slice(STARTS[size], STARTS[size + 1])
        part = params[:, columns].contiguous()
        expected = [alone.grad(part, no_hparams(part), 5), alone.grad_at(part, no_hparams(part), steps)]
        for left, right in zip(found, expected, strict=True):
            asked = nodes if right is expected[0] else nodes[steps[nodes] >= 0]
            torch.testing.assert_close(left[asked, columns], right[asked], rtol=1e-9, atol=1e-11)
        for name, values in alone.evaluate(part, no_hparams(part)).items():
            torch.testing.assert_close(scores[name][nodes], values[nodes], equal_nan=True)
        torch.testing.assert_close(start[nodes, columns], alone.init_params()[nodes], rtol=0, atol=0)
    away = torch.ones(NUM_NODES, STARTS[-1], dtype=torch.bool)
    for node in range(NUM_NODES):
        away[node, own(node)] = False
    assert all(not x[away].any() for x in (*found, start))
    assert problem.epoch_lengths().tolist() == alone.epoch_lengths().tolist()


def test_accuracy_is_told_by_size():
    problem, params = make(), rows(3)
    scores = problem.evaluate(params, no_hparams(params))
    assert not [name for name in scores if name.startswith("outer")]
    for split in ("train", "valid", "test"):
        accuracy = scores[f"{split}/accuracy"]
        assert len(set(accuracy[~accuracy.isnan()].tolist())) > 1
        for size, name in enumerate(WIDTHS):
            expected = [a if s == size else np.nan for a, s in zip(accuracy.tolist(), SIZE_OF_NODE, strict=True)]
            np.testing.assert_array_equal(scores[f"{split}/accuracy/{name}"].numpy(), expected)
    few = make(sizes=SIZES[:2])
    assert [name for name in few.evaluate(params[:2], params.new_zeros(2, 0)) if name.startswith("test/accuracy/")] == [
        "test/accuracy/small"
    ]


def test_a_process_computes_as_another_has_chosen():
    leader, follower = make(compute="auto"), make(compute="auto", nodes=range(1, 3))
    choices = leader.choose_compute(["first_order"])
    assert sorted(choices) == [f"{name}/first_order" for name in sorted(WIDTHS)]
    follower.adopt_compute(choices | {"medium/first_order": "loop"})
    assert follower.architectures[1].executors.names == {"first_order": "loop"}
    assert follower.choose_compute([]) == choices | {"medium/first_order": "loop"}


def test_models_of_unlike_kinds_stand_side_by_side():
    models = {"line": LogisticRegression, "net": partial(MLP, hidden=[4, 4])}
    problem = make(models=models)
    assert problem.size_of_node.tolist() == [0, 0, 1, 0, 1, 0]
    assert [one.num_params for one in problem.architectures] == [(NUM_FEATURES + 1) * NUM_CLASSES, 5 * 4 + 5 * 4 + 15]


def test_bad_settings_are_refused():
    with pytest.raises(ValueError, match=r"problem\.models: expected at least one size and its model"):
        ModelSizes(models={}, batch_size=4, drop_last=False, weight_decay=0.0)
    with pytest.raises(ValueError, match=r"problem\.batch_size=0: expected"):
        make(batch_size=0)
