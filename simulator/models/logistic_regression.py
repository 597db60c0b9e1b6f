"""Multinomial logistic regression: one linear layer on the flattened input."""

import math

from torch import nn


class LogisticRegression(nn.Sequential):
    """Linear(F -> C) with bias.

    Args:
        input_shape: shape of one sample; F is the product.
        num_classes: number C of logits.
    """

    def __init__(self, *, input_shape: tuple[int, ...], num_classes: int) -> None:
        super().__init__(nn.Flatten(), nn.Linear(math.prod(input_shape), num_classes))
