"""The linear system of the adjoint variable z, and the hypergradient that goes with it, for single loops.

For z with (mean_i d2 g_i/dy2) z = mean_i d_y f_i the hypergradient is the mean of u_i = d_x f_i - (d2 g_i/dx dy) z;
with personal lower levels (lopa) every node has a z_i of its own, which solves the system without means.
Second derivatives appear in products with z alone, by automatic differentiation or by central differences of gradients:
    (d2 g_i) z = (grad g_i(y + h z) - grad g_i(y - h z)) / 2h,    h = difference_step / ||z_i||.

Shapes: N local nodes, D parameters, H hyperparameters.
"""

import torch
from torch import Tensor

from simulator.problems.base import BilevelProblem


def directions(
    problem: BilevelProblem,
    params: Tensor,
    hparams: Tensor,
    adjoint: Tensor,
    batch: int | None,
    difference_step: float | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """The directions of descent of x, y and z: u_i, d_y g_i and (d2 g_i/dy2) z - d_y f_i.

    Args:
        params, hparams, adjoint: y [N, D], x [N, H] and z [N, D].
        batch: the minibatch, None for the full batch.
        difference_step: None for products by automatic differentiation.
    """
    outer_y, outer_x = problem.outer_grads(params, hparams, batch)
    if difference_step is None:
        hessian_z, mixed_z = problem.second_order(params, hparams, adjoint, batch)
    else:
        hessian_z, mixed_z = differences(problem, params, hparams, adjoint, batch, difference_step)
    return outer_x - mixed_z, problem.grad(params, hparams, batch), hessian_z - outer_y


def differences(
    problem: BilevelProblem,
    params: Tensor,
    hparams: Tensor,
    adjoint: Tensor,
    batch: int | None,
    difference_step: float,
) -> tuple[Tensor, Tensor]:
    """The products of :meth:`BilevelProblem.second_order` from gradients at two points; arguments as above."""
    length = difference_step / adjoint.norm(dim=1, keepdim=True).clamp_min(torch.finfo(adjoint.dtype).tiny)
    # Where z is 0 both points are y, and the difference of the gradients is 0 for any finite length.
    length = length.clamp_max(1.0)
    ahead = problem.inner_grads(torch.addcmul(params, length, adjoint), hparams, batch)
    behind = problem.inner_grads(torch.addcmul(params, length, adjoint, value=-1.0), hparams, batch)
    along_y, along_x = (a.sub(b).div_(2 * length) for a, b in zip(ahead, behind, strict=True))
    return along_y, along_x
