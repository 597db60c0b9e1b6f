"""Quadratics with a known solution, against which algorithms are tested.

Update equations, with A_i symmetric positive definite, for node i:
    f_i(x, h) = 1/2 x' A_i x - x' (b_i + C_i h),    F_i(x, h) = 1/2 ||x - t_i||^2,
    r_i(h) = outer_regularization / 2 ||h||^2
so that with bars for means over nodes x* = A^{-1} (b + mean_i C_i h_i) and
    dF/dh_i = (outer_regularization h_i + C_i' A^{-1} (x* - t)) / n.
Needs: nothing; no dataset.
Sends: nothing; problems compute.
Source: standard; curvatures are spread evenly over [1, condition], directions and offsets drawn per node.
Departures: none.

Shapes: N local nodes, D parameters, H hyperparameters.
"""

import copy
from collections.abc import Sequence
from typing import ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from simulator import randomness
from simulator.arrays import IntArray
from simulator.checks import require_at_least
from simulator.problems.base import BilevelProblem, Setting
from simulator.uploads import upload_like


class Quadratic(BilevelProblem):
    """A strongly convex quadratic at every node.

    Args:
        dim: D, at least 1.
        num_hyperparameters: H, at least 0.
        condition: largest over smallest curvature of every node, at least 1.
        heterogeneity: how far the nodes' linear terms differ; 0 gives every node the same minimiser.
        noise: standard deviation of the noise in stochastic gradients.
        outer_regularization: coefficient of ||h||^2 / 2.
    """

    uses_data: ClassVar[bool] = False
    steps_apart: ClassVar[bool] = True

    def __init__(
        self,
        *,
        dim: int,
        num_hyperparameters: int,
        condition: float,
        heterogeneity: float,
        noise: float,
        outer_regularization: float,
    ) -> None:
        if dim < 1 or num_hyperparameters < 0:
            raise ValueError(f"problem.dim={dim} and problem.num_hyperparameters={num_hyperparameters}: too small")
        require_at_least("problem.condition", condition, 1)
        if heterogeneity < 0 or noise < 0 or outer_regularization < 0:
            raise ValueError("problem.heterogeneity, problem.noise and problem.outer_regularization: not negative")
        self.num_params = dim
        self.num_hparams = num_hyperparameters
        self.condition = condition
        self.heterogeneity = heterogeneity
        self.noise = noise
        self.outer_regularization = outer_regularization

    def setup(self, setting: Setting) -> None:
        self._setting = setting
        self._keys = np.asarray(setting.nodes, dtype=np.int64)
        dim, num_hparams = self.num_params, self.num_hparams
        common = randomness.generator(setting.seed, "quadratic").standard_normal(dim)
        curvatures = np.linspace(1.0, self.condition, dim)
        parts: list[tuple[np.ndarray, ...]] = []
        for node in setting.nodes:
            rng = randomness.generator(setting.seed, "quadratic", node=node + 1)
            basis, _ = np.linalg.qr(rng.standard_normal((dim, dim)))
            hessian = (basis * curvatures) @ basis.T
            own = common + self.heterogeneity * rng.standard_normal(dim)
            parts.append(
                (hessian, hessian @ own, rng.standard_normal((dim, num_hparams)), own + rng.standard_normal(dim))
            )
        arrays = [torch.from_numpy(np.stack(part)) for part in zip(*parts, strict=True)]
        self.hessian, self.linear, self.coupling, self.target = (
            a.to(device=setting.device, dtype=setting.dtype) for a in arrays
        )

    def replicate(self, streams: Sequence[int]) -> Self:
        replicas = copy.copy(self)
        replicas._keys = np.add.outer(self._keys, self._setting.num_nodes * np.asarray(streams)).ravel()
        for name in ("hessian", "linear", "coupling", "target"):
            setattr(replicas, name, getattr(self, name).repeat_interleave(len(streams), dim=0))
        return replicas

    def part(self, positions: IntArray) -> Self:
        some, index = copy.copy(self), torch.from_numpy(positions).to(self.linear.device)
        some._keys = self._keys[positions]
        for name in ("hessian", "linear", "coupling", "target"):
            setattr(some, name, getattr(self, name)[index])
        return some

    def init_params(self) -> Tensor:
        return torch.zeros_like(self.linear)

    def init_hparams(self) -> Tensor:
        return self.linear.new_zeros(len(self.linear), self.num_hparams)

    def _times(self, matrices: Tensor, vectors: Tensor) -> Tensor:
        return (matrices.to(vectors.dtype) @ vectors.unsqueeze(-1)).squeeze(-1)

    def add_grad_(
        self, out: Tensor, params: Tensor, hparams: Tensor, step: int | IntArray | None, alpha: float
    ) -> None:
        gradient = self._times(self.hessian, params) - self.linear - self._times(self.coupling, hparams)
        if self.noise and step is not None:
            uniforms = randomness.uniforms(self._setting.seed, "gradient_noise", self._keys, step, self.num_params)
            # Uniform noise with the wanted standard deviation.
            gradient += upload_like((uniforms - 0.5) * 12**0.5 * self.noise, gradient)
        out.add_(gradient, alpha=alpha)

    def add_grad_at_(self, out: Tensor, params: Tensor, hparams: Tensor, steps: IntArray, alpha: float) -> None:
        self.add_grad_(out, params, hparams, steps, alpha)

    def inner_grads(self, params: Tensor, hparams: Tensor, step: int | None) -> tuple[Tensor, Tensor]:
        return self.grad(params, hparams, step), -self._times(self.coupling.transpose(1, 2), params)

    def outer_grads(self, params: Tensor, hparams: Tensor, step: int | None = None) -> tuple[Tensor, Tensor]:
        return params - self.target.to(params.dtype), self.outer_regularization * hparams

    def second_order(self, params: Tensor, hparams: Tensor, vector: Tensor, step: int | None) -> tuple[Tensor, Tensor]:
        return self._times(self.hessian, vector), -self._times(self.coupling.transpose(1, 2), vector)

    def evaluate(self, params: Tensor, hparams: Tensor) -> dict[str, Tensor]:
        pull = self.linear + self._times(self.coupling, hparams)
        loss = (params * (0.5 * self._times(self.hessian, params) - pull)).sum(dim=1)
        outer = 0.5 * (params - self.target).square().sum(dim=1)
        return {
            "train/loss": loss,
            "outer/loss": outer + 0.5 * self.outer_regularization * hparams.square().sum(dim=1),
        }
