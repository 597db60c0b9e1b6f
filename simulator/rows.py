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
                "carry; use a model without batch normalisation, or with the statistics of the batch alone"
            )
        parameters = dict(module.named_parameters())
        self.names = tuple(parameters)
        self.shapes = tuple(tuple(p.shape) for p in parameters.values())
        sizes = [math.prod(shape) for shape in self.shapes]
        self._offsets = [0]
        for size in sizes:
            self._offsets.append(self._offsets[-1] + size)
        self.num_params = self._offsets[-1]

    @property
    def layer_sizes(self) -> tuple[int, ...]:
        """The number of parameters of each layer that has some, in order; the tensors of one module are one layer."""
        layers = [name.rpartition(".")[0] for name in self.names]
        starts = [i for i, layer in enumerate(layers) if i == 0 or layer != layers[i - 1]]
        bounds = [self._offsets[i] for i in starts] + [self.num_params]
        return tuple(stop - start for start, stop in pairwise(bounds))

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


Layer = nn.Flatten | nn.Linear | nn.ReLU | nn.Conv2d | nn.MaxPool2d | nn.Dropout | nn.Dropout2d
_DROPOUT = (nn.Dropout, nn.Dropout2d)


def plain_chain(module: nn.Module) -> list[Layer] | None:
    """The layers of an ``nn.Sequential`` of layers listed in :data:`Layer`; None for other models.

    Dropout with rate 0 is left out. A ReLU before max-pooling is moved behind it: numbers and gradients are the same,
    and fewer entries are computed. None is also returned for subclasses with a forward pass of their own, and when one
    layer with parameters stands in two places.
    """
    if not isinstance(module, nn.Sequential) or type(module).forward is not nn.Sequential.forward:
        return None
    layers: list[Any] = list(module)
    known = (nn.Flatten, nn.Linear, nn.ReLU, nn.Conv2d, nn.MaxPool2d, *_DROPOUT)
    if not all(type(layer) in known for layer in layers):
        return None
    if sum(len(list(layer.parameters())) for layer in layers) != len(list(module.parameters())):
        return None
    if any(isinstance(layer, nn.Conv2d) and layer.padding_mode != "zeros" for layer in layers):
        return None
    layers = [layer for layer in layers if not (isinstance(layer, _DROPOUT) and layer.p == 0)]
    for position, (layer, following) in enumerate(pairwise(layers)):
        if isinstance(layer, nn.ReLU) and isinstance(following, nn.MaxPool2d):
            layers[position : position + 2] = following, layer
    return layers


class ModelFunction:
    """A module as a pure function of its parameter tensors; a plain chain skips nn.Module's overhead.

    Attributes:
        layers: of a plain chain, None for other models.
        mixes_samples: whether a sample's logits depend on the others of its batch (batch normalisation).

    Raises:
        ValueError: for buffers, and for dropout outside a plain chain, where masks cannot be passed in.
    """

    def __init__(self, module: nn.Module) -> None:
        self.layout = RowLayout(module)
        self.layers = plain_chain(module)
        self.mixes_samples = any(isinstance(part, nn.modules.batchnorm._BatchNorm) for part in module.modules())
        drops = any(isinstance(part, nn.modules.dropout._DropoutNd) and part.p > 0 for part in module.modules())
        if drops and self.layers is None:
            raise ValueError(
                f"model {type(module).__name__} has dropout and is no nn.Sequential of known layers, so that its masks "
                "would come from a global generator and change with the placement; use a model without dropout"
            )
        self._module = module
        self._convolves = any(isinstance(layer, nn.Conv2d) for layer in self.layers or [])

    def split_head(self) -> tuple["ModelFunction", "ModelFunction"]:
        """All layers but the last, and the last one, a linear one; rows of both side by side are rows of the whole.

        Raises:
            ValueError: when the model does not end with a linear layer, or nothing before it has parameters.
        """
        module = self._module
        if (
            isinstance(module, nn.Sequential)
            and type(module).forward is nn.Sequential.forward
            and type(module[-1]) is nn.Linear
        ):
            *layers, last = module
            features, head = (ModelFunction(nn.Sequential(*part)) for part in (layers, [last]))
            num_features, num_head = features.layout.num_params, head.layout.num_params
            if num_features > 0 and num_features + num_head == self.layout.num_params:
                return features, head
        raise ValueError(
            f"model {type(module).__name__}: a linear head on layers with parameters is needed, that is an "
            "nn.Sequential that ends with nn.Linear; use for example model=mlp"
        )

    def arrange(self, inputs: Tensor) -> Tensor:
        """The same inputs [B, ...] in the memory layout in which one model after the other is fastest.

        On CPUs convolutions and pooling take a third less time with channels last; vmap does not know that layout.
        """
        if self._convolves and inputs.dim() == 4 and inputs.device.type == "cpu":
            return inputs.to(memory_format=torch.channels_last)
        return inputs

    @torch.no_grad()
    def dropout(self, input_shape: Sequence[int]) -> list[tuple[float, int]]:
        """The rate of every dropout layer and the number of its features per sample, in order.

        A feature is a number, or a whole channel where dropout is by channel.
        """
        dropout: list[tuple[float, int]] = []
        if not any(isinstance(layer, _DROPOUT) for layer in self.layers or []):
            return dropout
        x = torch.zeros(1, *input_shape, dtype=next(self._module.parameters()).dtype)
        for layer in self.layers or []:
            if isinstance(layer, _DROPOUT):
                dropout.append((layer.p, _num_masked(layer, x)))
            else:
                x = layer(x)
        return dropout

    def __call__(self, tensors: Sequence[Tensor], inputs: Tensor, masks: Tensor | None = None) -> Tensor:
        """Logits [B, C] of one model with parameter ``tensors`` on ``inputs`` [B, ...].

        Args:
            masks: factors of the features at the dropout layers, layer after layer, [B, F]; None turns dropout off.
        """
        if self.layers is None:
            named = dict(zip(self.layout.names, tensors, strict=True))
            result = torch.func.functional_call(self._module, named, (inputs,))
            assert isinstance(result, Tensor)
            return result
        x, num_masked = inputs, 0
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
            elif isinstance(layer, _DROPOUT):
                if masks is not None:
                    size = _num_masked(layer, x)
                    mask = masks[:, num_masked : num_masked + size]
                    x = x * (mask.reshape(x.shape) if isinstance(layer, nn.Dropout) else mask[:, :, None, None])
                    num_masked += size
            else:
                x = x.flatten(layer.start_dim, layer.end_dim)
        return x


def _num_masked(layer: nn.Dropout | nn.Dropout2d, x: Tensor) -> int:
    """The number of entries in the mask of a dropout layer for one sample of ``x`` [B, ...]."""
    return x.shape[1] if isinstance(layer, nn.Dropout2d) else x[0].numel()
