"""Models: parameter counts, outputs and the shapes that they refuse."""

import pytest
import torch
from torch import nn

from simulator.models.cnn_dropout import CnnDropout
from simulator.models.cnn_emnist import CnnEmnist
from simulator.models.cnn_mnist import CnnMnist
from simulator.models.cnn_mnist3 import CnnMnist3
from simulator.models.cnn_mnist4 import CnnMnist4
from simulator.models.lenet import LeNet
from simulator.models.linear_binary import LinearBinary
from simulator.models.logistic_regression import LogisticRegression
from simulator.models.mlp import MLP
from simulator.models.resnet20 import ResNet20
from simulator.models.vgg11 import VGG11

MODELS = [
    (LogisticRegression, (1, 8, 8), 10, {}, 64 * 10 + 10),
    (LinearBinary, (5,), 2, {}, 6),
    (MLP, (1, 8, 8), 10, {"hidden": [32, 16]}, 64 * 32 + 32 + 32 * 16 + 16 + 16 * 10 + 10),
    (MLP, (7,), 3, {"hidden": []}, 24),
    (CnnMnist, (1, 28, 28), 10, {}, 13_750),
    (CnnEmnist, (1, 28, 28), 62, {}, 2_278_334),
    (CnnMnist4, (1, 28, 28), 10, {}, 93_322),
    (CnnMnist4, (1, 9, 11), 10, {}, 93_322),
    (CnnMnist3, (1, 28, 28), 10, {"num_kernels": 7}, 45_896),
    (CnnMnist3, (1, 18, 22), 10, {"num_kernels": 1}, 10 + 20 + 76 + 9 * 120 + 84 * 121 + 10 * 85),
    (LeNet, (3, 32, 32), 10, {"num_kernels": 16}, 121_182),
    (LeNet, (3, 32, 32), 100, {"num_kernels": 16}, 128_832),
    (LeNet, (1, 16, 20), 10, {"num_kernels": 2}, 52 + 4 * 51 + 4 * 2 * 120 + 120 + 84 * 121 + 10 * 85),
    (MLP, (1, 28, 28), 10, {"hidden": [5000]}, 3_975_010),
    (MLP, (1, 28, 28), 10, {"hidden": [200], "dropout": 0.5}, 159_010),
    (CnnDropout, (1, 28, 28), 10, {"dropout": 0.5}, 21_840),
    (CnnDropout, (1, 28, 28), 10, {"dropout": 0.0}, 21_840),
    (VGG11, (3, 32, 32), 10, {"dropout": 0.5}, 9_750_922),
    (VGG11, (3, 64, 32), 10, {"dropout": 0.0}, 9_750_922 + 512 * 512),
    (CnnMnist, (3, 32, 16), 10, {}, (3 * 25 + 1) * 20 + (20 * 25 + 1) * 20 + (20 * 5 * 1 + 1) * 10),
]


@pytest.mark.parametrize(("model", "shape", "num_classes", "arguments", "num_params"), MODELS)
def test_models_have_the_known_size_and_are_plain_chains(model, shape, num_classes, arguments, num_params):
    net = model(input_shape=shape, num_classes=num_classes, **arguments)
    assert sum(param.numel() for param in net.parameters()) == num_params
    assert net(torch.zeros(4, *shape)).shape == (4, num_classes)
    assert isinstance(net, nn.Sequential)
    assert all(not list(layer.children()) for layer in net)


def test_cnn_mnist_equals_the_network_written_out():
    net = CnnMnist(input_shape=(1, 28, 28), num_classes=10)
    images = torch.rand(3, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    conv1, bias1, conv2, bias2, weight, bias = (param.detach() for param in net.parameters())
    x = nn.functional.max_pool2d(nn.functional.conv2d(images, conv1, bias1).clamp(min=0), 2)
    x = nn.functional.max_pool2d(nn.functional.conv2d(x, conv2, bias2).clamp(min=0), 2)
    torch.testing.assert_close(net(images).detach(), x.reshape(3, 320) @ weight.T + bias)


def test_cnn_mnist4_equals_the_network_written_out():
    net = CnnMnist4(input_shape=(1, 12, 10), num_classes=10)
    x = images = torch.rand(3, 1, 12, 10, generator=torch.Generator().manual_seed(0))
    *convolutions, weight, bias = (param.detach() for param in net.parameters())
    for kernel, offset in zip(convolutions[::2], convolutions[1::2], strict=True):
        x = nn.functional.conv2d(x, kernel, offset).clamp(min=0)
    torch.testing.assert_close(net(images).detach(), x.amax(dim=(2, 3)) @ weight.T + bias)


def test_cnn_dropout_equals_the_network_written_out():
    net = CnnDropout(input_shape=(1, 28, 28), num_classes=10, dropout=0.5).eval()
    images = torch.rand(3, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    conv1, bias1, conv2, bias2, hidden, hidden_bias, weight, bias = (param.detach() for param in net.parameters())
    x = nn.functional.max_pool2d(nn.functional.conv2d(images, conv1, bias1), 2).clamp(min=0)
    x = nn.functional.max_pool2d(nn.functional.conv2d(x, conv2, bias2), 2).clamp(min=0)
    x = (x.reshape(3, 320) @ hidden.T + hidden_bias).clamp(min=0)
    torch.testing.assert_close(net(images).detach(), x @ weight.T + bias)
    kinds = [type(layer) for layer in net]
    # Channels are dropped before they are pooled, features after the ReLU.
    assert kinds.index(nn.Dropout2d) == kinds.index(nn.Dropout) - 6
    assert kinds[kinds.index(nn.Dropout2d) + 1] is nn.MaxPool2d
    assert [layer.p for layer in net if isinstance(layer, nn.Dropout | nn.Dropout2d)] == [0.5, 0.5]
    with pytest.raises(ValueError, match=r"model\.dropout=1\.0: expected a number in \[0, 1\)"):
        CnnDropout(input_shape=(1, 28, 28), num_classes=10, dropout=1.0)


def test_dropout_of_an_mlp_comes_before_its_relus():
    net = MLP(input_shape=(4,), num_classes=2, hidden=[8, 6], dropout=0.5)
    kinds = [type(layer).__name__ for layer in net]
    assert kinds == ["Flatten", *["Linear", "Dropout", "ReLU"] * 2, "Linear"]
    with pytest.raises(ValueError, match=r"model\.dropout=-0\.1: expected a number in \[0, 1\)"):
        MLP(input_shape=(4,), num_classes=2, hidden=[8], dropout=-0.1)


def test_resnet20_has_the_known_size_and_is_deterministic_in_what_it_starts_from():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = ResNet20(input_shape=(3, 32, 32), num_classes=10)
    assert sum(param.numel() for param in net.parameters()) == 272_474
    assert not list(net.buffers())
    assert net(torch.rand(2, 3, 32, 32)).shape == (2, 10)
    deviations = {
        tuple(p.shape): p.std() / (2 / (p[0, 0].numel() * len(p))) ** 0.5 for p in net.parameters() if p.dim() == 4
    }
    assert len(deviations) == 8
    assert all(abs(ratio - 1) < 0.1 for shape, ratio in deviations.items() if torch.Size(shape).numel() > 1000)


def test_vgg11_starts_as_it_says():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = VGG11(input_shape=(3, 32, 32), num_classes=10, dropout=0.5)
    convolutions = [layer for layer in net if isinstance(layer, nn.Conv2d)]
    assert [layer.out_channels for layer in convolutions] == [64, 128, 256, 256, 512, 512, 512, 512]
    for layer in convolutions:
        assert abs(layer.weight.std() / (2 / (9 * layer.out_channels)) ** 0.5 - 1) < 0.05
        assert not layer.bias.any()
    assert [layer.p for layer in net if isinstance(layer, nn.Dropout)] == [0.5, 0.5]
    with pytest.raises(ValueError, match=r"model\.dropout=1\.0: expected a number in \[0, 1\)"):
        VGG11(input_shape=(3, 32, 32), num_classes=10, dropout=1.0)


@pytest.mark.parametrize(
    ("model", "shape", "size"),
    [(CnnMnist4, (1, 8, 28), 9), (CnnMnist4, (64,), 9), (ResNet20, (3, 7, 8), 8), (VGG11, (3, 31, 32), 32)],
)
def test_images_that_are_too_small_are_refused(model, shape, size):
    arguments = {"dropout": 0.0} if model is VGG11 else {}
    with pytest.raises(ValueError, match=rf"^model \w+: takes images .* at least {size}x{size} .*shape \("):
        model(input_shape=shape, num_classes=10, **arguments)


def test_linear_binary_cross_entropy_is_binary_cross_entropy():
    net = LinearBinary(input_shape=(5,), num_classes=2).double()
    rng = torch.Generator().manual_seed(0)
    inputs = torch.randn(9, 5, generator=rng, dtype=torch.float64)
    labels = torch.randint(2, (9,), generator=rng)
    logits = inputs @ net[1].weight[0] + net[1].bias
    torch.testing.assert_close(
        nn.functional.cross_entropy(net(inputs), labels),
        nn.functional.binary_cross_entropy_with_logits(logits, labels.double()),
    )


@pytest.mark.parametrize("model", [CnnMnist, CnnEmnist])
@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 15, 28), (64,)])
def test_convolutions_refuse_what_they_cannot_take(model, shape):
    with pytest.raises(ValueError, match=r"^model cnn_\w+: takes images .* at least 16x16 .*shape \("):
        model(input_shape=shape, num_classes=10)


def test_impossible_arguments_are_refused():
    with pytest.raises(ValueError, match=r"hidden=\[8, 0\]"):
        MLP(input_shape=(4,), num_classes=2, hidden=[8, 0])
    with pytest.raises(ValueError, match="10 classes and this model takes 2"):
        LinearBinary(input_shape=(4,), num_classes=10)
