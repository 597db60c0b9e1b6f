"""How a hypernetwork and its embeddings move along a gradient: SGD with momentum and weight decay, and Adam.

Update equations, with g the gradient and x the parameters,
    SGD:   m <- momentum m + g + weight_decay x,   x <- x - lr m;
    Adam:  see algorithms/adam.py.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor

from simulator.algorithms.adam import adam_


class Optimizer(ABC):
    """An optimizer whose state are tensors of the parameters' shape.

    Args:
        momentum: heavy-ball coefficient of SGD.
        weight_decay: coefficient of ||x||^2 / 2 of SGD.

    Attributes:
        slots: names of these tensors; they start at 0.
        uses_groups: whether embeddings may have a learning rate of their own.
        uses_count: whether ``count`` matters.
    """

    slots: ClassVar[tuple[str, ...]]
    uses_groups: ClassVar[bool]
    uses_count: ClassVar[bool]

    def __init__(self, *, momentum: float, weight_decay: float) -> None:
        self.momentum = momentum
        self.weight_decay = weight_decay

    @abstractmethod
    def update_(self, x: Tensor, gradient: Tensor, slots: Mapping[str, Tensor], lr: float, count: int) -> None:
        """Updates ``x`` and ``slots`` in place; ``count`` is the number t of this update, from 1 on."""


class MomentumSGD(Optimizer):
    """SGD with momentum and weight decay."""

    slots = ("momentum",)
    uses_groups = True
    uses_count = False

    def update_(self, x: Tensor, gradient: Tensor, slots: Mapping[str, Tensor], lr: float, count: int) -> None:
        velocity = slots["momentum"]
        velocity.mul_(self.momentum).add_(gradient)
        if self.weight_decay:
            velocity.add_(x, alpha=self.weight_decay)
        x.sub_(velocity, alpha=lr)


class Adam(Optimizer):
    """Adam with its usual coefficients; momentum and weight decay are not used."""

    slots = ("mean", "mean_square")
    uses_groups = False
    uses_count = True

    def update_(self, x: Tensor, gradient: Tensor, slots: Mapping[str, Tensor], lr: float, count: int) -> None:
        adam_(x, gradient, slots["mean"], slots["mean_square"], lr=lr, count=count)


OPTIMIZERS: dict[str, type[Optimizer]] = {"sgd": MomentumSGD, "adam": Adam}
"""The values of ``algorithm.optimizer``."""
