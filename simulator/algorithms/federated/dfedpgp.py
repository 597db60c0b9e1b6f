"""DFedPGP: partial gradient push; bodies are averaged by push-sum over directed graphs, and heads stay at their nodes.

Update equations, one step being one round, with u_i the first layers of node i (the body) and h_i its last
private_layers layers (the head), P_t column-stochastic, push-sum weights w_i (1 at the start) and debiased
z_i = u_i / w_i:
    h_i <- head_epochs local epochs of  h_i <- h_i - lr m_i,  m_i <- momentum m_i + grad_h f_i(z_i, h_i; batch);
    u_i <- body_epochs local epochs of  u_i <- u_i - lr m_i,  m_i <- momentum m_i + grad_z f_i(z_i, h_i; batch),
           with z_i = u_i / w_i after each of them;
    u <- P_t u,    w <- P_t w.
A node uses (z_i, h_i). Epochs, momentum and minibatches are those of FedRep (see fedrep.py), which this is where all
weights are 1. With messages that are late (faults=message_delay), P_t (...) takes in the shares that arrive in round t.
The sums of u and w over nodes, and over what is in flight, are kept by a round.
State: ``body`` [N, S], ``head`` [N, P], ``push_sum_weight`` [N], with S and P the parameters of body and head; with
momentum also ``momentum`` [N, D]; with delays of up to L rounds also ``in_flight/body`` [N, L, S],
``in_flight/push_sum_weight`` [N, L].
Needs: column-stochastic P (doubly stochastic is a special case); problem=classification with a model of more than
private_layers layers.
Sends: S + 1 numbers per edge and round, in one buffer. Heads never leave their node.
Source: Liu, Shi, Li, Wu, Wang and Shen, "Decentralized Directed Collaboration for Personalized Federated Learning",
CVPR 2024 (arXiv 2405.17876): a re-implementation of the published idea. Its abstract says what is shared, private and
pushed; the local steps are those of FedRep, and their gradients at debiased bodies those of stochastic gradient push.
Departures: unknown beyond that; all nodes start from the same head.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from simulator.algorithms.base import State
from simulator.algorithms.federated.fedrep import FedRep
from simulator.algorithms.push_sum import debias, push, with_mailboxes
from simulator.algorithms.weights import Weights
from simulator.graphs.base import Graph
from simulator.network.network import Network
from simulator.problems.base import Problem

PUSHED = ("body", "push_sum_weight")
"""The entries of a state that are mixed."""


@dataclass(frozen=True, kw_only=True)
class DFedPGP(FedRep):
    """Decentralized federated partial gradient push.

    Args:
        lr, lr_schedule, local_steps, momentum: of the local training.
        private_layers: last layers that stay at their node, at least 1.
        head_epochs: local epochs per round of these; 0 leaves them as they are.
        body_epochs: local epochs per round of the other layers, at least 1.
    """

    weights: ClassVar[Weights] = Weights.COLUMN_STOCHASTIC
    takes_late_messages: ClassVar[bool] = True
    averages_by_hub: ClassVar[bool] = False

    def check_graph(self, graph: Graph) -> None:
        """Weights are all that is needed; see :attr:`weights`."""

    def init(self, problem: Problem, network: Network) -> State:
        state = super().init(problem, network)
        params, body = state.pop("params"), self.columns(problem)
        state |= {"body": params[:, body].clone(), "head": params[:, body.stop :].clone()}
        return with_mailboxes({**state, "push_sum_weight": params.new_ones(len(params))}, PUSHED, network)

    def step(self, state: State, step: int, problem: Problem, network: Network) -> State:
        body, head = state["body"], state["head"]
        self.train_in_turns_(body, head, lambda: self.estimate(state), state.get("momentum"), step, problem)
        return push(state, PUSHED, network, step)

    def estimate(self, state: State) -> Tensor:
        return torch.cat([debias(state["body"], state["push_sum_weight"]), state["head"]], dim=1)
