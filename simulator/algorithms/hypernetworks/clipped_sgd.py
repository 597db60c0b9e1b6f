"""Local SGD with momentum, weight decay and clipped gradients.

Update equations, for K steps on the row x of each model with its velocity m:
    g = grad f(x; batch),   g <- g min(1, clip / ||g||),   m <- momentum m + g + weight_decay x,   x <- x - lr m.
The norm is that of the first columns of a row alone where only they are clipped; the others stay as they are.

Shapes: m models, D parameters.
"""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor


def clip_rows_(rows: Tensor, limit: float) -> None:
    """Scales every row of norm above ``limit`` down to it, in place; [m, D]."""
    norms = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    if bool((norms > limit).any()):
        rows.mul_((limit / norms).clamp_max(1.0))


def train_clipped_(
    params: Tensor,
    velocity: Tensor,
    add_gradient_: Callable[[Tensor, Tensor, int], None],
    steps: Iterable[int],
    *,
    lr: float,
    momentum: float,
    weight_decay: float,
    clip: float,
    num_clipped: int,
) -> None:
    """Trains all models at once, in place.

    Args:
        params, velocity: [m, D].
        add_gradient_: adds to its first argument [m, D] the gradients at parameters [m, D] on a step's minibatches.
        steps: which minibatches.
        clip: largest norm of a gradient; num_clipped: of its first columns.
    """
    found = torch.empty_like(params)
    for step in steps:
        add_gradient_(found.zero_(), params, step)
        clip_rows_(found[:, :num_clipped], clip)
        torch.add(found, velocity, alpha=momentum, out=velocity)
        if weight_decay:
            velocity.add_(params, alpha=weight_decay)
        params.sub_(velocity, alpha=lr)
