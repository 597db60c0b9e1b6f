"""pFedHN without a hub: every node has a copy of the hypernetwork, and the copies are gossiped.

Update equations, one step being one round, with phi_i node i's hypernetwork h, v_i its embedding and phi_i = x_i / w_i
under push-sum (w_i = 1 elsewhere); at each of m nodes drawn at random, independently of other rounds,
    theta_i = h(v_i; phi_i),   y_i <- K steps of SGD from theta_i as in pfedhn.py,   Delta_i = theta_i - y_i,
    G_i = (d theta_i / d (phi_i, v_i))^T Delta_i,   G_i <- G_i min(1, outer_clip / ||G_i||),
    the node's own optimizer takes a step along G_i: v_i <- v_i + dv_i, x_i <- x_i + dphi_i (see optimizers.py);
then, at all nodes, x <- W_t x, and under push-sum w <- W_t w.
The state of the optimizers stays where it is; at nodes that were not drawn it waits, and so do their embeddings.
Needs: doubly stochastic W (gossip as in D-SGD), or column-stochastic W (push-sum); problem=classification. Nodes
without training samples only pass the hypernetwork on.
Sends: P numbers per edge and step, P + 1 under push-sum. Embeddings, models and their changes stay at their node.
State: ``hypernetwork`` [N, P], ``embeddings`` [N, 1, d], ``num_updates`` [N]; under push-sum also ``push_sum_weight``
[N]; with spectral_norm also ``spectral_vectors`` [N, R]; without reset_momentum the optimizer's slots: with sgd
``hypernetwork_momentum`` [N, P], ``embeddings_momentum`` [N, 1, d], with adam ``hypernetwork_mean`` [N, P],
``embeddings_mean`` [N, 1, d], ``hypernetwork_mean_square`` [N, P], ``embeddings_mean_square`` [N, 1, d].
Source: A. Shamsian et al., "Personalized Federated Learning using Hypernetworks", ICML 2021 (arXiv 2103.04628), for
a node's step; Lian et al., NeurIPS 2017 (arXiv 1705.09056) and Assran et al., ICML 2019 (arXiv 1811.10792) for the
gossip. The combination is this project's.
Departures: on a complete graph with all nodes drawn, phi moves as in pFedHN with all nodes in a round while nothing is
clipped; G is clipped by node here. An embedding's step is not divided by the number of nodes in a round. Embeddings
of nodes that were not drawn do not drift. With spectral normalisation every node has vectors of its own.

Shapes: N local nodes, n of them drawn, d columns of an embedding, D parameters of a target, P of the hypernetwork.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from simulator.algorithms.base import Report, State, consensus_distance
from simulator.algorithms.hypernetworks.hub_round import choose_nodes
from simulator.algorithms.hypernetworks.hypernetwork_algorithm import HypernetworkAlgorithm
from simulator.algorithms.hypernetworks.model_generator import Generated, init_embeddings
from simulator.algorithms.hypernetworks.trainer import EMBEDDINGS, ROW, Learner, Trainer
from simulator.algorithms.weights import Weights
from simulator.network.network import Network
from simulator.problems.base import Problem

WEIGHT, MODELS = "push_sum_weight", "models"


@dataclass(frozen=True, kw_only=True)
class PFedHNGossip(HypernetworkAlgorithm):
    """Personalized federated learning by gossiped hypernetworks.

    Args:
        nodes_per_round: m; all nodes with training samples where they are fewer.
        optimizer: of every node; it and all further arguments as in :class:`HypernetworkAlgorithm`.
    """

    weights: ClassVar[Weights] = Weights.COLUMN_STOCHASTIC

    def init(self, problem: Problem, network: Network) -> State:
        trainer, like, nodes = self.trainer(problem), problem.init_params(), np.array(network.nodes)
        embeddings = init_embeddings(nodes, trainer.generator.hypernetwork.embedding_dim, self.seed)
        state = trainer.init(embeddings.to(like)[:, None], self.seed)
        if network.graph.stochasticity == "column":
            state[WEIGHT] = like.new_ones(len(nodes))
        return state

    def step(self, state: State, step: int, problem: Problem, network: Network) -> State:
        state, trainer, members = dict(state), self.trainer(problem), self.members(problem)
        drawn = choose_nodes(members, min(self.nodes_per_round, len(members)), self.seed, step)
        positions = drawn[(drawn >= network.nodes.start) & (drawn < network.nodes.stop)] - network.nodes.start
        if len(positions):
            generated = [trainer.generate(self._learner(state, trainer, position)) for position in positions]
            models = torch.cat([made.models for made in generated])
            deltas = self.local_sgd.train(models, positions, step, problem)
            for position, made, delta in zip(positions, generated, deltas, strict=True):
                self._update_(state, trainer, position, made, delta)
        self.combine_(state, step, network)
        return state

    def combine_(self, state: State, step: int, network: Network) -> None:
        """One round of gossip of the hypernetworks; puts the mixed rows into ``state``."""
        names = [ROW, *([WEIGHT] if WEIGHT in state else [])]
        state |= zip(names, network.mix([state[name] for name in names], step), strict=True)

    def prepare_evaluation(self, state: State, problem: Problem, network: Network) -> State:
        trainer = self.trainer(problem)
        generated = [trainer.generate(self._learner(state, trainer, i)) for i in range(len(network.nodes))]
        return {**state, MODELS: torch.cat([made.models for made in generated])}

    def estimate(self, state: State) -> Tensor:
        """Parameters [N, D]; of a state that :meth:`prepare_evaluation` has returned."""
        return state[MODELS]

    def diagnose(
        self, state: State, step: int, problem: Problem, network: Network, *, is_last: bool
    ) -> Mapping[str, float | Tensor]:
        rows = state[ROW] / state[WEIGHT][:, None] if WEIGHT in state else state[ROW]
        return {"hypernetwork/consensus_distance": consensus_distance(rows, network)}

    def report(self, state: State, step: int, problem: Problem, network: Network) -> Report:
        embeddings = network.gather(state[EMBEDDINGS][:, 0].double())[torch.from_numpy(self.members(problem))]
        return self.embedding_report(self.sizes(problem), embeddings, problem)

    def _learner(self, state: State, trainer: Trainer, position: int) -> Learner:
        """Hypernetwork and embedding of a local node; under push-sum its ``row`` is a copy, phi = x / w."""
        learner = trainer.learner(state, position)
        return replace(learner, row=learner.row / state[WEIGHT][position]) if WEIGHT in state else learner

    def _update_(self, state: State, trainer: Trainer, position: int, made: Generated, delta: Tensor) -> None:
        """Takes the step of a local node along what training has taken away from its model, ``delta`` [D], in place."""
        first = torch.zeros(1, dtype=torch.int64, device=delta.device)
        along_row, along_embedding = trainer.generator.pull_back(made, first, delta[None])
        learner = self._learner(state, trainer, position)
        before = learner.row.clone() if WEIGHT in state else None
        trainer.update_(learner, along_row, along_embedding)
        learner.vectors.copy_(made.vectors)
        if before is not None:
            state[ROW][position] += learner.row - before
