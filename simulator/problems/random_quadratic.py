"""Random quadratics: linear regression without label noise, whose second moments under D-SGD are known exactly.

Update equations: at every node the same objective, with gradients of b fresh samples,
    f(x) = 1/2 sum_k s_k x_k^2,    g(x) = 1/b sum_j a_j a_j' x,    a_j ~ N(0, diag(s))
The noise vanishes at the minimiser 0. With s = 1 its level is zeta = sup E||g(x)||^2 / ||x||^2 = (1 + b + d) / b.
Needs: nothing; no dataset.
Sends: nothing; problems compute.
Source: Vogels, Hendrikx and Jaggi, "Beyond spectral gap", NeurIPS 2022 (arXiv 2206.03093), the isotropic case.
Departures: unlike variances of the features; samples are drawn by node and step.

Shapes: N local nodes, D parameters, b samples.
"""

import copy
from collections.abc import Sequence
from typing import ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from simulator import randomness
from simulator.arrays import FloatArray, IntArray
from simulator.problems.base import Problem, Setting
from simulator.uploads import upload_like


class RandomQuadratic(Problem):
    """One quadratic that all nodes share, with gradients of random samples.

    Args:
        dim: D, at least 1.
        batch_size: b, samples of a gradient, at least 1.
        feature_variances: s, positive, [D]; empty for 1 everywhere.

    Attributes:
        variances: s, [D].
        batch_size: b.
    """

    uses_data: ClassVar[bool] = False

    def __init__(self, *, dim: int, batch_size: int, feature_variances: Sequence[float]) -> None:
        if dim < 1 or batch_size < 1:
            raise ValueError(f"problem.dim={dim}, problem.batch_size={batch_size}: expected at least 1")
        if len(feature_variances) not in (0, dim) or not all(variance > 0 for variance in feature_variances):
            raise ValueError(
                f"problem.feature_variances={list(feature_variances)}: expected none, or positive numbers, "
                f"as many as problem.dim={dim}"
            )
        self.num_params = dim
        self.batch_size = batch_size
        self.variances: FloatArray = np.array(list(feature_variances) or [1.0] * dim, dtype=np.float64)

    def setup(self, setting: Setting) -> None:
        self._setting = setting
        self._keys = np.asarray(setting.nodes, dtype=np.int64)
        self._scales = torch.from_numpy(np.sqrt(self.variances)).to(device=setting.device, dtype=setting.dtype)

    def replicate(self, streams: Sequence[int]) -> Self:
        replicas = copy.copy(self)
        replicas._keys = np.add.outer(self._keys, self._setting.num_nodes * np.asarray(streams)).ravel()
        return replicas

    def init_params(self) -> Tensor:
        """All entries equal, of length 1."""
        row = torch.full((len(self._keys), self.num_params), self.num_params**-0.5, dtype=torch.float64)
        return upload_like(row, self._scales)

    def add_grad_(self, out: Tensor, params: Tensor, hparams: Tensor, step: int | None, alpha: float) -> None:
        if step is None:
            out.add_(params * self._scales.to(params.dtype) ** 2, alpha=alpha)
            return
        count = self.batch_size * self.num_params
        drawn = randomness.normals(self._setting.seed, "quadratic_samples", self._keys, step, count)
        samples = upload_like(drawn.reshape(-1, self.batch_size, self.num_params), params)
        samples *= self._scales.to(params.dtype)
        # Compute both products before changing out, which may be the same tensor as params.
        residuals = samples @ params.unsqueeze(-1)
        gradients = (samples.transpose(1, 2) @ residuals).squeeze(-1)
        out.add_(gradients, alpha=alpha / self.batch_size)

    def batch_sizes(self, step: int | IntArray | None, *, outer: bool = False) -> IntArray | None:
        return None if step is None else np.full(len(self._keys), self.batch_size)

    def evaluate(self, params: Tensor, hparams: Tensor) -> dict[str, Tensor]:
        weights = self._scales.to(params.dtype) ** 2
        return {"train/loss": 0.5 * (weights * params.square()).sum(dim=1)}
