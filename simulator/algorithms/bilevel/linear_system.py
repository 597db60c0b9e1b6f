"""What the methods with second derivatives share: the adjoint variable and the hypergradient that goes with it.

For z with (mean_i d2 g_i/dy2) z = mean_i d_y f_i the hypergradient is the mean of u_i = d_x f_i - (d2 g_i/dx dy) z.
Second derivatives appear in products with z alone, by automatic differentiation or by central differences of gradients:
    (d2 g_i) z = (grad g_i(y + h z) - grad g_i(y - h z)) / 2h,    h = difference_step / ||z_i||.

Shapes: N local nodes, D parameters, H hyperparameters.
"""

import torch
from torch import Tensor

from simulator.problems.base import BilevelProblem


def directions(
    problem: BilevelProblem, x: Tensor, y: Tensor, z: Tensor, batch: int | None, difference_step: float | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """What pulls at a node's x, y and z: u_i, d_y g_i and (d2 g_i/dy2) z - d_y f_i.

    Args:
        x, y, z: where, [N, H], [N, D] and [N, D].
        batch: the minibatch, None for everything.
        difference_step: None for products by differentiation.
    """
    outer_y, outer_x = problem.outer_grads(y, x, batch)
    if difference_step is None:
        hessian_z, mixed_z = problem.second_order(y, x, z, batch)
    else:
        hessian_z, mixed_z = differences(problem, x, y, z, batch, difference_step)
    return outer_x - mixed_z, problem.grad(y, x, batch), hessian_z - outer_y


def differences(
    problem: BilevelProblem, x: Tensor, y: Tensor, z: Tensor, batch: int | None, difference_step: float
) -> tuple[Tensor, Tensor]:
    """The products of :meth:`BilevelProblem.second_order` from gradients at two points."""
    length = difference_step / z.norm(dim=1, keepdim=True).clamp_min(torch.finfo(z.dtype).tiny)
    # Where z is 0 the points coincide, and so do the gradients.
    length = length.clamp_max(1.0)
    ahead = problem.inner_grads(torch.addcmul(y, length, z), x, batch)
    behind = problem.inner_grads(torch.addcmul(y, length, z, value=-1.0), x, batch)
    along_y, along_x = (a.sub(b).div_(2 * length) for a, b in zip(ahead, behind, strict=True))
    return along_y, along_x
