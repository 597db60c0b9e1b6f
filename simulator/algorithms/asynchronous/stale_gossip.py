"""Stale gossip: asynchronous D-SGD with the newest model that has come from each neighbour.

Update equations of event (i, k), with a static doubly stochastic W, learning rate a_k, and x_j(newest) the last model
of j that has arrived at i (the common initial one before any has):
    adapt_then_combine:  when it begins:  x_i <- W[i, i] x_i + sum_j W[i, j] x_j(newest)
                         when it ends:    x_i <- x_i - a_k grad f_i(x_i), and is sent to all neighbours
    combine_and_adapt:   when it begins:  u_i <- x_i - a_k grad f_i(x_i)
                         when it ends:    x_i <- W[i, i] x_i + sum_j W[i, j] x_j(newest) + (u_i - x_i), and is sent
What is evaluated is x_i at the beginning of the event in progress.
Unlike push-sum this keeps no mean: models that are late or overwritten change it.
State: ``params`` [N, D], as the nodes sent them last, ``mail/params`` [S, D], ``mail/source`` [S], ``mail/step`` [S];
with combine_and_adapt also ``adapted`` [N, D], u of the events in progress.
Needs: doubly stochastic W, static; a timing.
Sends: D numbers per edge and local step.
Source: asynchronous decentralized SGD (ADSGD, arXiv 2505.10322).
Departures: none that are known.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from torch import Tensor

from simulator.algorithms.asynchronous.base import AsynchronousAlgorithm, add_scaled_gradients_, factors
from simulator.algorithms.base import State
from simulator.algorithms.weights import Weights
from simulator.arrays import BoolArray
from simulator.checks import require_one_of, require_positive
from simulator.graphs.base import Graph
from simulator.network.mail_rules import NewestMail
from simulator.network.mailboxes import LocalEvents, Mailboxes
from simulator.network.network import Network
from simulator.padding import zeros_as
from simulator.problems.base import Problem
from simulator.schedules import Schedule
from simulator.timing.rounds import Rounds
from simulator.uploads import upload


@dataclass(frozen=True, kw_only=True)
class StaleGossip(AsynchronousAlgorithm):
    """Asynchronous D-SGD with the newest models.

    Args:
        lr: learning rate; lr_schedule: its factor at each local step.
        order: ``adapt_then_combine`` or ``combine_and_adapt``.
    """

    weights: ClassVar[Weights] = Weights.DOUBLY_STOCHASTIC
    push_sum_alternative: ClassVar[str] = "async_push_sum"

    lr: float
    lr_schedule: Schedule
    order: Literal["adapt_then_combine", "combine_and_adapt"]

    def __post_init__(self) -> None:
        require_positive("algorithm.lr", self.lr)
        require_one_of("algorithm.order", self.order, ("adapt_then_combine", "combine_and_adapt"))

    def check_graph(self, graph: Graph) -> None:
        if graph.period != 1:
            raise ValueError(
                f"algorithm={self.name} needs a static graph, and {graph.description} changes; use for example "
                "graph=ring"
            )

    def init(self, problem: Problem, network: Network) -> State:
        params = problem.init_params()
        state = {"params": params, **self._mail(params, network).first((params,))}
        if self.order == "combine_and_adapt":
            state["adapted"] = zeros_as(params)
            self._adapt(params, state["adapted"], np.zeros(len(params), dtype=np.bool_), problem, network)
        return state

    def step_until(self, state: State, step: int, problem: Problem, network: Network, until_s: float | None) -> State:
        x, mail = state["params"], self._mail(state["params"], network)
        mail.follow(state, step)
        is_adapted = np.ones(len(x), dtype=np.bool_)
        for events in mail.waves(step, until_s):
            (mixed,) = events.mixed
            index = upload(events.positions, x.device)
            if self.order == "adapt_then_combine":
                rates = self.lr * factors(self.lr_schedule, events.steps)
                add_scaled_gradients_(mixed, mixed, problem, events.positions, events.steps, rates)
            else:
                if not is_adapted[events.positions].all():
                    self._adapt(x, state["adapted"], is_adapted, problem, network, events)
                mixed.sub_(x.index_select(0, index)).add_(state["adapted"].index_select(0, index))
                is_adapted[events.positions] = False
            x.index_copy_(0, index, mixed)
            mail.send((mixed,))
        after = {"params": x, **mail.entries()}
        if self.order == "combine_and_adapt":
            self._adapt(x, state["adapted"], is_adapted, problem, network)
            after["adapted"] = state["adapted"]
        return after

    def resume(self, state: State, step: int, problem: Problem, network: Network) -> None:
        mail = self._mail(state["params"], network)
        mail.follow(state, step)
        state |= mail.entries()

    def prepare_evaluation(self, state: State, problem: Problem, network: Network) -> State:
        mail = self._mail(state["params"], network)
        if self.order == "combine_and_adapt" or not mail.owns(state):
            return state
        return {**state, "params": mail.settled()[0]}

    def estimate(self, state: State) -> Tensor:
        return state["params"]

    def _adapt(
        self,
        x: Tensor,
        adapted: Tensor,
        is_adapted: BoolArray,
        problem: Problem,
        network: Network,
        ending: LocalEvents | None = None,
    ) -> None:
        """Takes the gradient steps of all events in progress that are not taken yet, at once."""
        assert network.events is not None
        positions = np.flatnonzero(~is_adapted)
        current = network.events.num_steps.copy()
        if ending is not None:
            current[ending.nodes] = ending.steps  # these are counted already
        current = current[positions + network.nodes.start]
        index = upload(positions, x.device)
        u = x.index_select(0, index)
        add_scaled_gradients_(u, u, problem, positions, current, self.lr * factors(self.lr_schedule, current))
        adapted.index_copy_(0, index, u)
        is_adapted[:] = True

    def _mail(self, params: Tensor, network: Network) -> Mailboxes:
        def rounds() -> Rounds:
            assert network.timing is not None
            return Rounds(network.graph, network.timing.links, params.element_size() * params.shape[1])

        takes_in: Literal["start", "end"] = "start" if self.order == "adapt_then_combine" else "end"
        return network.kept(NewestMail, lambda: NewestMail(network, ("params",), rounds(), takes_in=takes_in))
