"""A multilayer perceptron: linear layers with ReLU between them, on the flattened input."""

import math
from collections.abc import Sequence

from torch import nn

from simulator.checks import require_within


class MLP(nn.Sequential):
    """Linear(F -> hidden[0]), ReLU, ..., Linear(hidden[-1] -> C).

    Args:
        input_shape: shape of one sample; F is the product.
        num_classes: number C of logits.
        hidden: width of each hidden layer, from the input on.
        dropout: rate of dropout between each hidden layer and its ReLU, in [0, 1); off in evaluations.

    Raises:
        ValueError: for a width below 1 or another rate.
    """

    def __init__(
        self, *, input_shape: tuple[int, ...], num_classes: int, hidden: Sequence[int], dropout: float = 0.0
    ) -> None:
        if any(width < 1 for width in hidden):
            raise ValueError(f"model.hidden={list(hidden)}: every width must be at least 1")
        require_within("model.dropout", dropout, "[0, 1)")
        layers: list[nn.Module] = [nn.Flatten()]
        num_inputs = math.prod(input_shape)
        for width in hidden:
            layers += [nn.Linear(num_inputs, width), *([nn.Dropout(dropout)] if dropout else []), nn.ReLU()]
            num_inputs = width
        super().__init__(*layers, nn.Linear(num_inputs, num_classes))
