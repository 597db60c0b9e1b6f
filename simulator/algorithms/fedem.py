"""FedEM: every node's data are a mixture of components that all nodes share; expectation maximisation, round by round.

Update equations, one step being one round (see local_training.py), with learners x_i1..x_iK at node i, their shares
p_i, and l_k(j) the loss of learner k on training sample j of node i:
    E-step:  q_jk proportional to p_ik exp(-l_k(j)),  p_ik <- mean_j q_jk
    M-step:  for every k a local epoch of SGD with momentum on  mean_j q_jk l_k(j) + weight_decay / 2 ||x_ik||^2
    x_ik <- the average over nodes, learner by learner, as in FedAvg.
Node i predicts with the mixture sum_k p_ik softmax_k.
Needs: graph=hub or doubly stochastic W; problem=mixture_weights, whose hyperparameters are log p here.
Sends: K times what FedAvg sends: K D numbers up and K D down for every node but the hub, or K D per edge.
Source: Marfoq, Neglia, Bellet, Kameni and Vidal, NeurIPS 2021 (arXiv 2108.10252), algorithms 1 (with a hub) and 4
(decentralized).
Departures: all nodes take part in every round. The problem's outer_regularization has no effect.
"""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar, cast

import torch
from torch import Tensor

from simulator.algorithms.base import State
from simulator.algorithms.local_training import LocalTraining, average, require_momentum, train_locally_
from simulator.network import Network
from simulator.problems.base import Problem
from simulator.problems.mixture_weights import MixtureWeights

_SMALLEST_SHARE = 1e-12


@dataclass(frozen=True, kw_only=True)
class FedEM(LocalTraining):
    """Federated expectation maximisation.

    Args:
        lr, lr_schedule, local_steps: of the local training.
        momentum: heavy-ball coefficient in [0, 1).
    """

    momentum: float

    personalizes: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        require_momentum(self.momentum)

    def check_problem(self, problem: Problem) -> None:
        if not isinstance(problem, MixtureWeights):
            raise ValueError(f"algorithm=fedem needs problem=mixture_weights, and this is {type(problem).__name__}")

    def init(self, problem: Problem, network: Network) -> State:
        params = problem.init_params()
        state = {"params": params, "log_shares": problem.init_hparams().log_softmax(dim=1)}
        return {**state, "momentum": torch.zeros_like(params)} if self.momentum else state

    def step(self, state: State, step: int, problem: Problem, network: Network) -> State:
        mixture, params = cast(MixtureWeights, problem), state["params"]
        responsibilities = mixture.responsibilities(params, state["log_shares"])
        train_locally_(
            params,
            partial(mixture.weighted_grad_at, responsibilities),
            self.batches(problem, step),
            lr=self.rate(step),
            momentum=self.momentum,
            velocity=state.get("momentum"),
        )
        totals = responsibilities.sum(dim=1)
        shares = totals / totals.sum(dim=1, keepdim=True).clamp_min(1.0)
        (averaged,) = average((params,), step, problem, network)
        return {**state, "params": averaged, "log_shares": shares.clamp_min(_SMALLEST_SHARE).log()}

    def estimate(self, state: State) -> Tensor:
        return state["params"]

    def hparams(self, state: State, problem: Problem) -> Tensor:
        return state["log_shares"]
