"""Small bilevel problems whose solutions are known, and the distances to them.

Notation, with means over all nodes: g = mean g_i, f = mean f_i, y*(x) = argmin_y g(x, y), Phi(x) = f(x, y*(x));
Psi_l(x) = min_y (f + l g)(x, y) - l min_y g(x, y) replaces Phi in penalty methods, with the ``penalty`` l.

Shapes: R rows x [R, H] at which functions are evaluated, H hyperparameters, D parameters. All in float64 on the CPU.
"""

from abc import abstractmethod
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor

from simulator.checks import require_positive
from simulator.problems.base import BilevelProblem, Facts


class ReferenceBilevel(BilevelProblem):
    """A problem whose data every process knows entirely. ``penalty`` only chooses the Psi that is reported."""

    uses_data: ClassVar[bool] = False
    reports_iterates: ClassVar[bool] = True
    penalty: float

    @abstractmethod
    def inner_optimum(self, x: Tensor) -> Tensor:
        """y*(x), [R, D]."""

    @abstractmethod
    def outer_value(self, x: Tensor) -> Tensor:
        """Phi(x), [R]."""

    @abstractmethod
    def outer_gradient(self, x: Tensor) -> Tensor:
        """The gradient of Phi, [R, H]."""

    @abstractmethod
    def penalty_gradient(self, x: Tensor) -> Tensor:
        """The gradient of Psi, [R, H]."""

    @abstractmethod
    def solve(self) -> tuple[Tensor, Tensor]:
        """The stationary points of Phi and of Psi, [H] each."""

    @cached_property
    def solutions(self) -> tuple[Tensor, Tensor]:
        """The result of :meth:`solve`, computed once."""
        return self.solve()

    def evaluate(self, params: Tensor, hparams: Tensor) -> dict[str, Tensor]:
        x, y = (rows.detach().to("cpu", torch.float64) for rows in (hparams, params))
        optimum, penalty_optimum = self.solutions
        metrics = {
            "outer/loss": self.outer_value(x),
            "outer/grad_norm": self.outer_gradient(x).norm(dim=1),
            "outer/distance": (x - optimum).norm(dim=1),
            "penalty/grad_norm": self.penalty_gradient(x).norm(dim=1),
            "penalty/distance": (x - penalty_optimum).norm(dim=1),
            "inner/distance": (y - self.inner_optimum(x)).norm(dim=1),
        }
        return {name: values.to(params.device) for name, values in metrics.items()}

    def facts(self) -> Facts:
        optimum, penalty_optimum = self.solutions
        return Facts(numbers={"penalty/bias": float((optimum - penalty_optimum).norm())})


def require_penalty(penalty: float) -> None:
    """Raises ValueError unless ``penalty`` is positive."""
    require_positive("problem.penalty", penalty)
