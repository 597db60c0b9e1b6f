"""Dropout by masks that batches carry, in every executor, against autograd with the masks written out; float64."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import nn
from torch.func import functional_call

from simulator.compute.executors import Batch, BatchedExecutor, LoopExecutor, VmapExecutor
from simulator.problems.heads import CrossEntropy, MixedLearners
from simulator.rows import ModelFunction

SIZES = (4, 2, 3)
BATCH, CLASSES = 4, 3
EXECUTORS = {"loop": LoopExecutor, "vmap": VmapExecutor, "chunked": partial(VmapExecutor, chunk=2)}
HEADS = {"cross_entropy": CrossEntropy, "mixed_learners": partial(MixedLearners, 2)}

pytestmark = pytest.mark.usefixtures("one_thread")


def chain(first=0.25, second=0.5):
    """Dropout on feature maps [2, 3, 3] and on 5 features."""
    return nn.Sequential(
        *(
            nn.Conv2d(1, 2, 2),
            nn.ReLU(),
            nn.Dropout(first),
            nn.Flatten(),
            nn.Linear(18, 5),
            nn.ReLU(),
            nn.Dropout(second),
        ),
        nn.Linear(5, CLASSES),
    ).double()


class Case:
    def __init__(self, head):
        rng = torch.Generator().manual_seed(3)
        self.head, self.function = HEADS[head](), ModelFunction(chain())
        n, learners = len(SIZES), self.head.num_learners
        self.params = 0.4 * torch.randn(n, learners * self.function.layout.num_params, generator=rng).double()
        self.hparams = torch.randn(n, learners if learners > 1 else 0, generator=rng).double()
        rates = torch.tensor([0.25] * 18 + [0.5] * 5)
        masks = (torch.rand(n, BATCH, 23, generator=rng) >= rates).double() / (1 - rates.double())
        weights = torch.zeros(n, BATCH).double()
        for node, size in enumerate(SIZES):
            weights[node, :size] = 1 / size
        self.batch = Batch(
            inputs=torch.randn(n, BATCH, 1, 4, 4, generator=rng).double(),
            labels=torch.randint(CLASSES, (n, BATCH), generator=rng),
            weights=weights,
            index=torch.zeros(n, BATCH, dtype=torch.long),
            sizes=SIZES,
            masks=masks,
        )

    def logits(self, row, x, masks):
        conv, conv_bias, weight, bias, last, last_bias = (v[0] for v in self.function.layout.views(row[None]))
        x = torch.relu(nn.functional.conv2d(x, conv, conv_bias)).reshape(len(x), 18) * masks[:, :18]
        return torch.relu(x @ weight.T + bias) * masks[:, 18:] @ last.T + last_bias

    def loss(self, node, row):
        size = SIZES[node]
        x, y, masks = (part[node, :size] for part in (self.batch.inputs, self.batch.labels, self.batch.masks))
        chances = [torch.softmax(self.logits(part, x, masks), 1) for part in row.chunk(self.head.num_learners)]
        shares = torch.softmax(self.hparams[node], 0) if len(chances) > 1 else [1.0]
        mixed = sum(share * chance for share, chance in zip(shares, chances, strict=True))
        return -torch.log(mixed[torch.arange(size), y]).mean()

    def gradient(self, node):
        row = self.params[node].clone().requires_grad_()
        return torch.autograd.grad(self.loss(node, row), row)[0]


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("executor", EXECUTORS)
def test_gradients_and_products_see_the_masks(executor, head):
    case = Case(head)
    found = EXECUTORS[executor](case.function, case.head)
    out = torch.zeros_like(case.params)
    found.add_gradient_(out, case.params, case.hparams, case.batch, 1.0)
    expected = torch.stack([case.gradient(node) for node in range(len(SIZES))])
    torch.testing.assert_close(out, expected, rtol=1e-11, atol=1e-13)
    losses = found.losses(case.params, case.hparams, case.batch)
    torch.testing.assert_close(losses, torch.stack([case.loss(i, case.params[i]) for i in range(len(SIZES))]))
    vector = torch.ones_like(case.params)
    along, _ = found.second_order(case.params, case.hparams, case.batch, vector)
    products = [torch.autograd.functional.hvp(partial(case.loss, i), case.params[i], vector[i])[1] for i in range(3)]
    torch.testing.assert_close(along, torch.stack(products), rtol=1e-10, atol=1e-12)


def test_without_masks_dropout_is_off():
    case, module = Case("cross_entropy"), chain().eval()
    logits = LoopExecutor(case.function, case.head).logits(case.params[0], case.batch.inputs[0])
    layout = case.function.layout
    views = {name: v[0] for name, v in zip(layout.names, layout.views(case.params[:1]), strict=True)}
    torch.testing.assert_close(logits, functional_call(module, views, (case.batch.inputs[0],)))


def test_channels_are_dropped_whole():
    """One mask entry per channel in place of the entries of its feature map, in every executor."""
    case = Case("cross_entropy")
    layers = list(chain())
    layers[2] = nn.Dropout2d(0.25)
    by_channel = ModelFunction(nn.Sequential(*layers))
    assert by_channel.dropout((1, 4, 4)) == [(0.25, 2), (0.5, 5)]
    channels = case.batch.masks[:, :, [0, 9]]
    fine = torch.cat([channels.repeat_interleave(9, dim=2), case.batch.masks[:, :, 18:]], dim=2)
    coarse = torch.cat([channels, case.batch.masks[:, :, 18:]], dim=2)
    expected = torch.zeros_like(case.params)
    LoopExecutor(case.function, case.head).add_gradient_(
        expected, case.params, case.hparams, replace(case.batch, masks=fine), 1.0
    )
    for executor in EXECUTORS.values():
        out = torch.zeros_like(case.params)
        executor(by_channel, case.head).add_gradient_(
            out, case.params, case.hparams, replace(case.batch, masks=coarse), 1.0
        )
        torch.testing.assert_close(out, expected, rtol=1e-11, atol=1e-13)


def test_the_layers_say_what_they_drop():
    assert ModelFunction(chain()).dropout((1, 4, 4)) == [(0.25, 18), (0.5, 5)]
    assert ModelFunction(chain(first=0.0)).dropout((1, 4, 4)) == [(0.5, 5)]
    assert ModelFunction(nn.Sequential(nn.Flatten(), nn.Linear(4, 2))).dropout((4,)) == []


def linear_chain(*, dropout_first):
    """18 features from 16, then 5 of which some are dropped, before or after their ReLU."""
    middle = (nn.Dropout(0.5), nn.ReLU()) if dropout_first else (nn.ReLU(), nn.Dropout(0.5))
    layers = (nn.Flatten(), nn.Linear(16, 18), nn.Dropout(0.25), nn.Linear(18, 5, bias=False), *middle)
    return ModelFunction(nn.Sequential(*layers, nn.Linear(5, CLASSES)).double())


@pytest.mark.parametrize("dropout_first", [False, True])
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("masked", [False, True])
def test_chains_of_linear_layers_written_out_see_the_masks(masked, head, dropout_first):
    """Against the loop over nodes, whose autograd the test above checks."""
    case, function = Case(head), linear_chain(dropout_first=dropout_first)
    assert BatchedExecutor.applies_to(function)
    rng = torch.Generator().manual_seed(5)
    size = case.head.num_learners * function.layout.num_params
    params = 0.4 * torch.randn(len(SIZES), size, generator=rng, dtype=torch.float64)
    batch = case.batch if masked else replace(case.batch, masks=None)
    found, expected = torch.zeros_like(params), torch.zeros_like(params)
    BatchedExecutor(function, case.head).add_gradient_(found, params, case.hparams, batch, -2.0)
    LoopExecutor(function, case.head).add_gradient_(expected, params, case.hparams, batch, -2.0)
    assert expected.abs().max() > 0.01
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-13)


def test_dropout_of_inputs_or_channels_is_not_written_out():
    layers = nn.Linear(4, 4), nn.ReLU()
    assert not BatchedExecutor.applies_to(ModelFunction(nn.Sequential(nn.Dropout(0.5), *layers, nn.Linear(4, 2))))
    assert not BatchedExecutor.applies_to(ModelFunction(nn.Sequential(*layers, nn.Dropout2d(0.5), nn.Linear(4, 2))))
    assert BatchedExecutor.applies_to(ModelFunction(nn.Sequential(*layers, nn.Dropout2d(0.0), nn.Linear(4, 2))))
