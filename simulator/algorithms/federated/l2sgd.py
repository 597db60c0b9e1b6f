"""L2SGD: one model per node and an L2 penalty on the distance from the average, with rounds of random length.

Update equations. In the source all nodes toss one coin per step, which says "train" with probability 1 - p and
"average" with probability p. Here one step is one round: a training and the averages until the next one. So num_steps
counts local epochs, as in the other federated algorithms (see local_training.py); the iterates are those of the source:
    x_i <- a local epoch of SGD at the rate lr / (1 - p);
    k times, with probability (1 - p) p^k:    x_i <- x_i - lr penalty / p (x_i - m_i)
Over a hub m_i = m = sum_j n_j x_j / sum_j n_j, n_j the training samples of node j, and the objective is
    sum_i n_i (f_i(x_i) + penalty / 2 ||x_i - m||^2) / sum_i n_i,
in whose gradient the part of node i is divided by n_i / sum_j n_j. On other graphs m_i = sum_j W_t[i, j] x_j, and
where W is symmetric the objective is  sum_i f_i(x_i) + penalty / 4 sum_ij W[i, j] ||x_i - x_j||^2.
State: ``params`` [N, D], ``rounds`` [N], the averages so far.
Needs: graph=hub or doubly stochastic W.
Sends: over a hub D numbers up and D down for every node but the hub, in a share p of the rounds: k averages are one, as
they leave m in its place. On other graphs D per edge and average, p / (1 - p) averages per round in the mean.
Source: Hanzely and Richtarik, arXiv 2002.05516, algorithm L2SGD without variance reduction (L2GD with minibatches).
Departures: an epoch stands for one gradient step, as in the released code of Marfoq et al. (arXiv 2108.10252), which
also leaves lr out of the averages and counts each of them as a round. Rates here are those of the sum over nodes, n
times those of the paper's mean, which counts every node once.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import torch
from torch import Tensor

from simulator.algorithms.base import State
from simulator.algorithms.federated.local_training import LocalTraining, average, gradient_of, has_hub, train_locally_
from simulator.checks import require_within
from simulator.network.network import Network
from simulator.problems.base import Problem
from simulator.randomness import generator


@lru_cache(maxsize=16)
def _totals(seed: int, probability: float, at_once: bool) -> list[int]:
    """The sums that :meth:`L2SGD.num_rounds` has found so far, by step."""
    return [0]


@dataclass(frozen=True, kw_only=True)
class L2SGD(LocalTraining):
    """Loopless local SGD with an L2 penalty on the distance from the average.

    Args:
        lr, lr_schedule, local_steps: of the local training.
        penalty: of the distance from the average (lambda in the paper); lr * penalty / probability at most 1.
        probability: of the coin's side that averages, in (0, 1).
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

    def num_averages(self, step: int) -> int:
        """How often the nodes average between the training of round ``step`` and the next one."""
        return int(generator(self.seed, "l2sgd", step=step).geometric(1 - self.probability)) - 1

    def num_rounds(self, step: int, at_once: bool) -> int:
        """Rounds of averages before round ``step``; those between two trainings are one if they are done ``at_once``.

        It is what ``rounds`` in the state says, without reading it from the device.
        """
        totals = _totals(self.seed, self.probability, at_once)
        while len(totals) <= step:
            count = self.num_averages(len(totals) - 1)
            totals.append(totals[-1] + (min(count, 1) if at_once else count))
        return totals[step]

    def init(self, problem: Problem, network: Network) -> State:
        params = problem.init_params()
        return {"params": params, "rounds": params.new_zeros(len(params))}

    def step(self, state: State, step: int, problem: Problem, network: Network) -> State:
        params, rounds = state["params"], state["rounds"]
        train_locally_(
            params,
            gradient_of(problem, problem.init_hparams()),
            self.batches(problem, step),
            lr=self.rate(step) / (1 - self.probability),
        )
        pull, count = self.rate(step) * self.penalty / self.probability, self.num_averages(step)
        at_once = has_hub(network.graph)
        if count > 1 and at_once:
            pull, count = 1 - (1 - pull) ** count, 1
        first = self.num_rounds(step, at_once)
        for position in range(count):
            (averaged,) = average((params,), first + position, problem, network)
            params, rounds = torch.lerp(params, averaged, pull), rounds + 1
        return {"params": params, "rounds": rounds}

    def estimate(self, state: State) -> Tensor:
        return state["params"]
