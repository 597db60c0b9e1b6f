"""pFedHN-PC: pFedHN where every node has its own last layer.

Update equations: as pFedHN (see pfedhn.py), where the hypernetwork makes all layers of the model but the last, which is
linear and node i's own, omega_i. The K steps of SGD train both at once; the gradient by omega_i is neither clipped nor
part of the norm by which the other is clipped, and omega_i and its momentum stay until the node takes part again.
Needs: as pFedHN, and a model that is an ``nn.Sequential`` ending with a linear layer.
Sends: as pFedHN, with D the parameters of all layers but the last; omega_i never leaves its node.
Source: A. Shamsian et al., "Personalized Federated Learning using Hypernetworks", ICML 2021 (arXiv 2103.04628), section
on personal classifiers, and its code (https://github.com/AvivSham/pFedHN).
Departures: as pFedHN; a node whose answer is lost on the way keeps what its omega_i has learned.

Shapes: N local nodes, n of them that train, D generated and C private parameters of a node.
"""

from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from simulator import randomness
from simulator.algorithms.base import Report, State
from simulator.algorithms.hypernetworks.pfedhn import IntArray, PFedHN, tensor_sizes
from simulator.network.network import Network
from simulator.problems.base import Problem
from simulator.problems.classification import Classification
from simulator.rows import ModelFunction

HEADS, HEAD_MOMENTUM = "private_heads", "private_momentum"


@dataclass(frozen=True, kw_only=True)
class PFedHNPC(PFedHN):
    """Personalized federated learning by a hypernetwork, with personal classifiers; arguments as :class:`PFedHN`."""

    name: ClassVar[str] = "pfedhn_pc"

    def target_sizes(self, problem: Problem) -> tuple[int, ...]:
        features, _ = _split(problem)
        return tensor_sizes(features)

    def init(self, problem: Problem, network: Network) -> State:
        state = super().init(problem, network)
        _, head = _split(problem)
        num_classes, num_features = head.layout.shapes[0]
        rows = []
        for node in network.nodes:
            with randomness.torch_seed(self.seed, "private_head", node=node):
                layer = nn.Linear(num_features, num_classes, bias=len(head.layout.shapes) > 1)
            rows.append(head.layout.flatten(layer))
        heads = torch.stack(rows).to(problem.init_params())
        return {**state, HEADS: heads, HEAD_MOMENTUM: torch.zeros_like(heads)}

    def starting_point(self, state: State, models: Tensor, positions: IntArray) -> tuple[Tensor, Tensor]:
        places = torch.from_numpy(positions)
        params = torch.cat([models, state[HEADS][places]], dim=1)
        return params, torch.cat([torch.zeros_like(models), state[HEAD_MOMENTUM][places]], dim=1)

    def keep_(self, state: State, params: Tensor, velocity: Tensor, positions: IntArray) -> None:
        places, num_private = torch.from_numpy(positions), state[HEADS].shape[1]
        state[HEADS][places] = params[:, -num_private:]
        state[HEAD_MOMENTUM][places] = velocity[:, -num_private:]

    def estimate(self, state: State) -> Tensor:
        return torch.cat([super().estimate(state), state[HEADS]], dim=1)

    def report(self, state: State, step: int, problem: Problem, network: Network) -> Report:
        report = super().report(state, step, problem, network)
        numbers = {**report.numbers, "private/num_params": state[HEADS].shape[1]}
        return Report(numbers=numbers, arrays=report.arrays, figures=report.figures)


def _split(problem: Problem) -> tuple[ModelFunction, ModelFunction]:
    return cast(Classification, problem).function.split_head()
