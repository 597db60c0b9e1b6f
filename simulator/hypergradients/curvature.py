"""The largest curvature of the mean inner objective, which bounds the step size of the hypergradient's series.

With H = mean_i d2 f_i/dparams2 (z_i, h_i), the power iteration
    v <- (H + c I) v / ||(H + c I) v||,    estimate v^T H v
runs with c = 0 first. Its limit is the eigenvalue of largest modulus. Where that is not the largest eigenvalue, it runs
again with c = the modulus, for which H + c I is positive semidefinite.
Source: the power method of von Mises and Pollaczek-Geiringer 1929.

Shapes: N local nodes, D parameters, H hyperparameters.
"""

import torch
from torch import Tensor

from simulator import randomness
from simulator.network.network import Network
from simulator.problems.base import BilevelProblem


def largest_curvature(
    problem: BilevelProblem,
    network: Network,
    params: Tensor,
    hparams: Tensor,
    *,
    tolerance: float = 1e-5,
    max_iterations: int = 200,
) -> float:
    """The largest eigenvalue of the mean inner Hessian, estimated; every process must call it.

    The products use the full batch. They and what they send are evaluation, not algorithm.

    Args:
        params, hparams: the point of evaluation, [N, D] and [N, H].
        tolerance: relative change of the estimate between two iterations at which it stops.
        max_iterations: Hessian-vector products per power iteration, at most.

    Returns:
        v^T H v of a unit vector v, which is at most the largest eigenvalue, up to rounding.
    """

    def times(vector: Tensor) -> Tensor:
        along = vector.to(params).expand_as(params).contiguous()
        with problem.uncounted():
            return network.mean(problem.hvp(params, hparams, along, None)).detach().double()

    def iterate(shift: float) -> tuple[float, float]:
        """v^T H v and ||(H + shift I) v|| after the last iteration."""
        start = randomness.generator(0, "curvature").standard_normal(params.shape[1])
        vector = torch.from_numpy(start).to(params.device)
        vector /= vector.norm()
        quotient, length = float("nan"), 0.0
        for _ in range(max_iterations):
            product = times(vector)
            previous, quotient = quotient, float(vector @ product)
            product += shift * vector
            length = float(product.norm())
            if length == 0 or abs(quotient - previous) <= tolerance * abs(quotient):
                break
            vector = product / length
        return quotient, length

    quotient, modulus = iterate(0.0)
    # Equal for an eigenvector of a positive eigenvalue; smaller where negative eigenvalues take part.
    return quotient if quotient > 0.9999 * modulus else iterate(modulus)[0]
