"""The template of EXTRA, exact diffusion and NIDS: one gradient and one message per step, along a correction's rule.

Update equations: those of a :class:`DualCorrection` (see ../corrections.py) with v = x and d = grad f(x) on the
minibatch of the step. c keeps its value when the learning rate changes, so that a c changes with it.
State: ``params`` [N, D], ``memory`` [N, D], which is x + a c.
"""

from abc import abstractmethod
from dataclasses import dataclass

from torch import Tensor

from simulator.algorithms.base import State
from simulator.algorithms.corrections import DualCorrection, Moving
from simulator.algorithms.primal_dual.base import PrimalDual
from simulator.network.network import Network
from simulator.padding import copy_as
from simulator.problems.base import Problem


@dataclass(frozen=True, kw_only=True)
class CorrectedDescent(PrimalDual):
    """Descent with a correction.

    Args:
        lr, lr_schedule: as :class:`PrimalDual`.
    """

    @abstractmethod
    def correction(self, params: Tensor, network: Network) -> DualCorrection:
        """The rule by which ``params`` [N, D] move."""

    def direction(self, params: Tensor, step: int, problem: Problem, network: Network) -> Tensor:
        """The gradients at ``params``, in new memory."""
        return problem.grad(params, problem.init_hparams(), step)

    def init(self, problem: Problem, network: Network) -> State:
        params = problem.init_params()
        return {"params": params, "memory": copy_as(params)}

    def step(self, state: State, step: int, problem: Problem, network: Network) -> State:
        params, memory, lr = state["params"], state["memory"], self.rate(step)
        correction = self.correction(params, network)
        if step and lr != self.rate(step - 1):
            correction.rescale_(params, memory, lr / self.rate(step - 1))
        variable = Moving(params, self.direction(params, step, problem, network), memory)
        sent = correction.send(variable, lr)
        params, memory = correction.move(variable, lr, sent, network.mix(sent, step))
        return {"params": params, "memory": memory}
