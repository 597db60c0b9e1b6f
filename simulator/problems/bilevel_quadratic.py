"""A quadratic bilevel problem without random numbers: every gradient and every solution is known in closed form.

Update equations, for node i = 0, 1, ..., with x shared by all nodes and m = i + 1:
    g_i(x, y) = 1/2 y' A_i y - y' (B_i x + c_i)
    f_i(x, y) = 1/2 (y - t_i)' D_i (y - t_i) + outer_regularization / 2 ||x - r_i||^2
    A_i = I + M_i M_i'/q, M_i = S(0.4) + S(0.7 m);       D_i = I/2 + N_i N_i'/q, N_i = S(2.2) + S(1.9 m + 0.5)
    B_i = (R(0.3) + R(0.8 m)) / sqrt(p);                 c_i = v(0.2) + v(m)
    t_i = v(2.0) + v(0.6 m + 0.1);                       r_i = v(0.9) + v(1.4 m)
    S(s)_ab = sin(1.3 a + 2.1 b + 0.37 a b + s), a and b < q;   R(s)_ak = cos(0.9 a + 1.7 k + 0.23 a k + s), k < p
    v(s)_j = sin(1.1 j + 0.05 j^2 + s)
Without ``heterogeneous_curvature`` A_i and B_i lose their second terms. With bars for means, T = mean D_i t_i:
    y*(x) = A^-1 (B x + c);   grad Phi(x) = outer_regularization (x - r) + B' A^-1 (D y*(x) - T)
    y_l(x) = (D + l A)^-1 (T + l (B x + c));   grad Psi_l(x) = outer_regularization (x - r) - l B' (y_l - y*)
With lower_level=personal every node has a lower level of its own, y_i*(x) = argmin_y g_i(x, y), and Phi(x) is the mean
of f_i(x, y_i*(x)). Then y* and y_l are those of each node, of its own A_i, B_i, c_i, D_i and T_i = D_i t_i, and both
gradients are means over nodes. The setting changes what is reported as the solution, and no gradient of g_i or f_i.
Needs: nothing; no dataset.
Sends: nothing; problems compute.
Source: an instance of our own, with sines for random numbers so that anybody can build it in any language.
Departures: none.

Shapes: N local nodes, M all nodes, D = q parameters, H = p hyperparameters, R rows at which functions are evaluated,
G lower levels: 1, or M where they are personal.
"""

from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from simulator.checks import require_positive
from simulator.problems.base import Setting
from simulator.problems.reference_bilevel import ReferenceBilevel, require_penalty

_Array = npt.NDArray[Any]
LowerLevel = Literal["shared", "personal"]


class BilevelQuadratic(ReferenceBilevel):
    """A strongly convex inner and outer quadratic at every node; x is shared.

    Args:
        dim: q, at least 1.
        num_hyperparameters: p, at least 1.
        heterogeneous_curvature: whether A_i and B_i differ between nodes.
        outer_regularization: curvature of f_i in x, positive.
        penalty: l of the Psi that is reported.
        lower_level: ``shared``, the mean of all g_i, or ``personal``, each node's own g_i.
    """

    def __init__(
        self,
        *,
        dim: int,
        num_hyperparameters: int,
        heterogeneous_curvature: bool,
        outer_regularization: float,
        penalty: float,
        lower_level: LowerLevel,
    ) -> None:
        if dim < 1 or num_hyperparameters < 1:
            raise ValueError(
                f"problem.dim={dim} and problem.num_hyperparameters={num_hyperparameters}: expected at least 1 of each"
            )
        require_positive("problem.outer_regularization", outer_regularization)
        require_penalty(penalty)
        if lower_level not in get_args(LowerLevel):
            raise ValueError(f"problem.lower_level={lower_level!r}: expected {', '.join(get_args(LowerLevel))}")
        self.num_params = dim
        self.num_hparams = num_hyperparameters
        self.heterogeneous_curvature = heterogeneous_curvature
        self.outer_regularization = outer_regularization
        self.penalty = penalty
        self.lower_level = lower_level

    def setup(self, setting: Setting) -> None:
        every = self._coefficients(setting.num_nodes)
        local = self._local = slice(setting.nodes.start, setting.nodes.stop)
        self.curvature, self.coupling, self.linear, self.outer_curvature, self.target, self.center = (
            part[local].to(setting.device, setting.dtype) for part in every
        )
        A, B, c, D, t, r = every
        pulls = _times(D, t)
        self._A, self._B, self._c, self._D, self._T = (
            part.mean(dim=0, keepdim=True) if self.lower_level == "shared" else part for part in (A, B, c, D, pulls)
        )
        self._r = r.mean(dim=0)
        # The parts of f that depend on neither variable.
        self._t_square, self._r_square = (pulls * t).sum(1).mean(), r.square().sum(1).mean()

    def _coefficients(self, num_nodes: int) -> tuple[Tensor, ...]:
        """A [M, q, q], B [M, q, p], c [M, q], D [M, q, q], t [M, q] and r [M, p] of all nodes, float64."""
        q, p = self.num_params, self.num_hparams
        a, k = np.arange(q)[:, None], np.arange(p)
        m = np.arange(1, num_nodes + 1)[:, None, None]
        differ = 1.0 if self.heterogeneous_curvature else 0.0

        def square(shift: float | _Array) -> _Array:
            return np.asarray(np.sin(1.3 * a + 2.1 * a.T + 0.37 * a * a.T + shift))

        def rectangle(shift: float | _Array) -> _Array:
            return np.asarray(np.cos(0.9 * a + 1.7 * k + 0.23 * a * k + shift))

        def vector(size: int, shift: float | _Array) -> _Array:
            j = np.arange(size)
            return np.asarray(np.sin(1.1 * j + 0.05 * j**2 + shift))

        M = square(0.4) + differ * square(0.7 * m)
        N = square(2.2) + square(1.9 * m + 0.5)
        n = m[:, :, 0]
        arrays = (
            np.eye(q) + M @ M.swapaxes(1, 2) / q,
            (rectangle(0.3) + differ * rectangle(0.8 * m)) / np.sqrt(p),
            vector(q, 0.2) + vector(q, n),
            0.5 * np.eye(q) + N @ N.swapaxes(1, 2) / q,
            vector(q, 2.0) + vector(q, 0.6 * n + 0.1),
            vector(p, 0.9) + vector(p, 1.4 * n),
        )
        return tuple(torch.from_numpy(array) for array in arrays)

    def init_params(self) -> Tensor:
        return torch.zeros_like(self.linear)

    def init_hparams(self) -> Tensor:
        return torch.zeros_like(self.center)

    def add_grad_(self, out: Tensor, params: Tensor, hparams: Tensor, step: int | None, alpha: float) -> None:
        gradient = _times(self.curvature, params) - _times(self.coupling, hparams) - self.linear
        out.add_(gradient, alpha=alpha)

    def inner_grads(self, params: Tensor, hparams: Tensor, step: int | None) -> tuple[Tensor, Tensor]:
        return self.grad(params, hparams, step), -_times(self.coupling.mT, params)

    def outer_grads(self, params: Tensor, hparams: Tensor, step: int | None = None) -> tuple[Tensor, Tensor]:
        along_hparams = self.outer_regularization * (hparams - self.center)
        return _times(self.outer_curvature, params - self.target), along_hparams

    def second_order(self, params: Tensor, hparams: Tensor, vector: Tensor, step: int | None) -> tuple[Tensor, Tensor]:
        return _times(self.curvature, vector), -_times(self.coupling.mT, vector)

    def inner_optimum(self, x: Tensor) -> Tensor:
        """y*(x), [R, D]; with personal lower levels those of the local nodes, R = N."""
        optima = self._optima(x)
        return optima[0] if self.lower_level == "shared" else optima[self._local].diagonal().T

    def _lines(self, x: Tensor) -> Tensor:
        """B x + c, [G, R, D]."""
        return x @ self._B.mT + self._c[:, None]

    def _optima(self, x: Tensor) -> Tensor:
        """y*(x) of every lower level, [G, R, D]."""
        return _solve(self._A, self._lines(x))

    def _penalty_optima(self, x: Tensor) -> Tensor:
        """y_l(x) of every lower level, [G, R, D]."""
        return _solve(self._D + self.penalty * self._A, self._T[:, None] + self.penalty * self._lines(x))

    def outer_value(self, x: Tensor) -> Tensor:
        y = self._optima(x)
        fit = (y * (0.5 * y @ self._D - self._T[:, None])).sum(2).mean(0) + 0.5 * self._t_square
        spread = x.square().sum(1) - 2 * x @ self._r + self._r_square
        return fit + 0.5 * self.outer_regularization * spread

    def outer_gradient(self, x: Tensor) -> Tensor:
        residual = self._optima(x) @ self._D - self._T[:, None]
        return self.outer_regularization * (x - self._r) + (_solve(self._A, residual) @ self._B).mean(0)

    def penalty_gradient(self, x: Tensor) -> Tensor:
        pulled = ((self._penalty_optima(x) - self._optima(x)) @ self._B).mean(0)
        return self.outer_regularization * (x - self._r) - self.penalty * pulled

    def solve(self) -> tuple[Tensor, Tensor]:
        # Both gradients are affine in x: their values at 0 and at the unit vectors determine them.
        points = torch.cat([torch.zeros(1, self.num_hparams), torch.eye(self.num_hparams)]).double()
        roots = []
        for gradient in (self.outer_gradient(points), self.penalty_gradient(points)):
            roots.append(_solve((gradient[1:] - gradient[0]).T, -gradient[:1])[0])
        return roots[0], roots[1]


def _times(matrices: Tensor, vectors: Tensor) -> Tensor:
    """Products [N, A] of every node's matrix [N, A, B] and vector [N, B]."""
    return (matrices.to(vectors.dtype) @ vectors.unsqueeze(2)).squeeze(2)


def _solve(matrices: Tensor, rows: Tensor) -> Tensor:
    """The solutions of matrix @ solution = row, for ``matrices`` [..., A, A] and ``rows`` [..., R, A]: [..., R, A]."""
    solutions: Tensor = torch.linalg.solve(matrices, rows.mT).mT
    return solutions
