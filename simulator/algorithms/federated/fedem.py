"""FedEM: the data of every node are a mixture of shared components, fitted by expectation maximisation.

Update equations, one step being one round (see local_training.py), with learners x_i1..x_iK at node i, their shares
p_i, and l_k(j) the loss of learner k on training sample j of node i:
    E-step:  q_jk proportional to p_ik exp(-l_k(j)),  p_ik <- mean_j q_jk
    M-step:  for every k a local epoch of SGD with momentum on  mean_j q_jk l_k(j) + weight_decay / 2 ||x_ik||^2
    x_ik <- the average over nodes, learner by learner, as in FedAvg.
Node i predicts with the mixture sum_k p_ik softmax_k.
State: ``params`` [N, P], ``log_shares`` [N, K]; with momentum also ``momentum`` [N, P]. P = K D: the learners of a node
stand one after the other.
Needs: graph=hub or doubly stochastic W; problem=mixture_weights, whose hyperparameters are log p here.
Sends: K times what FedAvg sends: K D numbers up and K D down for every node but the hub, or K D per edge.
Source: Marfoq, Neglia, Bellet, Kameni and Vidal, NeurIPS 2021 (arXiv 2108.10252), algorithms 1 (with a hub) and 4
(decentralized).
Departures: all nodes take part in every round. The problem's outer_regularization has no effect.
"""

from dataclasses import dataclass
from typing import ClassVar, cast

from torch import Tensor

from simulator.algorithms.base import State
from simulator.algorithms.federated.local_training import MomentumTraining, average
from simulator.arrays import IntArray
from simulator.network.network import Network
from simulator.problems.base import Problem
from simulator.problems.mixture_weights import MixtureWeights

_SMALLEST_SHARE = 1e-12


@dataclass(frozen=True, kw_only=True)
class FedEM(MomentumTraining):
    """Federated expectation maximisation; arguments as in :class:`MomentumTraining`."""

    personalizes: ClassVar[bool] = True

    def check_problem(self, problem: Problem) -> None:
        if not isinstance(problem, MixtureWeights):
            raise ValueError(
                f"problem: algorithm={self.name} needs problem=mixture_weights, and this is {type(problem).__name__}"
            )

    def init(self, problem: Problem, network: Network) -> State:
        return {**super().init(problem, network), "log_shares": problem.init_hparams().log_softmax(dim=1)}

    def step(self, state: State, step: int, problem: Problem, network: Network) -> State:
        mixture = cast(MixtureWeights, problem)
        responsibilities = mixture.responsibilities(state["params"], state["log_shares"])

        def gradient(params: Tensor, steps: IntArray) -> Tensor:
            return mixture.weighted_grad_at(params, responsibilities, steps)

        self.train_(state, gradient, step, problem)
        totals = responsibilities.sum(dim=1)
        shares = totals / totals.sum(dim=1, keepdim=True).clamp_min(1.0)
        (averaged,) = average((state["params"],), step, problem, network)
        return {**state, "params": averaged, "log_shares": shares.clamp_min(_SMALLEST_SHARE).log()}

    def hparams(self, state: State, problem: Problem) -> Tensor:
        return state["log_shares"]
