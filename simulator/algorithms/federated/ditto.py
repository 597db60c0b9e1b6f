"""Ditto: a shared model by FedAvg, and beside it a model of every node that a proximal term holds near the shared one.

Update equations, one step being one round (see local_training.py), with x_i the node's copy of the shared model as the
round begins, and v_i the node's own model, which is what it uses:
    v_i <- a local epoch of SGD with momentum along  grad f_i(v_i; batch) + proximity (v_i - x_i);
    x_i <- a local epoch of SGD with momentum along  grad f_i(x_i; batch), then the average of all x_j, as in FedAvg.
The shared model does not depend on the own ones. With proximity = 0 these are models of local training.
State: ``params`` [N, D], ``own`` [N, D]; with momentum also ``momentum`` [N, D], ``own_momentum`` [N, D].
Needs: graph=hub or doubly stochastic W.
Sends: as FedAvg, D numbers up and D numbers down for every node but the hub, or D per edge; v stays at home.
Source: Li, Hu, Beirami and Smith, "Ditto: Fair and Robust Federated Learning Through Personalization", arXiv
2012.04221, algorithm 1 with FedAvg for the shared model.
Departures: all nodes take part in every round; both models take as many local steps, on the same minibatches, and with
momentum.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from simulator.algorithms.base import State
from simulator.algorithms.federated.fedprox import ProximalTraining
from simulator.algorithms.federated.local_training import MomentumTraining, average, gradient_of
from simulator.network.network import Network
from simulator.padding import copy_as
from simulator.problems.base import Problem


@dataclass(frozen=True, kw_only=True)
class Ditto(ProximalTraining, MomentumTraining):
    """A shared model, and own models near it.

    Args:
        lr, lr_schedule, local_steps, momentum: of the local training of both models.
        proximity: coefficient of the squared distance to the shared model (lambda in the paper).
    """

    personalizes: ClassVar[bool] = True

    def init(self, problem: Problem, network: Network) -> State:
        state = super().init(problem, network)
        return {**state, **{name: copy_as(state[of]) for name, of in OWN.items() if of in state}}

    def step(self, state: State, step: int, problem: Problem, network: Network) -> State:
        velocity = state.get("own_momentum")
        self.proximal_epoch_(state["own"], state["params"], problem, step, momentum=self.momentum, velocity=velocity)
        self.train_(state, gradient_of(problem, problem.init_hparams()), step, problem)
        (averaged,) = average((state["params"],), step, problem, network)
        return {**state, "params": averaged}

    def estimate(self, state: State) -> Tensor:
        return state["own"]


OWN = {"own": "params", "own_momentum": "momentum"}
"""The entries of a state that belong to the own models, and those of the shared one that they begin as."""
