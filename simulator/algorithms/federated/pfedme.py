"""pFedMe as in the code of FedEM: one model per node, held near the last average by a proximal term.

Update equations, one step being one round (see local_training.py), with c_i the average that node i knows:
    x_i <- a local epoch of  x_i <- x_i - lr (grad f_i(x_i; batch) + proximity (x_i - c_i));
    c_i <- the average of all x_j, over the hub or sum_j W_t[i, j] x_j elsewhere.
Only c_i is replaced by the average; x_i is what node i uses.
State: ``params`` [N, D], ``centre`` [N, D].
Needs: graph=hub or doubly stochastic W.
Sends: as FedAvg, D numbers up and D numbers down for every node but the hub, or D per edge.
Source: Dinh, Tran and Nguyen, NeurIPS 2020 (arXiv 2006.08848).
Departures: there every node also takes gradient steps on a copy of the average, several per round, after solving its
proximal problem for one minibatch; here, as in the released code of Marfoq et al. (arXiv 2108.10252), there is one
proximal epoch per round and the average is that of the nodes' own models.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from simulator.algorithms.base import State
from simulator.algorithms.federated.fedprox import ProximalTraining
from simulator.algorithms.federated.local_training import average
from simulator.network.network import Network
from simulator.padding import copy_as
from simulator.problems.base import Problem


@dataclass(frozen=True, kw_only=True)
class PFedMe(ProximalTraining):
    """Personalized federated learning with Moreau envelopes.

    Args:
        lr, lr_schedule, local_steps: of the local training.
        proximity: coefficient of the squared distance to the last average (lambda in the paper).
    """

    personalizes: ClassVar[bool] = True

    def init(self, problem: Problem, network: Network) -> State:
        params = problem.init_params()
        return {"params": params, "centre": copy_as(params)}

    def step(self, state: State, step: int, problem: Problem, network: Network) -> State:
        params = state["params"]
        self.proximal_epoch_(params, state["centre"], problem, step)
        (centre,) = average((params,), step, problem, network)
        return {"params": params, "centre": centre}

    def estimate(self, state: State) -> Tensor:
        return state["params"]
