"""Binary logistic regression with a single output, written as two logits.

The logits of a sample are (0, w . x + b), so that cross-entropy over the two classes is binary cross-entropy of the
sigmoid of w . x + b: F + 1 parameters instead of the 2 (F + 1) of multinomial regression.
"""

import math

from torch import nn


class LinearBinary(nn.Sequential):
    """Linear(F -> 1) with bias, and a constant zero as the logit of class 0.

    Args:
        input_shape: shape of one sample; F is the product.
        num_classes: must be 2.

    Raises:
        ValueError: for another number of classes.
    """

    def __init__(self, *, input_shape: tuple[int, ...], num_classes: int) -> None:
        if num_classes != 2:
            raise ValueError(f"model linear_binary: the dataset has {num_classes} classes and this model takes 2")
        super().__init__(nn.Flatten(), nn.Linear(math.prod(input_shape), 1), nn.ConstantPad1d((1, 0), 0.0))
