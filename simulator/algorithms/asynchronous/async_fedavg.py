"""Asynchronous federated learning at a hub: FedAsync, and FedBuff.

Update equations of round trip k of client i, with learning rate a_k and L local steps:
    the client gets the hub's model x as y_i, and takes L steps u <- u - a_k grad f_i(u) from u = y_i
    staleness s: how many versions of x came after y_i; its weight is c(s) = (1 + s)^-decay
    fedasync:  x <- (1 - mixing c(s)) x + mixing c(s) u
    fedbuff:   b <- b + c(s) (u - y_i); with every buffer_size-th answer x <- x + mixing b / buffer_size, b <- 0
and the client gets x again, when all answers of that time are taken in. Clients wait for nobody but the hub's messages.
fedbuff with buffer_size = M - 1, mixing 1, equal clocks and links without delay is FedAvg.
What is evaluated is x at every node.
State: ``params`` [N, D] (x at node 0, y_i at clients), ``trained`` [N, D] (u of trips in progress whose client has got
its model; others get theirs and train when the next answer comes); with fedbuff
also ``hub/buffer`` [1, D].
Needs: graph=hub or graph=star, whose node 0 is the hub and has no samples in use; a timing.
Sends: D numbers up and D numbers down for every trip.
Source: Xie, Koyejo and Gupta, Asynchronous federated optimization (arXiv 1903.03934), polynomial weight; Nguyen et al.,
Federated learning with buffered asynchronous aggregation, AISTATS 2022 (arXiv 2106.06639), decay 0.5.
Departures: no proximal term (FedAsync), no privacy (FedBuff). All clients are in training at any time. The hub has no
queue.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from torch import Tensor

from simulator.algorithms.asynchronous.base import AsynchronousAlgorithm, add_scaled_gradients_, factors
from simulator.algorithms.base import State
from simulator.algorithms.weights import Weights
from simulator.arrays import BoolArray
from simulator.checks import require_at_least, require_one_of, require_positive, require_within
from simulator.faults.base import FaultyGraph
from simulator.graphs.base import Graph
from simulator.graphs.hub import Hub
from simulator.graphs.star import Star
from simulator.network.hub_trips import HubTrips, Trip
from simulator.network.network import Network
from simulator.padding import copy_as
from simulator.problems.base import Problem
from simulator.schedules import Schedule
from simulator.uploads import upload


@dataclass(frozen=True, kw_only=True)
class AsyncFedAvg(AsynchronousAlgorithm):
    """FedAsync and FedBuff.

    Args:
        lr: learning rate of clients; lr_schedule: its factor at each trip.
        local_steps: L, gradient steps of a trip, at least 1. The trip lasts as long as one step of the timing.
        aggregation: ``fedasync`` or ``fedbuff``.
        mixing: weight of an answer (fedasync), or rate of the hub (fedbuff), in (0, 1].
        decay: exponent of the weight of late answers, at least 0; 0 for equal weights.
        buffer_size: answers that fedbuff collects, at least 1.
    """

    weights: ClassVar[Weights] = Weights.ANY

    lr: float
    lr_schedule: Schedule
    local_steps: int
    aggregation: Literal["fedasync", "fedbuff"]
    mixing: float
    decay: float
    buffer_size: int

    def __post_init__(self) -> None:
        require_positive("algorithm.lr", self.lr)
        require_at_least("algorithm.local_steps", self.local_steps, 1)
        require_at_least("algorithm.decay", self.decay, 0)
        require_at_least("algorithm.buffer_size", self.buffer_size, 1)
        require_within("algorithm.mixing", self.mixing, "(0, 1]")
        require_one_of("algorithm.aggregation", self.aggregation, ("fedasync", "fedbuff"))

    def check_graph(self, graph: Graph) -> None:
        if isinstance(graph, FaultyGraph) or not isinstance(graph, Hub | Star) or graph.num_nodes < 2:
            raise ValueError(
                f"algorithm={self.name} needs a hub that loses no messages, and graph {graph.description} has none; "
                "use graph=hub with faults=none"
            )

    def init(self, problem: Problem, network: Network) -> State:
        params = problem.init_params()
        self._trips(params, network).begin()
        trained = copy_as(params)
        self._train(trained, params, self._clients(network), problem, network)
        state = {"params": params, "trained": trained}
        if self.aggregation == "fedbuff":
            state["hub/buffer"] = params.new_zeros(1 if 0 in network.nodes else 0, params.shape[1])
        return state

    def step_until(self, state: State, step: int, problem: Problem, network: Network, until_s: float | None) -> State:
        y, u, trips = state["params"], state["trained"], self._trips(state["params"], network)
        trips.follow(step)
        waits = np.zeros(len(y), dtype=np.bool_)
        for trip in trips.trips(step, until_s):
            for node in trip.handed:
                model = trips.carry(copy_as(y[:1]), 0, node)
                if node in network.nodes:
                    y[node - network.nodes.start] = model[0]
                    waits[node - network.nodes.start] = True
            at = trip.node - network.nodes.start
            is_here = trip.node in network.nodes
            if is_here and waits[at]:
                self._train(u, y, waits, problem, network)
            answer = y.new_zeros(1, y.shape[1])
            if is_here:
                answer = (u[at] - y[at] if self.aggregation == "fedbuff" else u[at])[None].contiguous()
            answer = trips.carry(answer, trip.node, 0)
            if 0 in network.nodes:
                self._take_in(state, y[0], answer[0], trip, trips.num_answers)
        self._train(u, y, waits, problem, network)
        return {**state, "params": y, "trained": u}

    def resume(self, state: State, step: int, problem: Problem, network: Network) -> None:
        self._trips(state["params"], network).follow(step)

    def prepare_evaluation(self, state: State, problem: Problem, network: Network) -> State:
        hub = state["params"][:1] if 0 in network.nodes else state["params"][:0]
        return {**state, "params": network.scatter(hub.expand(network.num_nodes if len(hub) else 0, -1).contiguous())}

    def estimate(self, state: State) -> Tensor:
        return state["params"]

    def _take_in(self, state: State, x: Tensor, answer: Tensor, trip: Trip, num_answers: int) -> None:
        """Changes the hub's model ``x`` [D] in place."""
        weight = (1.0 + trip.staleness) ** -self.decay
        if self.aggregation == "fedasync":
            x.lerp_(answer, self.mixing * weight)
            return
        buffer = state["hub/buffer"][0]
        buffer.add_(answer, alpha=weight)
        if (num_answers + 1) % self.buffer_size == 0:
            x.add_(buffer, alpha=self.mixing / self.buffer_size)
            buffer.zero_()

    def _train(self, u: Tensor, y: Tensor, waits: BoolArray, problem: Problem, network: Network) -> None:
        """Trains the models of all clients that wait for it, at once."""
        assert network.events is not None
        positions = np.flatnonzero(waits)
        if positions.size == 0:
            return
        trip = network.events.num_steps[positions + network.nodes.start]
        rates = self.lr * factors(self.lr_schedule, trip)
        index = upload(positions, y.device)
        model = y.index_select(0, index)
        for local in range(self.local_steps):
            add_scaled_gradients_(model, model, problem, positions, trip * self.local_steps + local, rates)
        u.index_copy_(0, index, model)
        waits[:] = False

    def _clients(self, network: Network) -> BoolArray:
        return np.asarray(network.nodes) > 0

    def _trips(self, params: Tensor, network: Network) -> HubTrips:
        payload = params.element_size() * params.shape[1]
        per_version = self.buffer_size if self.aggregation == "fedbuff" else 1
        return network.kept(HubTrips, lambda: HubTrips(network, payload, per_version))
