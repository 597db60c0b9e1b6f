"""Per-FedAvg: nodes average an initial model that is good after one local gradient step (meta-learning).

Update equations, one step being one round (see local_training.py). The objective is the mean over nodes of
f_i(x - a grad f_i(x)), a = adaptation_lr. Over a hub the mean is weighted with the nodes' numbers of training samples;
elsewhere every node counts once, as in the paper. In each local step, with a minibatch of its own for every gradient,
    z = x_i - a f_i'(x_i),    g = f_i'(z),
    first_order:   x_i <- x_i - lr g
    hessian_free:  x_i <- x_i - lr (g - a d)  with  d = (f_i'(x_i + delta g) - f_i'(x_i - delta g)) / (2 delta)
where both gradients of d are of one minibatch; then x_i <- the average of all x_j, as in FedAvg. What node i uses, and
is evaluated with, is x_i after adaptation_steps gradient steps of rate a on all its training samples.
State: ``params`` [N, D].
Needs: graph=hub or doubly stochastic W.
Sends: as FedAvg, D numbers up and D numbers down for every node but the hub, or D per edge.
Source: Fallah, Mokhtari and Ozdaglar, "Personalized Federated Learning with Theoretical Guarantees: A Model-Agnostic
Meta-Learning Approach", NeurIPS 2020, algorithm 1 with the approximations FO and HF.
Departures: the weights over a hub; all nodes take part in every round. A local epoch passes through a node's
minibatches once, two or three to a step, and leaves out those that do not fill a step; nodes with fewer take one step.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from torch import Tensor

from simulator.algorithms.base import State
from simulator.algorithms.federated.local_training import LocalTraining, average, train_locally_
from simulator.arrays import IntArray
from simulator.checks import require_at_least, require_one_of, require_positive
from simulator.network.network import Network
from simulator.padding import copy_as
from simulator.problems.base import Problem

BATCHES_PER_STEP = {"first_order": 2, "hessian_free": 3}
"""The values of ``variant``."""


@dataclass(frozen=True, kw_only=True)
class PerFedAvg(LocalTraining):
    """Personalized federated averaging by meta-learning.

    Args:
        lr, lr_schedule: of the local training (beta in the paper).
        local_steps: steps per round, of two or three minibatches each; None for one epoch of each node's own length.
        adaptation_lr: rate of the step that a node takes from the model (alpha in the paper).
        adaptation_steps: such steps before a node is evaluated, at least 0.
        variant: ``first_order`` to leave the Hessian out, ``hessian_free`` for finite differences.
        difference: delta of the finite differences, positive.
    """

    adaptation_lr: float
    adaptation_steps: int
    variant: str
    difference: float

    personalizes: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive("algorithm.adaptation_lr", self.adaptation_lr)
        require_positive("algorithm.difference", self.difference)
        require_at_least("algorithm.adaptation_steps", self.adaptation_steps, 0)
        require_one_of("algorithm.variant", self.variant, BATCHES_PER_STEP)

    def batches(self, problem: Problem, round_index: int) -> Iterator[IntArray]:
        """The first minibatch of every local step of a round, [N]; the others follow it. -1 for nodes that are done."""
        per_step = BATCHES_PER_STEP[self.variant]
        lengths = np.maximum(problem.epoch_lengths() // per_step, 1)
        if self.local_steps is not None:
            lengths = np.full_like(lengths, self.local_steps)
        for position in range(int(lengths.max(initial=0))):
            yield np.where(position < lengths, (round_index * lengths + position) * per_step, -1)

    def init(self, problem: Problem, network: Network) -> State:
        return {"params": problem.init_params()}

    def step(self, state: State, step: int, problem: Problem, network: Network) -> State:
        params, hparams = state["params"], problem.init_hparams()

        def meta_gradient(x: Tensor, first: IntArray) -> Tensor:
            second, third = (np.where(first < 0, -1, first + place) for place in (1, 2))
            adapted = x - self.adaptation_lr * problem.grad_at(x, hparams, first)
            gradient = problem.grad_at(adapted, hparams, second)
            if self.variant == "first_order":
                return gradient
            ahead, behind = (
                problem.grad_at(x + sign * self.difference * gradient, hparams, third) for sign in (1.0, -1.0)
            )
            return gradient.sub_(ahead.sub_(behind), alpha=self.adaptation_lr / (2 * self.difference))

        train_locally_(params, meta_gradient, self.batches(problem, step), lr=self.rate(step))
        (averaged,) = average((params,), step, problem, network)
        return {"params": averaged}

    def prepare_evaluation(self, state: State, problem: Problem, network: Network) -> State:
        adapted, hparams = copy_as(state["params"]), problem.init_hparams()
        for _ in range(self.adaptation_steps):
            adapted.sub_(problem.grad(adapted, hparams, None), alpha=self.adaptation_lr)
        return {**state, "adapted": adapted}

    def estimate(self, state: State) -> Tensor:
        """The adapted models; before :meth:`prepare_evaluation` the one that they are adapted from."""
        return state.get("adapted", state["params"])
