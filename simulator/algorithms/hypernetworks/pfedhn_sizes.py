"""pFedHN for nodes with models of different sizes.

Update equations: as pFedHN (see pfedhn.py), where the hypernetwork makes the models of all sizes side by side,
    (theta_i1, ..., theta_iS) = h(v_i; phi),
and node i, of size k = s(i) (see problems/model_sizes.py), gets and trains theta_ik alone; what comes back is
Delta_i = theta_ik - y_i, and
    G = (1 / m) sum_i (d theta_is(i) / d (phi, v))^T Delta_i.
The layers before the heads learn from all nodes, the head of a size from the nodes of that size alone. Heads of sizes
that no drawn node has get gradient 0, but momentum and weight decay move them all the same, as with embeddings.
Needs: graph=star, of which node 0 is the hub; problem=model_sizes.
Sends: D_k numbers down and D_k numbers up for every node of size k that takes part, 8 D_k bytes in float32, with D_k
the parameters of its own model. Messages of one size make a round of their own in ``time/sim_s``.
Source: A. Shamsian et al., "Personalized Federated Learning using Hypernetworks", ICML 2021 (arXiv 2103.04628), the
study of clients of different sizes; slices of one output, as its authors describe
(https://github.com/AvivSham/pFedHN/issues/2).
Departures: no code of that study is published.

Shapes: M all nodes, m of a round, S sizes, D parameters of the models of all sizes together, D_k of one.
"""

from dataclasses import dataclass
from typing import ClassVar, cast

import numpy as np
import torch
from torch import Tensor

from simulator.algorithms.base import Report, State
from simulator.algorithms.federated.local_training import HUB
from simulator.algorithms.hypernetworks.hub_round import HubRound
from simulator.algorithms.hypernetworks.hypernetwork_algorithm import tensor_sizes
from simulator.algorithms.hypernetworks.pfedhn import HUB_ROW, PFedHN
from simulator.arrays import IntArray
from simulator.network.network import Network
from simulator.problems.base import Problem
from simulator.problems.model_sizes import ModelSizes
from simulator.uploads import upload


@dataclass(frozen=True, kw_only=True)
class PFedHNSizes(PFedHN):
    """Personalized federated learning by a hypernetwork, with models of several sizes; arguments as :class:`PFedHN`."""

    keeps_models_apart: ClassVar[bool] = True

    def check_problem(self, problem: Problem) -> None:
        if not isinstance(problem, ModelSizes):
            raise ValueError(
                f"problem: algorithm={self.name} needs problem=model_sizes, and this is {type(problem).__name__}"
            )

    def target_sizes(self, problem: Problem) -> tuple[int, ...]:
        return tuple(size for one in cast(ModelSizes, problem).architectures for size in tensor_sizes(one.function))

    def round_trip(
        self, state: State, models: Tensor, nodes: IntArray, step: int, *, problem: Problem, network: Network
    ) -> tuple[IntArray, Tensor]:
        sized = cast(ModelSizes, problem)
        senders, deltas = [], []
        for size, columns in enumerate(sized.columns):
            places = np.flatnonzero(sized.size_of_node[nodes] == size)
            if not len(places):
                continue
            round_ = HubRound(nodes[places], step, network)
            slices = models[upload(places, models.device), columns] if len(models) else models[:, columns]
            arrived = round_.up(
                self.local_sgd.train(round_.down(slices), round_.local_positions, step, sized.architectures[size])
            )
            whole = arrived.new_zeros(len(arrived), sized.num_params)
            whole[:, columns] = arrived
            senders.append(round_.senders)
            deltas.append(whole)
        return np.concatenate(senders), torch.cat(deltas)

    def handed_out(self, models: Tensor, problem: Problem) -> Tensor:
        sized = cast(ModelSizes, problem)
        for size, columns in enumerate(sized.columns):
            models[torch.from_numpy(np.flatnonzero(sized.size_of_node != size)), columns] = 0
        return models

    def report(self, state: State, step: int, problem: Problem, network: Network) -> Report:
        report = super().report(state, step, problem, network)
        sized, members = cast(ModelSizes, problem), self.members(problem)
        lengths = np.array([one.num_params for one in sized.architectures])
        num_sent = int(lengths[sized.size_of_node[members[members != HUB]]].sum())
        numbers = {**report.numbers, "comm/bytes_per_evaluation": num_sent * state[HUB_ROW].element_size()}
        return Report(numbers=numbers, arrays=report.arrays, figures=report.figures)
