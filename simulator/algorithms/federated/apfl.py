"""APFL: every node mixes its own model with the shared model; the mixing weight may be learned.

Update equations, one step being one round (see local_training.py), with v_i the node's own model, x_i its copy of the
shared one, and z_i = a_i v_i + (1 - a_i) x_i what it uses:
    if adaptive, once at the start of the round:  a_i <- clip(a_i - lr <v_i - x_i, grad f_i(z_i; first batch)>, 0, 1)
    for each minibatch of a local epoch:
        v_i <- v_i - lr a_i grad f_i(z_i; batch),    x_i <- x_i - lr grad f_i(x_i; batch)
    x_i <- the average of all x_j, as in FedAvg.
State: ``params`` [N, D], ``own`` [N, D], ``mixing`` [N].
Needs: graph=hub or doubly stochastic W.
Sends: as FedAvg, D numbers up and D numbers down for every node but the hub, or D per edge; v and a stay at home.
Source: Deng, Kamani and Mahdavi, arXiv 2003.13461, algorithm 1 and its adaptive mixing weight.
Departures: all nodes take part in every round, and a local epoch stands for a fixed number of local steps.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from simulator.algorithms.base import State
from simulator.algorithms.federated.local_training import LocalTraining, average
from simulator.checks import require_within
from simulator.network.network import Network
from simulator.padding import copy_as
from simulator.problems.base import Problem
from simulator.uploads import upload_like


@dataclass(frozen=True, kw_only=True)
class APFL(LocalTraining):
    """Adaptive personalized federated learning.

    Args:
        lr, lr_schedule, local_steps: of the local training.
        mixing: share of the node's own model at the start, in [0, 1].
        adaptive: whether the share is learned.
    """

    mixing: float
    adaptive: bool

    personalizes: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        require_within("algorithm.mixing", self.mixing, "[0, 1]")

    def init(self, problem: Problem, network: Network) -> State:
        params = problem.init_params()
        return {"params": params, "own": copy_as(params), "mixing": params.new_full((len(params),), self.mixing)}

    def step(self, state: State, step: int, problem: Problem, network: Network) -> State:
        x, v, hparams, lr = state["params"], state["own"], problem.init_hparams(), self.rate(step)
        a = state["mixing"][:, None]
        for position, steps in enumerate(self.batches(problem, step)):
            trains = upload_like(steps >= 0, x)[:, None]
            gradient = problem.grad_at(torch.lerp(x, v, a), hparams, steps)
            if self.adaptive and position == 0:
                slope = ((v - x) * gradient).sum(dim=1, keepdim=True)
                a = (a - lr * slope).clamp(0.0, 1.0)
                gradient = problem.grad_at(torch.lerp(x, v, a), hparams, steps)
            shared = problem.grad_at(x, hparams, steps)
            v.addcmul_(gradient, a * trains, value=-lr)
            x.addcmul_(shared, trains, value=-lr)
        (averaged,) = average((x,), step, problem, network)
        return {"params": averaged, "own": v, "mixing": a[:, 0].contiguous()}

    def estimate(self, state: State) -> Tensor:
        return torch.lerp(state["params"], state["own"], state["mixing"][:, None])
