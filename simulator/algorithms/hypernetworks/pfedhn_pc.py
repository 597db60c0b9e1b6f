"""pFedHN-PC: pFedHN where every node has its own last layer.

Update equations: as pFedHN (see pfedhn.py), where the hypernetwork makes all layers of the model but the last, which is
linear and node i's own, omega_i. The K steps of SGD train both at once; the gradient by omega_i is neither clipped nor
part of the norm by which the other is clipped, and omega_i and its momentum stay until the node takes part again.
Needs: as pFedHN, and a model that is an ``nn.Sequential`` ending with a linear layer.
State: ``private_heads`` [N, C] for omega_i, ``private_momentum`` [N, C], ``hub/hypernetwork`` [1, P],
``hub/embeddings`` [1, n, d], ``hub/num_updates`` [1]; with spectral_norm also ``hub/spectral_vectors`` [1, R]; without
reset_momentum the optimizer's slots: with sgd ``hub/hypernetwork_momentum`` [1, P], ``hub/embeddings_momentum``
[1, n, d], with adam ``hub/hypernetwork_mean`` [1, P], ``hub/embeddings_mean`` [1, n, d],
``hub/hypernetwork_mean_square`` [1, P], ``hub/embeddings_mean_square`` [1, n, d].
Sends: as pFedHN, with D the parameters of all layers but the last; omega_i never leaves its node.
Source: A. Shamsian et al., "Personalized Federated Learning using Hypernetworks", ICML 2021 (arXiv 2103.04628), section
on personal classifiers, and its code (https://github.com/AvivSham/pFedHN).
Departures: as pFedHN; a node whose answer is lost on the way keeps what its omega_i has learned.

Shapes: N local nodes, n of them that train, D generated and C private parameters of a node.
"""

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from simulator import randomness
from simulator.algorithms.base import Report, State
from simulator.algorithms.hypernetworks.hypernetwork_algorithm import tensor_sizes
from simulator.algorithms.hypernetworks.local_sgd import Private
from simulator.algorithms.hypernetworks.pfedhn import PFedHN
from simulator.network.network import Network
from simulator.problems.base import Problem
from simulator.problems.classification import Classification
from simulator.rows import ModelFunction

HEADS, HEAD_MOMENTUM = "private_heads", "private_momentum"


@dataclass(frozen=True, kw_only=True)
class PFedHNPC(PFedHN):
    """Personalized federated learning by a hypernetwork, with personal classifiers; arguments as :class:`PFedHN`."""

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

    def private_part(self, state: State) -> Private:
        return Private(state[HEADS], state[HEAD_MOMENTUM])

    def estimate(self, state: State) -> Tensor:
        return torch.cat([super().estimate(state), state[HEADS]], dim=1)

    def report(self, state: State, step: int, problem: Problem, network: Network) -> Report:
        report = super().report(state, step, problem, network)
        numbers = {**report.numbers, "private/num_params": state[HEADS].shape[1]}
        return Report(numbers=numbers, arrays=report.arrays, figures=report.figures)


def _split(problem: Problem) -> tuple[ModelFunction, ModelFunction]:
    return cast(Classification, problem).function.split_head()
