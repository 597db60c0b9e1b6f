"""The exact hypergradient, as a reference for errors; its traffic and its products are evaluation, not algorithm.

With H = mean_i d2 f_i/dparams2 (z_i, h_i) and w = H^{-1} mean_j grad_params F_j(z_j):
    dF/dh_i = (grad_hparams (F_i + r_i) - (d2 f_i/dhparams dparams) w) / n
which is the limit of hypergradient push with exact averaging. All products use the full batch and float64.

Source: Terashita and Hara, arXiv 2210.02129 (implicit differentiation of the stationarity condition); conjugate
gradients of Hestenes and Stiefel 1952 and MINRES of Paige and Saunders 1975, both from SciPy.

Shapes: N local nodes, D parameters, H hyperparameters.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from simulator.arrays import FloatArray
from simulator.network.network import Network
from simulator.problems.base import BilevelProblem

# A symmetric matrix as its product with a vector: [D] to [D].
Product = Callable[[FloatArray], FloatArray]


class _NegativeCurvatureError(Exception):
    """The mean Hessian is not positive definite along a conjugate direction."""


@dataclass(frozen=True)
class Reference:
    """A reference hypergradient.

    Attributes:
        hypergradient: [N, H], float64.
        residual: ||H w - b|| / ||b|| of the linear system.
        positive_definite: False when negative curvature was met, so that the parameters are no strict local minimum;
            then MINRES solves the system, which allows indefinite matrices.
    """

    hypergradient: Tensor
    residual: float
    positive_definite: bool


@torch.no_grad()
def exact_hypergradient(
    problem: BilevelProblem,
    network: Network,
    params: Tensor,
    hparams: Tensor,
    *,
    method: Literal["dense", "iterative"],
    tolerance: float = 1e-8,
    max_iterations: int = 2000,
) -> Reference:
    """Solves for the exact hypergradient; every process must call it.

    Args:
        params, hparams: the point of evaluation, [N, D] and [N, H].
        method: ``dense`` forms the D x D mean Hessian; ``iterative`` uses Hessian-vector products only.
        tolerance: relative residual at which the iteration stops.
        max_iterations: Hessian-vector products at most.
    """
    z, h = params.double(), hparams.double()
    with torch.enable_grad(), problem.uncounted():
        outer_params, outer_hparams = problem.outer_grads(z, h)
    right = network.mean(outer_params)

    def mean_hessian_times(vector: FloatArray) -> FloatArray:
        p = torch.from_numpy(np.ascontiguousarray(vector.reshape(-1))).to(z.device)
        with torch.enable_grad(), problem.uncounted():
            product = network.mean(problem.hvp(z, h, p.expand_as(z).contiguous(), None))
        result: FloatArray = product.detach().cpu().numpy()
        return result

    b = right.detach().cpu().numpy()
    if method == "dense":
        solution, definite = _solve_dense(mean_hessian_times, b)
    else:
        solution, definite = _solve_iteratively(mean_hessian_times, b, tolerance, max_iterations)
    scale = float(np.linalg.norm(b))
    residual = float(np.linalg.norm(mean_hessian_times(solution) - b)) / scale if scale else 0.0
    w = torch.from_numpy(solution).to(z.device).expand_as(z).contiguous()
    with torch.enable_grad(), problem.uncounted():
        cross = problem.cross_jvp(z, h, w, None)
    return Reference((outer_hparams - cross).detach() / network.num_nodes, residual, definite)


def _solve_dense(times: Product, b: FloatArray) -> tuple[FloatArray, bool]:
    matrix = np.stack([times(column) for column in np.eye(b.size)], axis=1)
    matrix = (matrix + matrix.T) / 2
    definite = bool(np.linalg.eigvalsh(matrix)[0] > 0)
    return np.asarray(np.linalg.solve(matrix, b), dtype=np.float64), definite


def _solve_iteratively(times: Product, b: FloatArray, tolerance: float, max_iterations: int) -> tuple[FloatArray, bool]:
    from scipy.sparse.linalg import LinearOperator, cg, minres

    def times_if_convex(vector: FloatArray) -> FloatArray:
        product = times(vector)
        if vector.any() and vector.reshape(-1) @ product <= 0:
            raise _NegativeCurvatureError
        return product

    def operator(function: Product) -> LinearOperator:
        return LinearOperator((b.size, b.size), matvec=function, dtype=np.float64)

    try:
        solution, _ = cg(operator(times_if_convex), b, rtol=tolerance, maxiter=max_iterations)
    except _NegativeCurvatureError:
        solution, _ = minres(operator(times), b, rtol=tolerance, maxiter=max_iterations)
        return np.asarray(solution), False
    return np.asarray(solution), True
