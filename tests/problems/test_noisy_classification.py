"""Classification with dropout, augmentation, shared data and batch normalisation: executors and placements agree."""

from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call

from simulator.data.base import Dataset, NodeIndices, Samples
from simulator.data.partitions.as_given import AsGiven
from simulator.data.partitions.shared import Shared
from simulator.problems.base import Setting
from simulator.problems.classification import Classification

NUM_NODES, CLASSES = 4, 3
# Rows of every node: training samples, then two for testing.
NODES = [
    NodeIndices(np.arange(a, b - 2), np.arange(0), np.arange(b - 2, b))
    for a, b in ((0, 11), (11, 18), (18, 26), (26, 31))
]

pytestmark = pytest.mark.usefixtures("one_thread")


class Images(Dataset):
    """Small images, dealt out in consecutive rows."""

    def load(self):
        rng = torch.Generator().manual_seed(0)
        return Samples(
            torch.rand(31, 2, 6, 6, generator=rng, dtype=torch.float64),
            torch.randint(CLASSES, (31,), generator=rng),
            num_classes=CLASSES,
            num_train=26,
            node_indices=tuple(NODES),
            crop_padding=1,
        )


def dropping(*, input_shape, num_classes):
    return nn.Sequential(
        *(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Dropout(0.3)),
        *(nn.Linear(12, 6), nn.ReLU(), nn.Dropout(0.5), nn.Linear(6, num_classes)),
    )


def normalising(*, input_shape, num_classes):
    norm = partial(nn.BatchNorm2d, track_running_stats=False)
    return nn.Sequential(nn.Conv2d(2, 3, 3), norm(3), nn.ReLU(), nn.Flatten(), nn.Linear(48, num_classes))


def build(model, compute, nodes=range(NUM_NODES), partition=None, batch_size=4):
    problem = Classification(batch_size=batch_size, drop_last=False, weight_decay=0.1, outer_split="train")
    problem.setup(
        Setting(
            nodes=nodes,
            num_nodes=NUM_NODES,
            seed=1,
            dtype=torch.float64,
            device=torch.device("cpu"),
            dataset=Images(),
            partition=partition or AsGiven(),
            build_model=model,
            compute=compute,
        )
    )
    return problem


def gradient(problem, step):
    return problem.grad(problem.init_params(), problem.init_hparams(), step)


@pytest.mark.parametrize("compute", ["vmap", "chunked", "auto"])
@pytest.mark.parametrize("step", [0, 5, None])
def test_executors_agree_about_dropout_and_augmentation(compute, step):
    expected = gradient(build(dropping, "loop"), step)
    torch.testing.assert_close(gradient(build(dropping, compute), step), expected, rtol=1e-11, atol=1e-13)


SHARED = Shared(valid_fraction=0.0, test_fraction=0.0, replacement=True, seed=3)


@pytest.mark.parametrize(("model", "compute"), [(dropping, "vmap"), (normalising, "loop")])
@pytest.mark.parametrize("partition", [None, SHARED], ids=["as_given", "shared"])
@pytest.mark.parametrize("batch_size", [4, None])
def test_nodes_compute_the_same_wherever_they_are(model, compute, partition, batch_size):
    whole = build(model, compute, partition=partition, batch_size=batch_size)
    part = build(model, compute, range(1, 3), partition, batch_size)
    for step in (0, 3):
        torch.testing.assert_close(gradient(part, step), gradient(whole, step)[1:3], rtol=1e-12, atol=1e-14)
    params = whole.init_params() + torch.arange(NUM_NODES)[:, None]
    for name, values in whole.evaluate(params, whole.init_hparams()).items():
        found = part.evaluate(params[1:3], part.init_hparams())[name]
        torch.testing.assert_close(found, values[1:3], rtol=1e-12, atol=1e-14)


def test_steps_are_noisy_and_the_full_gradient_is_not():
    problem = build(dropping, "vmap", batch_size=None)
    assert not torch.equal(gradient(problem, 0), gradient(problem, 1))
    still = gradient(problem, None)
    assert not torch.equal(still, gradient(problem, 0))
    module = dropping(input_shape=(2, 6, 6), num_classes=CLASSES).double().eval()
    layout, data = problem.function.layout, problem.data.train
    row = problem.init_params()[0].clone().requires_grad_()
    views = {name: v[0] for name, v in zip(layout.names, layout.views(row[None]), strict=True)}
    loss = nn.functional.cross_entropy(functional_call(module, views, (data.inputs[:9],)), data.labels[:9])
    (expected,) = torch.autograd.grad(loss + 0.05 * row.square().sum(), row)
    torch.testing.assert_close(still[0], expected, rtol=1e-11, atol=1e-13)


def test_batch_normalisation_uses_the_samples_of_the_node_and_no_padding():
    problem = build(normalising, "auto")
    assert problem.choose_compute(["first_order"]) == {"first_order": "loop"}
    found = gradient(problem, 1)
    (batch,) = problem.batches(1, torch.float64)
    assert min(batch.sizes) < max(batch.sizes)
    module = normalising(input_shape=(2, 6, 6), num_classes=CLASSES).double()
    layout = problem.function.layout
    for node, size in enumerate(batch.sizes):
        row = problem.init_params()[node].clone().requires_grad_()
        conv, bias, scale, shift, weight, last = (v[0] for v in layout.views(row[None]))
        x = nn.functional.conv2d(batch.inputs[node, :size], conv, bias)
        mean, variance = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), unbiased=False, keepdim=True)
        x = (x - mean) / (variance + module[1].eps).sqrt() * scale[:, None, None] + shift[:, None, None]
        loss = nn.functional.cross_entropy(x.relu().flatten(1) @ weight.T + last, batch.labels[node, :size])
        (expected,) = torch.autograd.grad(loss + 0.05 * row.square().sum(), row)
        torch.testing.assert_close(found[node], expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("compute", ["vmap", "chunked", "batched"])
def test_batch_normalisation_is_computed_node_by_node(compute):
    with pytest.raises(ValueError, match=rf"compute={compute}: models with batch normalisation are computed node by"):
        gradient(build(normalising, compute), 0)


def test_shared_data_reach_the_problem():
    problem = build(dropping, "loop", partition=SHARED)
    assert problem.sample_counts().tolist() == [len(problem.data.train.labels)] * NUM_NODES
    assert len({tuple(positions) for positions in problem.batch(0)}) == NUM_NODES
    values = problem.evaluate(problem.init_params(), problem.init_hparams())["train/loss"]
    np.testing.assert_allclose(values, values[0], rtol=1e-12)
