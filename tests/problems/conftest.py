"""Problems on a small data set that is dealt out by hand."""

from functools import partial

import numpy as np
import pytest
import torch

from simulator.models.mlp import MLP
from simulator.problems.base import Setting
from simulator.problems.classification import Classification
from simulator.problems.l2_decay import L2Decay
from simulator.problems.logit_scaling import LogitScaling
from simulator.problems.mixture_weights import MixtureWeights
from simulator.problems.sample_masks import SampleMasks
from simulator.testing.dealt_data import NUM_CLASSES, SIZES, Dealt, Fixed

KINDS = {
    "classification": Classification,
    "l2_decay": L2Decay,
    "logit_scaling": LogitScaling,
    "mixture_weights": partial(MixtureWeights, num_learners=3),
    "sample_masks": SampleMasks,
}


def build(kind, *, sizes=SIZES, nodes=None, compute="vmap", hidden=(5,), dtype=torch.float64, seed=0, **changes):
    arguments = {
        "batch_size": 4,
        "drop_last": False,
        "weight_decay": 0.3,
        "outer_split": "valid",
        "outer_regularization": 0.2,
        **changes,
    }
    problem = KINDS[kind](**arguments)
    partition = Dealt(sizes)
    partition.skip_hub = sizes[0][0] == 0
    problem.setup(
        Setting(
            nodes=nodes or range(len(sizes)),
            num_nodes=len(sizes),
            seed=seed,
            dtype=dtype,
            device=torch.device("cpu"),
            dataset=Fixed(partition.num_samples),
            partition=partition,
            build_model=partial(MLP, hidden=hidden),
            compute=compute,
        )
    )
    return problem


@pytest.fixture
def make():
    """Builds a problem by name; see :func:`build`."""
    return build


@pytest.fixture(params=list(KINDS))
def kind(request):
    return request.param


@pytest.fixture
def point():
    """Random parameters, hyperparameters and a direction that fit a problem."""

    def draw(problem, seed=0):
        rng = torch.Generator().manual_seed(seed)
        nodes = len(problem.init_params())

        def normal(columns):
            return torch.randn(nodes, columns, generator=rng, dtype=torch.float64)

        return normal(problem.num_params) / 2, normal(problem.num_hparams), normal(problem.num_params)

    return draw


@pytest.fixture
def objectives():
    return Objectives


class Objectives:
    """f_i and F_i + r_i of a problem from their definitions, for one node at a time."""

    def __init__(self, kind, problem, sizes=SIZES):
        self.kind, self.problem = kind, problem
        samples, self.indices = Fixed(Dealt(sizes).num_samples).samples, Dealt(sizes).nodes
        self.inputs, self.labels = samples.inputs, samples.labels

    def logits(self, row, x):
        shapes = self.problem.function.layout.shapes
        start = 0
        for layer in range(0, len(shapes), 2):
            (out, into), start_bias = shapes[layer], start + shapes[layer][0] * shapes[layer][1]
            weight, bias = row[start:start_bias].view(out, into), row[start_bias : start_bias + out]
            start = start_bias + out
            x = x @ weight.T + bias
            if layer + 2 < len(shapes):
                x = x * (x > 0)
        return x

    def chances(self, row, hparams, rows, *, plain=False):
        """Predicted probabilities [B, C]."""
        x = self.inputs[rows]
        if self.kind == "mixture_weights":
            weights = torch.softmax(hparams, 0)
            parts = [torch.softmax(self.logits(part, x), 1) for part in row.chunk(3)]
            return sum(weight * part for weight, part in zip(weights, parts, strict=True))
        logits = self.logits(row, x)
        if self.kind == "logit_scaling":
            logits = logits * NUM_CLASSES * torch.softmax(hparams, 0)
        return torch.softmax(logits, 1)

    def nll(self, row, hparams, rows):
        return -torch.log(self.chances(row, hparams, rows)[torch.arange(len(rows)), self.labels[rows]])

    def inner(self, node, row, hparams, positions=None):
        """f_i on some of the node's training samples; all of them when ``positions`` is None."""
        positions = np.arange(len(self.indices[node].train)) if positions is None else np.asarray(positions)
        losses = self.nll(row, hparams, self.indices[node].train[positions])
        if self.kind == "sample_masks":
            losses = losses * hparams[torch.from_numpy(positions)]
        decay = self.problem.weight_decay + (hparams[0] if self.kind == "l2_decay" else 0)
        return losses.mean() + decay / 2 * (row * row).sum()

    def outer(self, node, row, hparams, positions=None):
        """F_i + r_i on some of the node's outer samples; all of them when ``positions`` is None."""
        rows = getattr(self.indices[node], self.problem.outer_split)
        rows = rows if positions is None else rows[positions]
        loss = self.nll(row, hparams, rows).mean() if len(rows) else 0.0
        return loss + self.problem.outer_regularization / 2 * (hparams * hparams).sum()
