"""A ridge whose coefficients are exponentials: R(y, x) = coefficient / 2 sum_jk exp(x_j) y_jk^2, and its derivatives.

Rows y [N, F C] hold a matrix [F, C] per node, rows x [N, F] a log-coefficient per feature. Shapes: N nodes,
F features, C classes.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class ExponentialRidge:
    """The ridge with one ``coefficient`` for all nodes."""

    coefficient: float

    def values(self, params: Tensor, hparams: Tensor) -> Tensor:
        """R of every node, [N]."""
        return 0.5 * self.coefficient * (hparams.exp() * self._dots(params, params, hparams)).sum(1)

    def add_params_gradient_(self, out: Tensor, params: Tensor, hparams: Tensor, alpha: float = 1.0) -> None:
        """Adds ``alpha`` times dR/dy, which is linear in y, to ``out`` [N, F C]; ``out`` may be ``params``."""
        shape = (*hparams.shape, -1)
        weights = hparams.exp().unsqueeze(2)
        out.view(shape).addcmul_(params.view(shape), weights, value=alpha * self.coefficient)

    def hparams_gradient(self, params: Tensor, hparams: Tensor) -> Tensor:
        """dR/dx, [N, F]."""
        return 0.5 * self.cross_product(params, hparams, params)

    def cross_product(self, params: Tensor, hparams: Tensor, vector: Tensor) -> Tensor:
        """(d2R/dx dy) v for ``vector`` v [N, F C]: [N, F]."""
        return self.coefficient * hparams.exp() * self._dots(params, vector, hparams)

    @staticmethod
    def _dots(first: Tensor, second: Tensor, hparams: Tensor) -> Tensor:
        """Inner products over the classes, [N, F]."""
        shape = (*hparams.shape, -1)
        dots: Tensor = torch.linalg.vecdot(first.view(shape), second.view(shape))
        return dots
