"""What asynchronous algorithms share.

Every node has local steps of its own and never waits for others. Local step k of node i is an event (i, k): it begins
when (i, k - 1) ends and lasts as long as ``timing=`` says. A step of the run is M events, in the order of (end time,
node), so ``num_steps`` counts local steps of the average node. Which events there are, and which messages each takes
in, depends on the configuration alone (:mod:`simulator.timing`). So every process derives the same events, and computes
those that do not depend on each other (a wave) at once.

Shapes: N local nodes, M all nodes, n events of a wave at local nodes, D parameters.
"""

from abc import abstractmethod
from typing import ClassVar

import numpy as np
from torch import Tensor

from simulator.algorithms.base import Algorithm, State
from simulator.arrays import FloatArray, IntArray
from simulator.network.network import Network
from simulator.padding import zeros_as
from simulator.problems.base import Problem
from simulator.schedules import Schedule
from simulator.uploads import upload, upload_like


class AsynchronousAlgorithm(Algorithm):
    """An algorithm whose nodes have local steps of their own."""

    asynchronous: ClassVar[bool] = True

    def check_problem(self, problem: Problem) -> None:
        require_steps_apart(self, problem)

    def step(self, state: State, step: int, problem: Problem, network: Network) -> State:
        return self.step_until(state, step, problem, network, None)

    @abstractmethod
    def step_until(self, state: State, step: int, problem: Problem, network: Network, until_s: float | None) -> State:
        """The events of ``step`` that are still to be done, up to simulated time ``until_s``."""

    @abstractmethod
    def resume(self, state: State, step: int, problem: Problem, network: Network) -> None:
        """Goes to where the checkpoint was written."""


def require_steps_apart(algorithm: Algorithm, problem: Problem) -> None:
    """Raises ValueError unless the problem can compute gradients of some nodes, each at a step of its own."""
    if not problem.steps_apart:
        raise ValueError(
            f"problem: algorithm={algorithm.name} computes gradients of some nodes at a time, each at a step of its "
            f"own, which {type(problem).__name__} cannot; use for example problem=classification"
        )


def add_scaled_gradients_(
    out: Tensor, params: Tensor, problem: Problem, positions: IntArray, steps: IntArray, rates: FloatArray
) -> None:
    """Takes a gradient step at some local nodes: out <- out - rate * gradient at ``params``.

    Args:
        out: changed in place; may be ``params``, [n, D].
        params: where gradients are taken, [n, D].
        positions: the local nodes, ascending, [n].
        steps: the minibatch of each, [n].
        rates: learning rate of each, [n].
    """
    if positions.size == 0:
        return
    hparams = problem.init_hparams()
    if positions.size < len(hparams):
        problem = problem.part(positions)
        hparams = hparams.index_select(0, upload(positions, hparams.device))
    if (rates == rates[0]).all():
        problem.add_grad_at_(out, params, hparams, steps, -float(rates[0]))
        return
    gradients = zeros_as(params)
    problem.add_grad_at_(gradients, params, hparams, steps, 1.0)
    out.sub_(gradients.mul_(upload_like(rates[:, None], gradients)))


def factors(schedule: Schedule, steps: IntArray) -> FloatArray:
    """The schedule's factor at each of these local steps, [n]."""
    known = {step: schedule.factor(step) for step in set(steps.tolist())}
    return np.array([known[step] for step in steps.tolist()])
