"""nn.Module <-> rows [N, D], and the batched forward pass of N models at once.

A row is the concatenation of a module's parameters in their own order. Per-tensor views of the rows are strided, cost
nothing, and are the leaves of every gradient: gradients with respect to slices of one flat leaf would write D zeros per
slice. Shapes: N nodes, D parameters, B batch, C classes.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class RowLayout:
    """Where each parameter tensor of a module stands in a row.

    Attributes:
        names, shapes: of the tensors, in order.
        num_params: D.
    """

    def __init__(self, module: nn.Module) -> None:
        if any(True for _ in module.buffers()):
            raise ValueError(
                f"model {type(module).__name__} has buffers (running statistics?), which a row of parameters cannot "
                "carry; use a model without batch normalisation"
            )
        if any(isinstance(part, nn.modules.dropout._DropoutNd) and part.p > 0 for part in module.modules()):
            raise ValueError(
                f"model {type(module).__name__} has dropout, whose masks would come from a global generator and change "
                "with the placement; use a model without dropout"
            )
        parameters = dict(module.named_parameters())
        self.names = tuple(parameters)
        self.shapes = tuple(tuple(p.shape) for p in parameters.values())
        sizes = [math.prod(shape) for shape in self.shapes]
        self._offsets = [0]
        for size in sizes:
            self._offsets.append(self._offsets[-1] + size)
        self.num_params = self._offsets[-1]

    def views(self, rows: Tensor) -> list[Tensor]:
        """Views [N, *shape] of ``rows`` [N, D], one per tensor; writing to a view writes to the rows."""
        num_rows = rows.shape[0]
        return [
            rows[:, start:stop].view(num_rows, *shape)
            for (start, stop), shape in zip(pairwise(self._offsets), self.shapes, strict=True)
        ]

    def flatten(self, module: nn.Module) -> Tensor:
        """The row [D] of a module's present parameters."""
        return torch.cat([p.detach().reshape(-1) for p in module.parameters()])


Layer = nn.Flatten | nn.Linear | nn.ReLU | nn.Conv2d | nn.MaxPool2d


def plain_chain(module: nn.Module) -> list[Layer] | None:
    """The layers of an ``nn.Sequential`` made of Flatten, Linear, ReLU, Conv2d and MaxPool2d; None for other models.

    Subclasses with a forward pass of their own and layers with parameters that stand in two places are other models.
    """
    if not isinstance(module, nn.Sequential) or type(module).forward is not nn.Sequential.forward:
        return None
    layers: list[Any] = list(module)
    known = (nn.Flatten, nn.Linear, nn.ReLU, nn.Conv2d, nn.MaxPool2d)
    if not all(type(layer) in known for layer in layers):
        return None
    if sum(len(list(layer.parameters())) for layer in layers) != len(list(module.parameters())):
        return None
    if any(isinstance(layer, nn.Conv2d) and layer.padding_mode != "zeros" for layer in layers):
        return None
    return layers


class ModelFunction:
    """A module as a pure function of its parameter tensors; a plain chain skips nn.Module's overhead."""

    def __init__(self, module: nn.Module) -> None:
        self.layout = RowLayout(module)
        self.layers = plain_chain(module)
        self._module = module
        self._convolves = any(isinstance(layer, nn.Conv2d) for layer in self.layers or [])

    def arrange(self, inputs: Tensor) -> Tensor:
        """The same inputs [B, ...] in the memory layout in which one model after the other is fastest.

        On CPUs convolutions and pooling take a third less time with channels last; vmap does not know that layout.
        """
        if self._convolves and inputs.dim() == 4 and inputs.device.type == "cpu":
            return inputs.to(memory_format=torch.channels_last)
        return inputs

    def __call__(self, tensors: Sequence[Tensor], inputs: Tensor) -> Tensor:
        """Logits [B, C] of one model with parameter ``tensors`` on ``inputs`` [B, ...]."""
        if self.layers is None:
            named = dict(zip(self.layout.names, tensors, strict=True))
            result = torch.func.functional_call(self._module, named, (inputs,))
            assert isinstance(result, Tensor)
            return result
        x = inputs
        remaining = iter(tensors)
        for layer in self.layers:
            if isinstance(layer, nn.Linear):
                x = F.linear(x, next(remaining), next(remaining) if layer.bias is not None else None)
            elif isinstance(layer, nn.Conv2d):
                weight, bias = next(remaining), next(remaining) if layer.bias is not None else None
                x = F.conv2d(x, weight, bias, layer.stride, layer.padding, layer.dilation, layer.groups)
            elif isinstance(layer, nn.ReLU):
                x = F.relu(x)
            elif isinstance(layer, nn.MaxPool2d):
                x = F.max_pool2d(
                    x, layer.kernel_size, layer.stride, layer.padding, layer.dilation, ceil_mode=layer.ceil_mode
                )
            else:
                x = x.flatten(layer.start_dim, layer.end_dim)
        return x
