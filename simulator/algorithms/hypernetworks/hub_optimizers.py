"""How a hub moves its parameters along a gradient: SGD with momentum and weight decay, and Adam.

Update equations, with g the gradient and x the parameters,
    SGD:   m <- momentum m + g + weight_decay x,   x <- x - lr m;
    Adam:  m <- 0.9 m + 0.1 g,   s <- 0.999 s + 0.001 g^2,
           x <- x - lr (m / (1 - 0.9^t)) / (sqrt(s / (1 - 0.999^t)) + 1e-8)  in update t = 1, 2, ...
Source: D. Kingma and J. Ba, "Adam", ICLR 2015 (arXiv 1412.6980).
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor


class HubOptimizer(ABC):
    """An optimizer whose state are tensors of the parameters' shape.

    Args:
        momentum: heavy-ball coefficient of SGD.
        weight_decay: coefficient of ||x||^2 / 2 of SGD.

    Attributes:
        slots: names of these tensors; they start at 0.
        uses_groups: whether embeddings may have a learning rate of their own.
    """

    slots: ClassVar[tuple[str, ...]]
    uses_groups: ClassVar[bool]

    def __init__(self, *, momentum: float, weight_decay: float) -> None:
        self.momentum = momentum
        self.weight_decay = weight_decay

    @abstractmethod
    def update_(self, x: Tensor, gradient: Tensor, slots: Mapping[str, Tensor], lr: float, count: int) -> None:
        """Updates ``x`` and ``slots`` in place; ``count`` is the number t of this update, from 1 on."""


class MomentumSGD(HubOptimizer):
    """SGD with momentum and weight decay."""

    slots = ("momentum",)
    uses_groups = True

    def update_(self, x: Tensor, gradient: Tensor, slots: Mapping[str, Tensor], lr: float, count: int) -> None:
        velocity = slots["momentum"]
        velocity.mul_(self.momentum).add_(gradient)
        if self.weight_decay:
            velocity.add_(x, alpha=self.weight_decay)
        x.sub_(velocity, alpha=lr)


class Adam(HubOptimizer):
    """Adam with its usual coefficients; it has no use for momentum and weight decay."""

    slots = ("mean", "mean_square")
    uses_groups = False

    def update_(self, x: Tensor, gradient: Tensor, slots: Mapping[str, Tensor], lr: float, count: int) -> None:
        mean, mean_square = slots["mean"], slots["mean_square"]
        mean.lerp_(gradient, 0.1)
        mean_square.mul_(0.999).addcmul_(gradient, gradient, value=0.001)
        scale = (mean_square / (1.0 - 0.999**count)).sqrt_().add_(1e-8)
        x.addcdiv_(mean, scale, value=-lr / (1.0 - 0.9**count))


OPTIMIZERS: dict[str, type[HubOptimizer]] = {"sgd": MomentumSGD, "adam": Adam}
"""The values of ``algorithm.optimizer``."""
