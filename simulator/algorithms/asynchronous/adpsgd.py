"""AD-PSGD: a node that has a gradient averages its model with that of one neighbour, and goes on.

Update equations of event (i, k), with learning rate a_k:
    when it begins:  g_i <- grad f_i(x_i)
    when it ends:    a neighbour j is drawn uniformly by (seed, i, k)
                     x_i, x_j <- (x_i + x_j) / 2
                     x_i <- x_i - a_k g_i
Meetings are atomic, in the order of (end time, node). Node j is not interrupted: the gradient that it computes is that
at the model which it had when it began.
State: ``params`` [N, D], ``gradient`` [N, D] of the events in progress.
Needs: an undirected graph; a timing.
Sends: D numbers in both directions for every local step.
Source: Lian, Zhang, Zhang and Liu, Asynchronous decentralized parallel stochastic gradient descent, ICML 2018
(arXiv 1710.06952), algorithm 1.
Departures: the graph need not be bipartite, because meetings are atomic and so there is no deadlock. A node does not
compute while it exchanges the models of its own event.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from torch import Tensor

from simulator.algorithms.asynchronous.base import AsynchronousAlgorithm, add_scaled_gradients_, factors
from simulator.algorithms.base import State
from simulator.algorithms.weights import Weights
from simulator.arrays import BoolArray
from simulator.checks import require_positive
from simulator.graphs.base import Graph
from simulator.network.meetings import Meetings
from simulator.network.network import Network
from simulator.padding import zeros_as
from simulator.problems.base import Problem
from simulator.schedules import Schedule
from simulator.uploads import upload, upload_like


@dataclass(frozen=True, kw_only=True)
class ADPSGD(AsynchronousAlgorithm):
    """Asynchronous decentralized parallel SGD.

    Args:
        lr: learning rate; lr_schedule: its factor at each local step.
    """

    weights: ClassVar[Weights] = Weights.ANY

    lr: float
    lr_schedule: Schedule

    def __post_init__(self) -> None:
        require_positive("algorithm.lr", self.lr)

    def check_graph(self, graph: Graph) -> None:
        if graph.directed:
            raise ValueError(
                f"algorithm={self.name} needs neighbours that meet, and graph {graph.description} is directed; use an "
                "undirected graph, for example graph=ring"
            )

    def init(self, problem: Problem, network: Network) -> State:
        params = problem.init_params()
        self._meetings(params, network).begin()
        gradient = zeros_as(params)
        self._compute(gradient, params, np.zeros(len(params), dtype=np.bool_), problem, network)
        return {"params": params, "gradient": gradient}

    def step_until(self, state: State, step: int, problem: Problem, network: Network, until_s: float | None) -> State:
        x, gradient = state["params"], state["gradient"]
        is_known = np.ones(len(x), dtype=np.bool_)
        meetings = self._meetings(x, network)
        meetings.follow(step)
        for wave in meetings.waves(step, until_s):
            touched = upload(wave.touched, x.device)
            if not is_known[wave.touched].all():
                # Nobody has changed a model without a gradient since its event began.
                self._compute(gradient, x, is_known, problem, network)
            others = meetings.exchange(wave, x)
            x.index_copy_(0, touched, others.add_(x.index_select(0, touched)).mul_(0.5))
            active = upload(wave.touched[wave.active], x.device)
            rates = self.lr * factors(self.lr_schedule, wave.steps[wave.active])
            steps = gradient.index_select(0, active).mul_(upload_like(-rates[:, None], x))
            x.index_add_(0, active, steps)
            is_known[wave.touched[wave.active]] = False
        self._compute(gradient, x, is_known, problem, network)
        return {"params": x, "gradient": gradient}

    def resume(self, state: State, step: int, problem: Problem, network: Network) -> None:
        self._meetings(state["params"], network).follow(step)

    def estimate(self, state: State) -> Tensor:
        return state["params"]

    def _compute(self, gradient: Tensor, x: Tensor, is_known: BoolArray, problem: Problem, network: Network) -> None:
        """Computes the gradients of all events in progress that are not known yet, at once."""
        assert network.events is not None
        positions = np.flatnonzero(~is_known)
        index = upload(positions, x.device)
        at, out = x.index_select(0, index), x.new_zeros(len(index), x.shape[1])
        steps = network.events.num_steps[positions + network.nodes.start]
        add_scaled_gradients_(out, at, problem, positions, steps, np.full(positions.size, -1.0))
        gradient.index_copy_(0, index, out)
        is_known[:] = True

    def _meetings(self, params: Tensor, network: Network) -> Meetings:
        return network.kept(Meetings, lambda: Meetings(network, params.element_size() * params.shape[1]))
