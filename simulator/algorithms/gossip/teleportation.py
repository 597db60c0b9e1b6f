"""Teleportation: SGD at k active nodes, whose models mix and move to the next active nodes.

Update equations of step t, with A_t[s] the active node that holds token s, and x[s] the model of token s:
    x[s] <- x[s] - a_t grad f_i(x[s]) with i = A_t[s],    x[r] <- sum_s B_t[r, s] x[s], which arrives at A_{t+1}[r]
where the second line is x <- W_t x of the schedule, see graphs/teleportation.py. Nodes that are not active rest. With
active nodes that are drawn uniformly the gradients are those of the mean objective, and k of them count in a step, so
the rate of convergence depends on k and on the base's spectral gap, not on the number of nodes.
What is evaluated at node i is the model of token i mod k: what a node has that asks for one.
State: ``params`` [N, D], ``token`` [N], one more than the number of the token that the node holds for the next step,
and 0 without one.
Needs: graph=teleportation. Where a fault takes a message away, the node that it was for uses the row that it already
has in its place, however old.
Sends: D numbers per edge and step; the edges are those of the active nodes.
Source: Takezawa and Stich, "Scalable decentralized learning with teleportation", ICLR 2025 (arXiv 2501.15259).
Departures: a re-implementation of the published idea. A node that is active in step t uses its minibatch of that step.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from simulator.algorithms.asynchronous.base import add_scaled_gradients_, require_steps_apart
from simulator.algorithms.base import Algorithm, State
from simulator.algorithms.weights import Weights
from simulator.checks import require_positive
from simulator.faults.base import beneath_faults
from simulator.graphs.base import Graph
from simulator.graphs.teleportation import Teleportation
from simulator.network.network import Network
from simulator.problems.base import Problem
from simulator.schedules import Schedule
from simulator.uploads import upload, upload_like


@dataclass(frozen=True, kw_only=True)
class TeleportationSGD(Algorithm):
    """SGD at the active nodes.

    Args:
        lr: learning rate; lr_schedule: its factor at each step.
    """

    weights: ClassVar[Weights] = Weights.ANY

    lr: float
    lr_schedule: Schedule

    def __post_init__(self) -> None:
        require_positive("algorithm.lr", self.lr)

    def check_graph(self, graph: Graph) -> None:
        if not isinstance(beneath_faults(graph), Teleportation):
            raise ValueError(
                f"algorithm={self.name} needs graph=teleportation, and this graph is {graph.description}; "
                "use algorithm=dsgd here"
            )

    def check_problem(self, problem: Problem) -> None:
        require_steps_apart(self, problem)

    def init(self, problem: Problem, network: Network) -> State:
        params = problem.init_params()
        return {"params": params, "token": _tokens(params, 0, network)}

    def step(self, state: State, step: int, problem: Problem, network: Network) -> State:
        x, nodes = state["params"], network.nodes
        active = np.sort(_schedule(network).active(step))
        positions = active[(active >= nodes.start) & (active < nodes.stop)] - nodes.start
        index = upload(positions, x.device)
        models = x.index_select(0, index)
        rates = np.full(positions.size, self.lr * self.lr_schedule.factor(step))
        add_scaled_gradients_(models, models, problem, positions, np.full(positions.size, step), rates)
        x.index_copy_(0, index, models)
        (mixed,) = network.mix((x,), step)
        return {"params": mixed, "token": _tokens(mixed, step + 1, network)}

    def prepare_evaluation(self, state: State, problem: Problem, network: Network) -> State:
        x, num_tokens = state["params"], _schedule(network).num_active
        tokens = torch.arange(1, num_tokens + 1, device=x.device)
        is_held = (state["token"] == tokens[:, None]).to(x.dtype)
        models = network.sum((is_held @ x)[None])
        nodes = np.arange(network.nodes.start, network.nodes.stop)
        return {**state, "params": models.index_select(0, upload(nodes % num_tokens, x.device))}

    def estimate(self, state: State) -> Tensor:
        return state["params"]


def _schedule(network: Network) -> Teleportation:
    schedule = beneath_faults(network.graph)
    assert isinstance(schedule, Teleportation)
    return schedule


def _tokens(like: Tensor, step: int, network: Network) -> Tensor:
    """``token`` before ``step``."""
    schedule, token = _schedule(network), np.zeros(network.num_nodes)
    token[schedule.active(step)] = np.arange(1, schedule.num_active + 1)
    return upload_like(token[network.nodes.start : network.nodes.stop], like)
