"""Adam and AdamW, on tensors.

Update equations, with gradient g, coefficients b1, b2 and weight decay d, in update t = 1, 2, ...:
    m <- b1 m + (1 - b1) g,    s <- b2 s + (1 - b2) g^2
    x <- (1 - lr d) x - lr (m / (1 - b1^t)) / (sqrt(s / (1 - b2^t)) + epsilon)
Adam is d = 0; b1 = 0.9, b2 = 0.999 and epsilon = 1e-8 unless asked otherwise. The decay is that of AdamW: it is no part
of the gradient, so it is not divided by sqrt(s).
Source: D. Kingma and J. Ba, "Adam", ICLR 2015 (arXiv 1412.6980); I. Loshchilov and F. Hutter, "Decoupled weight decay
regularization", ICLR 2019 (arXiv 1711.05101).
"""

from dataclasses import dataclass

from torch import Tensor

from simulator.checks import require_at_least, require_positive, require_within


@dataclass(frozen=True, kw_only=True)
class AdamSettings:
    """The coefficients of Adam but for its learning rate; an algorithm that has them as settings is a subclass.

    Args:
        beta_1, beta_2: b1 and b2, in [0, 1).
        epsilon: what is added to the root of the mean square, positive.
        weight_decay: decoupled from the gradient, at least 0.
    """

    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.0

    def require_adam(self) -> None:
        """Raises ValueError unless all coefficients are in range."""
        for name in ("beta_1", "beta_2"):
            require_within(f"algorithm.{name}", getattr(self, name), "[0, 1)")
        require_positive("algorithm.epsilon", self.epsilon)
        require_at_least("algorithm.weight_decay", self.weight_decay, 0)


USUAL = AdamSettings()


def adam_(
    x: Tensor,
    gradient: Tensor,
    mean: Tensor,
    mean_square: Tensor,
    *,
    lr: float,
    count: int,
    settings: AdamSettings = USUAL,
) -> None:
    """One update, in place.

    Args:
        x: the parameters; gradient: of the same shape, and so are the next two.
        mean, mean_square: m and s, 0 at the start.
        lr: learning rate.
        count: the number t of this update, from 1 on.
        settings: the other coefficients.
    """
    mean.lerp_(gradient, 1 - settings.beta_1)
    mean_square.lerp_(gradient.square(), 1 - settings.beta_2)
    unbiased_mean = mean / (1 - settings.beta_1**count)
    unbiased_square = mean_square / (1 - settings.beta_2**count)
    if settings.weight_decay:
        x.mul_(1 - lr * settings.weight_decay)
    x.sub_(lr * unbiased_mean / (unbiased_square.sqrt() + settings.epsilon))
