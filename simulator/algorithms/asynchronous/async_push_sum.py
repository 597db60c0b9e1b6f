"""Asynchronous gradient push: nodes that never wait, on directed graphs.

Update equations of event (i, k), with P_k column-stochastic, push-sum weights w_i (1 at the start), learning rate a_k:
    when it begins:  (x_i, w_i) <- kept share + sum of all shares that have come since (i, k - 1) began
                     z_i = x_i / w_i
    when it ends:    x_i <- x_i - s_i a_k grad f_i(z_i)
                     p_ji (x_i, w_i) is sent to every out-neighbour j, and p_ii (x_i, w_i) is kept
s_i is 1, or with correct_rates c_i / c: c_i is the mean duration of node i's first 100 local steps, and 1 / c the mean
of 1 / c_i over the nodes. Fast nodes take more steps than slow ones. With s_i = 1 what is minimized is the sum of f_i
weighted with how often node i steps; with the correction it is the plain sum.
What is evaluated is z_i at the beginning of the event in progress.
Shares in nodes and messages add up: sum x_i changes by gradients only, and sum w_i stays M.
State: ``params`` [N, D], ``push_sum_weight`` [N], as the nodes sent them last, ``mail/params`` [S, D],
``mail/push_sum_weight`` [S], ``mail/source`` [S], ``mail/step`` [S].
Needs: column-stochastic P with p_ii > 0; a timing.
Sends: D + 1 numbers per edge and local step.
Source: Assran and Rabbat, Asynchronous gradient push, IEEE TAC 2021 (arXiv 1803.08950).
Departures: a row is sent unscaled and multiplied with p_ji where it arrives, which is the same number of bytes. The
durations in s_i come from the configuration.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from torch import Tensor

from simulator.algorithms.asynchronous.base import (
    AsynchronousAlgorithm,
    add_scaled_gradients_,
    factors,
)
from simulator.algorithms.base import State
from simulator.algorithms.push_sum import debias
from simulator.algorithms.weights import Weights
from simulator.arrays import FloatArray
from simulator.checks import require_positive
from simulator.graphs.base import Graph
from simulator.network.mail_rules import SummedMail
from simulator.network.mailboxes import Mailboxes
from simulator.network.network import Network
from simulator.problems.base import Problem
from simulator.schedules import Schedule
from simulator.timing.rounds import Rounds
from simulator.uploads import upload

NAMES = ("params", "push_sum_weight")
NUM_CHECKED = 8
"""Rounds of a schedule without a period whose weights are looked at."""


@dataclass(frozen=True, kw_only=True)
class AsyncPushSum(AsynchronousAlgorithm):
    """Asynchronous gradient push.

    Args:
        lr: learning rate; lr_schedule: its factor at each local step.
        correct_rates: whether slow nodes take larger steps, so that all nodes' objectives weigh the same.
    """

    weights: ClassVar[Weights] = Weights.COLUMN_STOCHASTIC

    lr: float
    lr_schedule: Schedule
    correct_rates: bool

    def __post_init__(self) -> None:
        require_positive("algorithm.lr", self.lr)

    def check_graph(self, graph: Graph) -> None:
        for step in range(graph.period or NUM_CHECKED):
            edges = graph.edges(step)
            keeps = np.zeros(graph.num_nodes, dtype=np.bool_)
            keeps[edges.target[(edges.source == edges.target) & (edges.weight > 0)]] = True
            if not keeps.all():
                raise ValueError(
                    f"algorithm={self.name} needs nodes that keep a share of their own, because nothing may have come "
                    f"by the next step; node {int(np.argmin(keeps))} of graph {graph.description} keeps none in round "
                    f"{step}; use for example graph=exponential or graph=random_directed"
                )

    def init(self, problem: Problem, network: Network) -> State:
        params = problem.init_params()
        weight = params.new_ones(len(params))
        mail = self._mail(params, network).first((params, weight))
        return {"params": params, "push_sum_weight": weight, **mail}

    def step_until(self, state: State, step: int, problem: Problem, network: Network, until_s: float | None) -> State:
        params, weight = state["params"], state["push_sum_weight"]
        mail, scales = self._mail(params, network), self._scales(network)
        mail.follow(state, step)
        for events in mail.waves(step, until_s):
            x, w = events.mixed
            rates = self.lr * scales[events.nodes] * factors(self.lr_schedule, events.steps)
            add_scaled_gradients_(x, debias(x, w), problem, events.positions, events.steps, rates)
            index = upload(events.positions, params.device)
            params.index_copy_(0, index, x)
            weight.index_copy_(0, index, w)
            mail.send((x, w))
        return {"params": params, "push_sum_weight": weight, **mail.entries()}

    def resume(self, state: State, step: int, problem: Problem, network: Network) -> None:
        mail = self._mail(state["params"], network)
        mail.follow(state, step)
        state |= mail.entries()

    def prepare_evaluation(self, state: State, problem: Problem, network: Network) -> State:
        mail = self._mail(state["params"], network)
        if not mail.owns(state):
            return state  # no event has ended yet
        x, w = mail.settled()
        return {**state, "params": x, "push_sum_weight": w}

    def estimate(self, state: State) -> Tensor:
        return debias(state["params"], state["push_sum_weight"])

    def _mail(self, params: Tensor, network: Network) -> Mailboxes:
        return network.kept(
            SummedMail, lambda: SummedMail(network, NAMES, self._rounds(params, network), takes_in="start")
        )

    def _rounds(self, params: Tensor, network: Network) -> Rounds:
        assert network.timing is not None
        return Rounds(network.graph, network.timing.links, params.element_size() * (params.shape[1] + 1))

    def _scales(self, network: Network) -> FloatArray:
        """s_i, [M]."""
        assert network.timing is not None
        if not self.correct_rates:
            return np.ones(network.num_nodes)
        durations = network.timing.mean_step_s
        if (durations == durations[0]).all():
            return np.ones(network.num_nodes)
        scales: FloatArray = durations * (1.0 / durations).mean()
        return scales
