"""Adam with its usual coefficients, on tensors.

Update equations, with gradient g, in update t = 1, 2, ...:
    m <- 0.9 m + 0.1 g,   s <- 0.999 s + 0.001 g^2,   x <- x - lr (m / (1 - 0.9^t)) / (sqrt(s / (1 - 0.999^t)) + 1e-8)
Source: D. Kingma and J. Ba, "Adam", ICLR 2015 (arXiv 1412.6980).
"""

from torch import Tensor

_DECAY_1, _DECAY_2, _EPSILON = 0.9, 0.999, 1e-8


def adam_(x: Tensor, gradient: Tensor, mean: Tensor, mean_square: Tensor, *, lr: float, count: int) -> None:
    """One update, in place.

    Args:
        x: the parameters; gradient: of the same shape, and so are the next two.
        mean, mean_square: m and s, 0 at the start.
        lr: learning rate.
        count: the number t of this update, from 1 on.
    """
    mean.lerp_(gradient, 1 - _DECAY_1)
    mean_square.lerp_(gradient.square(), 1 - _DECAY_2)
    unbiased_mean = mean / (1 - _DECAY_1**count)
    unbiased_square = mean_square / (1 - _DECAY_2**count)
    x.sub_(lr * unbiased_mean / (unbiased_square.sqrt() + _EPSILON))
