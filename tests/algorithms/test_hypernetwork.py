"""The hypernetwork's forward pass and its derivative, spectral normalisation, clipping and the hub's optimizers."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from simulator.algorithms.hypernetworks.hypernetwork import Hypernetwork
from simulator.algorithms.hypernetworks.local_sgd import clip_rows_
from simulator.algorithms.hypernetworks.model_generator import init_embeddings
from simulator.algorithms.hypernetworks.optimizers import Adam, MomentumSGD
from simulator.algorithms.hypernetworks.spectral_normalization import SpectralNormalization
from simulator.models.cnn_mnist3 import CnnMnist3
from simulator.models.lenet import LeNet
from simulator.rows import ModelFunction
from tests.algorithms.hub_data import Trunk, make

CIFAR, MNIST = (3, 32, 32), (1, 28, 28)
PUBLISHED = {
    "CIFAR-10": (LeNet, CIFAR, 10, 16, 50, 3, False, 121_182, 12_271_732),
    "CIFAR-100": (LeNet, CIFAR, 100, 16, 50, 3, False, 128_832, 13_044_382),
    "CIFAR, private heads": (LeNet, CIFAR, 10, 16, 50, 3, True, 120_332, 12_185_882),
    "CIFAR-100, private heads": (LeNet, CIFAR, 100, 16, 50, 3, True, 120_332, 12_185_882),
    "MNIST": (CnnMnist3, MNIST, 10, 7, 50, 1, False, 45_896, 4_647_646),
    "MNIST at 32x32": (LeNet, (1, 32, 32), 10, 16, 10, 3, False, 120_382, 12_189_312),
}


@pytest.mark.parametrize("case", PUBLISHED)
def test_sizes_are_those_of_the_authors_program(case):
    model, shape, num_classes, kernels, num_nodes, num_hidden, private, target, everything = PUBLISHED[case]
    net = model(input_shape=shape, num_classes=num_classes, num_kernels=kernels)
    counts = np.append(0, np.full(num_nodes, 7))  # a hub without data
    problem = SimpleNamespace(function=ModelFunction(net), sample_counts=lambda: counts)
    algorithm = make(private, embedding_dim=None, hidden_width=100, num_hidden=num_hidden)
    found = algorithm.generator(problem).hypernetwork
    assert found.num_outputs == target
    assert found.embedding_dim == int(1 + num_nodes / 4)
    assert found.num_params + num_nodes * found.embedding_dim == everything


SHAPES = [(3, 2, 2, 2), (3,), (2, 5), (2,)]
SIZES = tuple(int(np.prod(shape)) for shape in SHAPES)
NET = Hypernetwork(embedding_dim=3, hidden_width=6, num_hidden=2, num_outputs=sum(SIZES))


def random(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("num_hidden", [0, 1, 3])
def test_models_and_their_derivative_are_those_of_autograd(num_hidden):
    net = Hypernetwork(3, 6, num_hidden, sum(SIZES))
    row, embeddings, deltas = random(net.num_params), random(4, 3, seed=1), random(4, sum(SIZES), seed=2)
    module, leaf = Trunk(3, 6, num_hidden, SHAPES, row), embeddings.clone().requires_grad_()
    torch.testing.assert_close(module.row(), row, rtol=0, atol=0)
    expected = torch.stack([torch.cat([t.reshape(-1) for t in module(e)]) for e in leaf])
    models, inputs = net.generate(row, embeddings)
    torch.testing.assert_close(models, expected.detach(), rtol=1e-12, atol=1e-12)
    (expected * deltas).sum().backward()
    for parameter in module.parameters():
        parameter.data = parameter.grad
    before = row.clone()
    along_row, along_embeddings = net.pull_back(row, inputs, deltas)
    torch.testing.assert_close(along_row, module.row(), rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(along_embeddings, leaf.grad, rtol=1e-11, atol=1e-11)
    assert torch.equal(row, before)


def test_the_row_starts_as_linear_layers_do():
    net = Hypernetwork(4, 50, 1, 2000)
    row = net.init_row(seed=1)
    assert torch.equal(row, net.init_row(seed=1))
    assert not torch.equal(row, net.init_row(seed=2))
    for weight, bias in net.layers(row):
        bound = weight.shape[1] ** -0.5
        for tensor in (weight, bias):
            assert tensor.abs().max() <= bound
            assert tensor.numel() < 100 or abs(tensor.std() / (bound / 3**0.5) - 1) < 0.2


def test_embeddings_are_normal_and_those_of_their_node():
    many = init_embeddings(np.arange(1, 400), 5, seed=3)
    assert abs(many.mean()) < 0.1
    assert abs(many.std() - 1) < 0.1
    torch.testing.assert_close(init_embeddings(np.array([7, 30]), 5, seed=3), many[[6, 29]], rtol=0, atol=0)


def test_spectral_normalisation_divides_by_the_largest_singular_value():
    normalization = SpectralNormalization(NET, SIZES)
    row, vectors = random(NET.num_params), normalization.init_vectors(0)
    assert len(vectors) == 3 * 6 + sum(SIZES)
    for _ in range(300):
        normalized, vectors, _ = normalization.normalize(row, vectors)
    *trunk, (head, bias) = NET.layers(normalized)
    for weight in [weight for weight, _ in trunk] + list(head.split(SIZES)):
        assert torch.linalg.matrix_norm(weight, 2).item() == pytest.approx(1.0, abs=1e-6)
    assert torch.equal(bias, NET.layers(row)[-1][1])


def test_derivative_of_spectral_normalisation_is_that_of_autograd():
    normalization = SpectralNormalization(NET, SIZES)
    row, along = random(NET.num_params).requires_grad_(), random(NET.num_params, seed=1)
    normalized, _, factors = normalization.normalize(row.detach(), normalization.init_vectors(0))
    expected = []
    *trunk, (head, _) = NET.layers(row)
    *along_trunk, (along_head, _) = NET.layers(along)
    pairs = [(w, a) for (w, _), (a, _) in zip(trunk, along_trunk, strict=True)]
    pairs += list(zip(head.split(SIZES), along_head.split(SIZES), strict=True))
    for (weight, gradient), (_, u, v) in zip(pairs, factors, strict=True):
        expected.append((gradient * weight / (u @ weight @ v)).sum())
    biases = [(b * a).sum() for (_, b), (_, a) in zip(NET.layers(row), NET.layers(along), strict=True)]
    (by_autograd,) = torch.autograd.grad(sum(expected + biases), row)
    found = along.clone()
    normalization.pull_back_(found, normalized, factors)
    assert (found - along).abs().max() > 0.1
    torch.testing.assert_close(found, by_autograd, rtol=1e-11, atol=1e-11)


def test_rows_are_clipped_one_by_one():
    rows = torch.tensor([[30.0, 40.0], [36.0, 48.0], [0.0, 0.0], [3.0, 4.0]], dtype=torch.float64)
    clip_rows_(rows, 50.0)
    expected = torch.tensor([[30.0, 40.0], [30.0, 40.0], [0.0, 0.0], [3.0, 4.0]], dtype=torch.float64)
    torch.testing.assert_close(rows, expected, rtol=1e-15, atol=0)


@pytest.mark.parametrize("kind", [MomentumSGD, Adam])
def test_hub_optimizers_are_those_of_torch(kind):
    x, settings = random(9), {"momentum": 0.8, "weight_decay": 0.1}
    leaf = x.clone().requires_grad_()
    reference = torch.optim.Adam([leaf], lr=0.3) if kind is Adam else torch.optim.SGD([leaf], lr=0.3, **settings)
    optimizer, slots = kind(**settings), {slot: torch.zeros_like(x) for slot in kind.slots}
    for count in range(1, 6):
        gradient = random(9, seed=count)
        leaf.grad = gradient.clone()
        reference.step()
        optimizer.update_(x, gradient, slots, 0.3, count)
    torch.testing.assert_close(x, leaf.detach(), rtol=1e-12, atol=1e-12)
