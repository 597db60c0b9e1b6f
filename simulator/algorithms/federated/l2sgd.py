"""L2SGD: one model per node and an L2 penalty on the distance from the average, with local loops of random length.

Update equations for the sum over nodes of f_i(x_i) + penalty / 2 ||x_i - mean x||^2: all nodes toss one coin per step,
    with probability 1 - p:  x_i <- a local epoch of SGD at the rate lr / (1 - p)
    with probability p:      x_i <- x_i - lr penalty / p (x_i - mean x)
where the mean is that of the hub, or sum_j W_t[i, j] x_j on other graphs. Steps of the second kind communicate.
State: ``params`` [N, D].
Needs: graph=hub or doubly stochastic W.
Sends: in a share p of the steps what FedAvg sends: D numbers up and D down for every node but the hub, or D per edge.
Source: Hanzely and Richtarik, arXiv 2002.05516, algorithm L2SGD without variance reduction (L2GD with minibatches).
Departures: an epoch stands for one gradient step, as in the released code of Marfoq et al. (arXiv 2108.10252), which
also leaves lr out of the second kind; rates here are those of the sum over nodes, n times those of the paper's mean.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from simulator.algorithms.base import State
from simulator.algorithms.federated.local_training import LocalTraining, average, gradient_of, train_locally_
from simulator.checks import require_within
from simulator.network.network import Network
from simulator.problems.base import Problem
from simulator.randomness import generator


@dataclass(frozen=True, kw_only=True)
class L2SGD(LocalTraining):
    """Loopless local SGD with an L2 penalty on the distance from the average.

    Args:
        lr, lr_schedule, local_steps: of the local training.
        penalty: of the distance from the average (lambda in the paper); lr * penalty / probability at most 1.
        probability: of a step that communicates, in (0, 1).
        seed: keys the coin.
    """

    penalty: float
    probability: float
    seed: int

    personalizes: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        require_within("algorithm.probability", self.probability, "(0, 1)")
        largest = self.probability / self.lr
        if not 0 <= self.penalty <= largest:
            raise ValueError(
                f"algorithm.penalty={self.penalty}: expected a number in [0, probability / lr] = [0, {largest:g}]"
            )

    def communicates(self, step: int) -> bool:
        """The coin of a step, the same for all nodes."""
        return bool(generator(self.seed, "l2sgd", step=step).random() < self.probability)

    def init(self, problem: Problem, network: Network) -> State:
        return {"params": problem.init_params()}

    def step(self, state: State, step: int, problem: Problem, network: Network) -> State:
        params = state["params"]
        if self.communicates(step):
            (averaged,) = average((params,), step, problem, network)
            return {"params": torch.lerp(params, averaged, self.rate(step) * self.penalty / self.probability)}
        train_locally_(
            params,
            gradient_of(problem, problem.init_hparams()),
            self.batches(problem, step),
            lr=self.rate(step) / (1 - self.probability),
        )
        return {"params": params}

    def estimate(self, state: State) -> Tensor:
        return state["params"]
