"""pFedHN: a hypernetwork at the hub makes the model of every node and learns from the nodes' local training.

Update equations, one step being one round, with an embedding v_i of every node, a hypernetwork h of parameters phi (see
hypernetwork.py), and m nodes drawn at random, without replacement in a round and independently of other rounds:
    theta_i = h(v_i; phi) goes to each of them;
    y_i <- K steps of SGD from theta_i with momentum from 0, gradients clipped (see local_sgd.py);
    Delta_i = theta_i - y_i goes back;
    G = (1 / m) sum_i (d theta_i / d (phi, v))^T Delta_i,   G <- G min(1, outer_clip / ||G||);
    the hub's optimizer takes a step along G (see optimizers.py).
Embeddings of nodes that were not drawn have gradient 0, but momentum and weight decay move them all the same.
Needs: graph=star, of which node 0 is the hub; problem=classification, for batches drawn as in the paper's code with
problem.sampling=uniform. Nodes without training samples, usually the hub, have no embedding and never take part; in
evaluations they use the model of the mean embedding.
Sends: D numbers down and D numbers up for every node that takes part, 8 D bytes in float32; a hub with data of its own
sends nothing to itself. Neither phi nor embeddings are sent. Models for evaluations are not counted in ``comm/bytes``.
State: ``hub/hypernetwork`` [1, P], ``hub/embeddings`` [1, n, d], ``hub/num_updates`` [1]; with spectral_norm also
``hub/spectral_vectors`` [1, R]; without reset_momentum the optimizer's slots: with sgd ``hub/hypernetwork_momentum``
[1, P], ``hub/embeddings_momentum`` [1, n, d], with adam ``hub/hypernetwork_mean`` [1, P], ``hub/embeddings_mean``
[1, n, d], ``hub/hypernetwork_mean_square`` [1, P], ``hub/embeddings_mean_square`` [1, n, d].
Source: A. Shamsian et al., "Personalized Federated Learning using Hypernetworks", ICML 2021 (arXiv 2103.04628),
algorithm 1, and its code (https://github.com/AvivSham/pFedHN).
Departures: one node per round there; with several, G is their mean. reset_momentum forgets the optimizer's state in
every round, as the baseline of Flower does (https://github.com/flwrlabs/flower/pull/2377). A node whose message is lost
counts as not drawn.

Shapes: N local nodes, M all nodes, n nodes with an embedding, m of a round, d columns of an embedding, D parameters of
a target, P of the hypernetwork.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from simulator.algorithms.base import Report, State
from simulator.algorithms.federated.local_training import HUB
from simulator.algorithms.hypernetworks.hub_round import HubRound, choose_nodes, require_star
from simulator.algorithms.hypernetworks.hypernetwork_algorithm import HypernetworkAlgorithm
from simulator.algorithms.hypernetworks.local_sgd import Private
from simulator.algorithms.hypernetworks.model_generator import init_embeddings
from simulator.algorithms.hypernetworks.trainer import EMBEDDINGS, ROW, Learner, Trainer
from simulator.algorithms.weights import Weights
from simulator.arrays import IntArray
from simulator.graphs.base import Graph
from simulator.network.network import Network
from simulator.problems.base import Problem
from simulator.uploads import upload

HUB_ROW, HUB_EMBEDDINGS, MODELS = f"hub/{ROW}", f"hub/{EMBEDDINGS}", "models"


@dataclass(frozen=True, kw_only=True)
class PFedHN(HypernetworkAlgorithm):
    """Personalized federated learning by a hypernetwork at a hub.

    Args:
        nodes_per_round: m, at most the number of nodes with training samples.
        optimizer: of the hub; it and all further arguments as in :class:`HypernetworkAlgorithm`.
    """

    weights: ClassVar[Weights] = Weights.ANY
    prefix: ClassVar[str] = "hub/"

    def check_graph(self, graph: Graph) -> None:
        require_star(self.name, graph)

    def init(self, problem: Problem, network: Network) -> State:
        members, trainer, like = self.members(problem), self.trainer(problem), problem.init_params()
        if self.nodes_per_round > len(members):
            raise ValueError(
                f"algorithm.nodes_per_round={self.nodes_per_round}: only {len(members)} nodes take part in training"
            )
        embeddings = init_embeddings(members, trainer.generator.hypernetwork.embedding_dim, self.seed)[None]
        num_hubs = int(HUB in network.nodes)
        return trainer.init(embeddings[:num_hubs].to(like), self.seed)

    def step(self, state: State, step: int, problem: Problem, network: Network) -> State:
        members, trainer = self.members(problem), self.trainer(problem)
        nodes = choose_nodes(members, self.nodes_per_round, self.seed, step)
        hub, generated, models = self.hub_learner(state, trainer), None, self.no_models(state, trainer)
        if hub is not None:
            generated = trainer.generate(hub, upload(np.searchsorted(members, nodes), network.device))
            hub.vectors.copy_(generated.vectors)
            models = generated.models
        senders, deltas = self.round_trip(state, models, nodes, step, problem=problem, network=network)
        if hub is not None and generated is not None and len(deltas):
            places = upload(np.searchsorted(nodes, senders), network.device)
            along_row, along_embeddings = trainer.generator.pull_back(generated, places, deltas / len(deltas))
            along_all = torch.zeros_like(hub.embeddings)
            along_all[upload(np.searchsorted(members, senders), network.device)] = along_embeddings
            trainer.update_(hub, along_row, along_all)
        return state

    def round_trip(
        self, state: State, models: Tensor, nodes: IntArray, step: int, *, problem: Problem, network: Network
    ) -> tuple[IntArray, Tensor]:
        """Sends models to nodes, which train them, and what that takes away from them back to the hub.

        Args:
            models: [m, D] at the hub, [0, D] elsewhere.
            nodes: who takes part, ascending, [m].

        Returns:
            The nodes that the hub hears, and their differences in the same order; no differences elsewhere.
        """
        round_ = HubRound(nodes, step, network)
        deltas = self.local_sgd.train(
            round_.down(models), round_.local_positions, step, problem, self.private_part(state)
        )
        return round_.senders, round_.up(deltas)

    def private_part(self, state: State) -> Private | None:
        """What the local nodes train beside the generated models and keep for themselves; by default nothing."""
        return None

    def prepare_evaluation(self, state: State, problem: Problem, network: Network) -> State:
        members, trainer = self.members(problem), self.trainer(problem)
        hub = self.hub_learner(state, trainer)
        if hub is None:
            return {**state, MODELS: network.scatter(self.no_models(state, trainer))}
        embeddings = hub.embeddings.mean(dim=0).repeat(network.num_nodes, 1)
        embeddings[torch.from_numpy(members)] = hub.embeddings
        models = trainer.generate(replace(hub, embeddings=embeddings)).models
        return {**state, MODELS: network.scatter(self.handed_out(models, problem))}

    def handed_out(self, models: Tensor, problem: Problem) -> Tensor:
        """What of the models [M, D] of all nodes is sent to them for an evaluation, [M, D]; may overwrite them."""
        return models

    def estimate(self, state: State) -> Tensor:
        """Parameters [N, D]; of a state that :meth:`prepare_evaluation` has returned."""
        return state[MODELS]

    def report(self, state: State, step: int, problem: Problem, network: Network) -> Report:
        hypernetwork = self.generator(problem).hypernetwork
        num_remote = int((self.members(problem) != HUB).sum())
        bytes_per_evaluation = num_remote * hypernetwork.num_outputs * state[HUB_ROW].element_size()
        numbers = {**self.sizes(problem), "comm/bytes_per_evaluation": bytes_per_evaluation}
        if HUB not in network.nodes:
            return Report(numbers=numbers)
        return self.embedding_report(numbers, state[HUB_EMBEDDINGS][0], problem)

    def hub_learner(self, state: State, trainer: Trainer) -> Learner | None:
        """The hub's hypernetwork and embeddings; None on processes without the hub."""
        return trainer.learner(state, 0) if len(state[HUB_ROW]) else None

    def no_models(self, state: State, trainer: Trainer) -> Tensor:
        """The models that a process without the hub sends, [0, D]."""
        return state[HUB_ROW].new_zeros(0, trainer.generator.hypernetwork.num_outputs)
