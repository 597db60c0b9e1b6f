"""Rows and models as functions, against nn.Module itself."""

import pytest
import torch
from torch import nn

from simulator.models.cnn_mnist import CnnMnist
from simulator.models.linear_binary import LinearBinary
from simulator.models.logistic_regression import LogisticRegression
from simulator.models.mlp import MLP
from simulator.rows import ModelFunction, RowLayout, plain_chain

SHAPE = (1, 16, 16)


class Bare(nn.Module):
    """Not a chain, with a scalar parameter."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(256, 3)
        self.scale = nn.Parameter(torch.tensor(0.7))

    def forward(self, x):
        return torch.tanh(self.linear(x.flatten(1))) * self.scale


class DoubledOutput(nn.Sequential):
    """A chain by its layers, and not by what it does with them."""

    def forward(self, x):
        return 2 * super().forward(x)


class ShiftedLinear(nn.Linear):
    def forward(self, x):
        return super().forward(x) + 1


def shared_layer():
    layer = nn.Linear(256, 256)
    return nn.Sequential(nn.Flatten(), layer, nn.ReLU(), layer)


MODELS = {
    "mlp": lambda: MLP(input_shape=SHAPE, num_classes=3, hidden=[7, 5]),
    "cnn": lambda: CnnMnist(input_shape=SHAPE, num_classes=3),
    "strided_cnn": lambda: nn.Sequential(
        nn.Conv2d(1, 4, 3, stride=2, padding=1, bias=False),
        nn.ReLU(),
        nn.Conv2d(4, 4, 3, padding="same", dilation=2, groups=2),
        nn.MaxPool2d(3, stride=2, padding=1, ceil_mode=True),
        nn.Flatten(),
        nn.Linear(100, 3, bias=False),
    ),
    "circular_cnn": lambda: nn.Sequential(nn.Conv2d(1, 2, 3, padding=1, padding_mode="circular"), nn.Flatten()),
    "logistic_regression": lambda: LogisticRegression(input_shape=SHAPE, num_classes=3),
    "linear_binary": lambda: LinearBinary(input_shape=SHAPE, num_classes=2),
    "bare": Bare,
    "sequential_with_its_own_forward": lambda: DoubledOutput(nn.Flatten(), nn.Linear(256, 3)),
    "layer_with_its_own_forward": lambda: nn.Sequential(nn.Flatten(), ShiftedLinear(256, 3)),
    "layer_used_twice": shared_layer,
    "nested": lambda: nn.Sequential(nn.Flatten(), nn.Sequential(nn.Linear(256, 4), nn.Tanh()), nn.Linear(4, 3)),
}


def build(name, seed=0):
    torch.manual_seed(seed)
    return MODELS[name]().double()


@pytest.mark.parametrize("name", MODELS)
def test_a_row_through_the_function_is_the_module(name):
    modules = [build(name, seed) for seed in range(3)]
    function = ModelFunction(modules[0])
    layout = function.layout
    rows = torch.stack([layout.flatten(module) for module in modules])
    assert rows.shape == (3, layout.num_params)
    assert layout.num_params == sum(p.numel() for p in modules[0].parameters())
    inputs = torch.randn(4, *SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    views = layout.views(rows)
    for index, module in enumerate(modules):
        with torch.no_grad():
            torch.testing.assert_close(
                function([view[index] for view in views], inputs), module(inputs), rtol=1e-13, atol=1e-13
            )


@pytest.mark.parametrize("name", ["mlp", "cnn", "bare"])
def test_views_are_the_parameters_in_order_and_write_through(name):
    module = build(name)
    layout = RowLayout(module)
    rows = layout.flatten(module).expand(2, -1).clone()
    views = layout.views(rows)
    assert len(views) == len(layout.names) == len(layout.shapes)
    for view, (parameter_name, parameter), known in zip(views, module.named_parameters(), layout.names, strict=True):
        assert parameter_name == known
        torch.testing.assert_close(view[1], parameter.detach(), rtol=0, atol=0)
    for number, view in enumerate(views):
        view[1] = number
    assert not (rows[0] == rows[1]).all()
    sizes = [p.numel() for p in module.parameters()]
    assert rows[1].tolist() == [number for number, size in enumerate(sizes) for _ in range(size)]
    torch.testing.assert_close(rows[0], layout.flatten(module), rtol=0, atol=0)


def test_what_counts_as_a_plain_chain():
    chains = {name for name in MODELS if plain_chain(MODELS[name]()) is not None}
    assert chains == {"mlp", "cnn", "strided_cnn", "logistic_regression"}


def test_a_row_is_a_copy():
    module = build("mlp")
    row = RowLayout(module).flatten(module)
    row.zero_()
    assert any(p.abs().sum() > 0 for p in module.parameters())
    assert not row.requires_grad


@pytest.mark.parametrize("layer", [nn.Dropout3d(0.5), nn.Sequential(nn.Dropout(0.5))])
def test_dropout_outside_of_a_plain_chain_is_refused(layer):
    with pytest.raises(ValueError, match=r"model Sequential has dropout.*without dropout"):
        ModelFunction(nn.Sequential(nn.Linear(2, 2), layer))
    ModelFunction(nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Dropout(0.0))))


def test_batch_normalisation_is_known_by_its_layers():
    normal = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2, track_running_stats=False))
    assert ModelFunction(normal).mixes_samples
    assert not ModelFunction(nn.Sequential(nn.Conv2d(1, 2, 3), nn.InstanceNorm2d(2))).mixes_samples


def test_models_with_buffers_are_refused():
    with pytest.raises(ValueError, match=r"model Sequential has buffers.*without batch normalisation"):
        RowLayout(nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)))


def test_pooling_before_a_relu_changes_neither_numbers_nor_gradients():
    module = nn.Sequential(
        *(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.MaxPool2d(3, stride=2, padding=1)),
        *(nn.Conv2d(3, 2, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8, 3)),
    ).double()
    function = ModelFunction(module)
    kinds = [type(layer).__name__ for layer in function.layers]
    assert kinds == ["Conv2d", "MaxPool2d", "ReLU"] * 2 + ["Flatten", "Linear"]
    inputs = torch.randn(5, *SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(1))[..., :14, :14]
    found, expected = function(list(module.parameters()), inputs), module(inputs)
    assert torch.equal(found, expected)
    pairs = zip(*(torch.autograd.grad(x.square().sum(), module.parameters()) for x in (found, expected)), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
