"""The contenders of the benchmark: the simulator's own step, and two other implementations of the same work.

All contenders hold random images of MNIST's shape and size per node, gather a minibatch from them, go forwards and
backwards, update by SGD, and mix on a ring with weights 1/3. Shapes: N nodes, S samples of a node, B batch.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from simulator import config
from simulator.data.base import Dataset, NodeIndices, Partition, Samples
from simulator.models.cnn_mnist import CnnMnist
from simulator.models.logistic_regression import LogisticRegression
from simulator.models.mlp import MLP
from simulator.simulation import Simulation
from simulator.world import World

MODELS: dict[str, Callable[..., nn.Module]] = {
    "logistic regression": LogisticRegression,
    "MLP": partial(MLP, hidden=[128]),
    "CNN": CnnMnist,
}
IMAGE_SHAPE = (1, 28, 28)
NUM_CLASSES = 10
BATCH_SIZE = 32
BATCHES_PER_EPOCH = 8
SAMPLES_PER_NODE = BATCH_SIZE * BATCHES_PER_EPOCH
LR = 0.01

_ONE_STEP = Callable[[], None]


def build_model(model: str) -> nn.Module:
    return MODELS[model](input_shape=IMAGE_SHAPE, num_classes=NUM_CLASSES)


@dataclass(frozen=True)
class RandomImages(Dataset):
    """A dataset of random images of MNIST's shape, made per node."""

    num_nodes: int
    samples_per_node: int = SAMPLES_PER_NODE
    shape: tuple[int, ...] = IMAGE_SHAPE

    def load(self) -> Samples:
        draw = torch.Generator().manual_seed(0)
        num_samples = self.num_nodes * self.samples_per_node
        rows = np.arange(num_samples).reshape(self.num_nodes, -1)
        nothing = np.zeros(0, dtype=np.int64)
        return Samples(
            inputs=torch.randn((num_samples, *self.shape), generator=draw),
            labels=torch.randint(NUM_CLASSES, (num_samples,), generator=draw),
            num_classes=NUM_CLASSES,
            num_train=num_samples,
            node_indices=tuple(NodeIndices(train, nothing, nothing) for train in rows),
        )


class AsHeld(Partition):
    """Gives every node the samples that the dataset made for it."""

    def split(self, samples: Samples, num_nodes: int) -> tuple[NodeIndices, ...]:
        assert samples.node_indices is not None
        return samples.node_indices


class Ours:
    """D-SGD of the simulator on the nodes of one process of ``world``."""

    def __init__(
        self,
        model: Callable[..., nn.Module],
        num_nodes: int,
        world: World = World(),  # noqa: B008
        *,
        compute: str = "auto",
        device: str = "cpu",
        dataset: RandomImages | None = None,
        batch_size: int = BATCH_SIZE,
        captures: bool = False,
    ) -> None:
        settings = config.compose(
            [
                *("algorithm=dsgd", f"algorithm.lr={LR}", "graph=ring", f"num_nodes={num_nodes}"),
                *(f"problem.batch_size={batch_size}", "problem.drop_last=true", "problem.weight_decay=0.0"),
                *(f"compute={compute}", f"device={device}", f"compute_capture={captures}"),
            ]
        )
        components = replace(
            config.build(settings),
            dataset=dataset or RandomImages(num_nodes),
            partition=AsHeld(),
            build_model=model,
        )
        self.simulation = Simulation.build(settings, world, components=components)
        self.problem = self.simulation.problem
        self.choice = self.simulation.choices["first_order"]
        self.state = self.simulation.init()
        self.hparams = self.problem.init_hparams()
        self.done = 0

    @property
    def num_graphs(self) -> int:
        """How many CUDA graphs of local steps have been recorded."""
        graphs = getattr(self.problem, "_graphs", None)
        return 0 if graphs is None else int(graphs.num_graphs)

    def step(self, steps: int) -> None:
        """Local steps alone."""
        params = self.state["params"]
        for _ in range(steps):
            self.problem.add_grad_(params, params, self.hparams, self.done, -LR)
            self.done += 1

    def step_and_mix(self, steps: int) -> None:
        """Steps of the algorithm."""
        for _ in range(steps):
            self.state = self.simulation.step(self.state, self.done)
            self.done += 1


class PlainLoop:
    """One module and one optimizer per node, as usual."""

    def __init__(self, model: str, num_nodes: int) -> None:
        samples = RandomImages(num_nodes).load()
        self.inputs = [part.clone() for part in samples.inputs.split(SAMPLES_PER_NODE)]
        self.labels = [part.clone() for part in samples.labels.split(SAMPLES_PER_NODE)]
        self.models = [build_model(model) for _ in range(num_nodes)]
        self.optimizers = [torch.optim.SGD(module.parameters(), lr=LR) for module in self.models]
        self.orders = [torch.arange(SAMPLES_PER_NODE)] * num_nodes
        self.done = 0

    def step(self, steps: int) -> None:
        for _ in range(steps):
            batch = self.done % BATCHES_PER_EPOCH
            for node, (module, optimizer) in enumerate(zip(self.models, self.optimizers, strict=True)):
                if batch == 0:
                    self.orders[node] = torch.randperm(SAMPLES_PER_NODE)
                index = self.orders[node][batch * BATCH_SIZE : (batch + 1) * BATCH_SIZE]
                optimizer.zero_grad()
                F.cross_entropy(module(self.inputs[node][index]), self.labels[node][index]).backward()
                optimizer.step()
            self.done += 1

    @torch.no_grad()
    def mix(self) -> None:
        parameters = [list(module.parameters()) for module in self.models]
        averages = []
        for node in range(len(parameters)):
            neighbors = [parameters[node - 1], parameters[node], parameters[(node + 1) % len(parameters)]]
            averages.append([sum(tensors) / len(tensors) for tensors in zip(*neighbors, strict=True)])
        for own, average in zip(parameters, averages, strict=True):
            for parameter, value in zip(own, average, strict=True):
                parameter.copy_(value)

    def step_and_mix(self, steps: int) -> None:
        for _ in range(steps):
            self.step(1)
            self.mix()


class HandWritten:
    """Batched products into preallocated buffers, for one or two linear layers; one pass over the parameters."""

    def __init__(self, widths: list[int], num_nodes: int) -> None:
        samples = RandomImages(num_nodes).load()
        self.inputs = samples.inputs.flatten(1)
        self.labels = samples.labels
        self.offsets = torch.arange(num_nodes)[:, None] * SAMPLES_PER_NODE
        self.layers = [
            (torch.randn(num_nodes, outputs, inputs) * inputs**-0.5, torch.zeros(num_nodes, 1, outputs))
            for inputs, outputs in pairwise(widths)
        ]
        self.spare = [(torch.empty_like(weight), torch.empty_like(bias)) for weight, bias in self.layers]
        self.x = torch.empty(num_nodes * BATCH_SIZE, widths[0])
        self.outputs = [torch.empty(num_nodes, BATCH_SIZE, width) for width in widths[1:]]
        self.deltas = [torch.empty_like(output) for output in self.outputs]
        self.minus_ones = torch.full((num_nodes, BATCH_SIZE, 1), -1.0)
        self.ring = torch.zeros(num_nodes, num_nodes)
        for shift in (-1, 0, 1):
            self.ring += torch.eye(num_nodes).roll(shift, 0) / 3
        self.done = 0

    @torch.no_grad()
    def step(self, steps: int) -> None:
        num_nodes = len(self.offsets)
        for _ in range(steps):
            batch = self.done % BATCHES_PER_EPOCH
            if batch == 0:
                self.orders = torch.rand(num_nodes, SAMPLES_PER_NODE).argsort(1) + self.offsets
            index = self.orders[:, batch * BATCH_SIZE : (batch + 1) * BATCH_SIZE].reshape(-1)
            torch.index_select(self.inputs, 0, index, out=self.x)
            labels = self.labels[index].view(num_nodes, BATCH_SIZE, 1)
            values = [self.x.view(num_nodes, BATCH_SIZE, -1)]
            for (weight, bias), output in zip(self.layers, self.outputs, strict=True):
                torch.baddbmm(bias, values[-1], weight.transpose(1, 2), out=output)
                if weight is not self.layers[-1][0]:
                    output.clamp_min_(0)
                values.append(output)
            delta = torch.softmax(values[-1], -1, out=self.deltas[-1])
            delta.scatter_add_(-1, labels, self.minus_ones)
            for layer in reversed(range(len(self.layers))):
                weight, bias = self.layers[layer]
                if layer:
                    below = torch.bmm(delta, weight, out=self.deltas[layer - 1])
                    below.mul_(values[layer] > 0)
                weight.baddbmm_(delta.transpose(1, 2), values[layer], alpha=-LR / BATCH_SIZE)
                bias.add_(delta.sum(1, keepdim=True), alpha=-LR / BATCH_SIZE)
                if layer:
                    delta = below
            self.done += 1

    @torch.no_grad()
    def mix(self) -> None:
        for tensors, spares in zip(self.layers, self.spare, strict=True):
            for tensor, spare in zip(tensors, spares, strict=True):
                torch.mm(self.ring, tensor.view(len(tensor), -1), out=spare.view(len(spare), -1))
        self.layers, self.spare = self.spare, self.layers

    def step_and_mix(self, steps: int) -> None:
        for _ in range(steps):
            self.step(1)
            self.mix()
