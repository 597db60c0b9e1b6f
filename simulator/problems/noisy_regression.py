"""Linear regression with label noise that is drawn anew at every access; all nodes draw from the same samples.

Update equations: with features a_k ~ N(0, I), k = 1..n, a linear model with a bias, x = (weights, bias), true weights
w* ~ N(0, I) and true bias 0,
    y_k = a_k' w* + noise * e,    e ~ N(0, 1) anew at every access,
    f(x) = 1/n sum_k E (a_k' weights + bias - y_k)^2,    and its gradient on b samples, drawn with replacement.
The smallest expected loss is noise^2, at the true weights.
Needs: nothing; no dataset.
Sends: nothing; problems compute.
Source: the linear regression of a study of decentralized SGD on graphs that change (256 samples of 128 features, noise
1, 64 nodes, batches of 1, at most 100 steps until the loss is below 2).
Departures: ``train/loss`` is the expectation over samples and noise, there the mean over the nodes' batches; parameters
start at 0.

Shapes: N local nodes, K features, D = K + 1 parameters, n samples, b samples of a batch.
"""

import copy
from collections.abc import Sequence
from typing import ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from simulator import randomness
from simulator.arrays import IntArray
from simulator.problems.base import Problem, Setting
from simulator.uploads import upload, upload_like


class NoisyRegression(Problem):
    """One least-squares problem that all nodes share.

    Args:
        num_samples: n, at least 1.
        num_features: K, at least 1.
        noise: standard deviation of the labels' noise, at least 0.
        batch_size: b, at least 1.

    Attributes:
        inputs: features and a column of ones, [n, D]; labels: without noise, [n]. Known after :meth:`setup`.
    """

    uses_data: ClassVar[bool] = False

    inputs: Tensor
    labels: Tensor

    def __init__(self, *, num_samples: int, num_features: int, noise: float, batch_size: int) -> None:
        for name, value in (("num_samples", num_samples), ("num_features", num_features), ("batch_size", batch_size)):
            if value < 1:
                raise ValueError(f"problem.{name}={value}: expected an integer of at least 1")
        if not 0 <= noise < np.inf:
            raise ValueError(f"problem.noise={noise}: expected a number of at least 0")
        self.num_samples = num_samples
        self.num_features = num_features
        self.noise = noise
        self.batch_size = batch_size
        self.num_params = num_features + 1

    def setup(self, setting: Setting) -> None:
        self._setting = setting
        self._keys = np.asarray(setting.nodes, dtype=np.int64)
        rng = randomness.generator(setting.seed, "noisy_regression")
        features = rng.standard_normal((self.num_samples, self.num_features))
        weights = rng.standard_normal(self.num_features)
        inputs = np.column_stack([features, np.ones(self.num_samples)])
        self.inputs = torch.from_numpy(inputs).to(device=setting.device, dtype=setting.dtype)
        self.labels = torch.from_numpy(features @ weights).to(device=setting.device, dtype=setting.dtype)

    def replicate(self, streams: Sequence[int]) -> Self:
        replicas = copy.copy(self)
        replicas._keys = np.add.outer(self._keys, self._setting.num_nodes * np.asarray(streams)).ravel()
        return replicas

    def init_params(self) -> Tensor:
        return self.inputs.new_zeros(len(self._keys), self.num_params)

    def add_grad_(self, out: Tensor, params: Tensor, hparams: Tensor, step: int | None, alpha: float) -> None:
        if step is None:
            inputs = self.inputs.to(params.dtype)
            gradient = (params @ inputs.T - self.labels.to(params.dtype)) @ inputs
            out.add_(gradient, alpha=2.0 * alpha / self.num_samples)
            return
        seed, size = self._setting.seed, self.batch_size
        uniforms = randomness.uniforms(seed, "noisy_regression/samples", self._keys, step, size)
        rows = upload((uniforms * self.num_samples).astype(np.int64), params.device)
        noise = upload_like(randomness.normals(seed, "noisy_regression/noise", self._keys, step, size), params)
        inputs = self.inputs[rows].to(params.dtype)
        labels = self.labels[rows].to(params.dtype) + self.noise * noise
        # Compute the product before changing out, which may be the same tensor as params.
        residuals = (inputs @ params.unsqueeze(-1)).squeeze(-1) - labels
        gradient = (residuals.unsqueeze(1) @ inputs).squeeze(1)
        out.add_(gradient, alpha=2.0 * alpha / size)

    def batch_sizes(self, step: int | IntArray | None, *, outer: bool = False) -> IntArray:
        return np.full(len(self._keys), self.num_samples if step is None else self.batch_size)

    def evaluate(self, params: Tensor, hparams: Tensor) -> dict[str, Tensor]:
        residuals = params @ self.inputs.to(params.dtype).T - self.labels.to(params.dtype)
        return {"train/loss": residuals.square().mean(dim=1) + self.noise**2}
