"""pFedHN without a hub: every node has a copy of the hypernetwork, and the copies are gossiped.

Update equations, one step being one round, with phi_i node i's hypernetwork h, v_i its embedding and phi_i = x_i / w_i
under push-sum (w_i = 1 elsewhere); at each of m nodes drawn at random, independently of other rounds,
    theta_i = h(v_i; phi_i),   y_i <- K steps of SGD from theta_i as in pfedhn.py,   Delta_i = theta_i - y_i,
    G_i = (d theta_i / d (phi_i, v_i))^T Delta_i,   G_i <- G_i min(1, outer_clip / ||G_i||),
    the node's own optimizer takes a step along G_i: v_i <- v_i + dv_i, x_i <- x_i + dphi_i (see hub_optimizers.py);
then, at all nodes, x <- W_t x, and under push-sum w <- W_t w.
The state of the optimizers stays where it is; at nodes that were not drawn it waits, and so do their embeddings.
Needs: doubly stochastic W (gossip as in D-SGD), or column-stochastic W (push-sum); problem=classification. Nodes
without training samples only pass the hypernetwork on.
Sends: P numbers per edge and step, P + 1 under push-sum. Embeddings, models and their changes stay at their node.
Source: A. Shamsian et al., "Personalized Federated Learning using Hypernetworks", ICML 2021 (arXiv 2103.04628), for
what a node does; Lian et al., NeurIPS 2017 (arXiv 1705.09056) and Assran et al., ICML 2019 (arXiv 1811.10792) for the
gossip of what it does it to. The combination is this project's.
Departures: on a complete graph with all nodes drawn, phi moves as in pFedHN with all nodes in a round while nothing is
clipped; G is clipped by node here. An embedding's step is not divided by the number of nodes in a round. Embeddings
of nodes that were not drawn do not drift. With spectral normalisation every node has vectors of its own.

Shapes: N local nodes, n of them drawn, d columns of an embedding, D parameters of a target, P of the hypernetwork.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from simulator.algorithms.base import Report, State, consensus_distance, require_stochasticity
from simulator.algorithms.hypernetworks.hub_optimizers import OPTIMIZERS
from simulator.algorithms.hypernetworks.hub_round import choose_nodes
from simulator.algorithms.hypernetworks.model_generator import Generated, ModelGenerator, init_embeddings
from simulator.algorithms.hypernetworks.pfedhn import EMBEDDINGS, MODELS, NUM_UPDATES, ROW, VECTORS, PFedHN
from simulator.algorithms.weights import Weights
from simulator.figures.embeddings import node_embeddings
from simulator.graphs.base import Graph
from simulator.network.network import Network
from simulator.problems.base import Problem

# A node is a hub with itself as its only node: what a hub has under ``hub/name``, every node has under ``name``.
_HUB = "hub/"
OWN_ROW, OWN_EMBEDDING, OWN_VECTORS = (name.removeprefix(_HUB) for name in (ROW, EMBEDDINGS, VECTORS))
UPDATES, WEIGHT = NUM_UPDATES.removeprefix(_HUB), "push_sum_weight"


@dataclass(frozen=True, kw_only=True)
class PFedHNGossip(PFedHN):
    """Personalized federated learning by gossiped hypernetworks.

    Args:
        nodes_per_round: m; all nodes with training samples where they are fewer.
        optimizer: of every node, and so are the settings that go with it; further arguments as :class:`PFedHN`.
    """

    weights: ClassVar[Weights] = Weights.COLUMN_STOCHASTIC
    name: ClassVar[str] = "pfedhn_gossip"

    def check_graph(self, graph: Graph) -> None:
        require_stochasticity(self.name, graph, ("column", "double"), "use a graph with out-degree weights")

    def init(self, problem: Problem, network: Network) -> State:
        generator, like = self.generator(problem), problem.init_params()
        num_local, nodes = len(network.nodes), np.array(network.nodes)
        state = {
            OWN_ROW: generator.hypernetwork.init_row(self.seed).to(like).repeat(num_local, 1),
            OWN_EMBEDDING: init_embeddings(nodes, generator.hypernetwork.embedding_dim, self.seed).to(like)[:, None],
            UPDATES: like.new_zeros(num_local),
        }
        if self.spectral_norm:
            state[OWN_VECTORS] = generator.init_vectors(self.seed).to(like).repeat(num_local, 1)
        if not self.reset_momentum:
            slots = OPTIMIZERS[self.optimizer].slots
            for name in (OWN_ROW, OWN_EMBEDDING):
                state |= {f"{name}_{slot}": torch.zeros_like(state[name]) for slot in slots}
        if network.graph.stochasticity == "column":
            state[WEIGHT] = like.new_ones(num_local)
        return state

    def step(self, state: State, step: int, problem: Problem, network: Network) -> State:
        state, generator, members = dict(state), self.generator(problem), self.members(problem)
        drawn = choose_nodes(members, min(self.nodes_per_round, len(members)), self.seed, step)
        nodes = drawn[(drawn >= network.nodes.start) & (drawn < network.nodes.stop)]
        positions = (nodes - network.nodes.start).tolist()
        generated = [self._generate_at(state, position, generator) for position in positions]
        if generated:
            models = torch.cat([made.models for made in generated])
            deltas = self.train(state, models, nodes, step, problem, network)
            for position, made, delta in zip(positions, generated, deltas, strict=True):
                self._update_at_(state, position, generator, made, delta)
        self.combine_(state, step, network)
        return state

    def combine_(self, state: State, step: int, network: Network) -> None:
        """Gossips the hypernetworks: puts what comes of it into ``state``."""
        names = [OWN_ROW, *([WEIGHT] if WEIGHT in state else [])]
        state |= zip(names, network.mix([state[name] for name in names], step), strict=True)

    def prepare_evaluation(self, state: State, problem: Problem, network: Network) -> State:
        generator = self.generator(problem)
        generated = [self._generate_at(state, position, generator) for position in range(len(network.nodes))]
        return {**state, MODELS: torch.cat([made.models for made in generated])}

    def diagnose(
        self, state: State, step: int, problem: Problem, network: Network, *, is_last: bool
    ) -> Mapping[str, float | Tensor]:
        rows = state[OWN_ROW] / state[WEIGHT][:, None] if WEIGHT in state else state[OWN_ROW]
        return {"hypernetwork/consensus_distance": consensus_distance(rows, network)}

    def report(self, state: State, step: int, problem: Problem, network: Network) -> Report:
        members, hypernetwork = self.members(problem), self.generator(problem).hypernetwork
        embeddings = network.gather(state[OWN_EMBEDDING][:, 0].double()).cpu().numpy()[members]
        label_counts = problem.facts().label_counts
        assert label_counts is not None
        return Report(
            numbers={
                "hypernetwork/num_params": hypernetwork.num_params + len(members) * hypernetwork.embedding_dim,
                "target/num_params": hypernetwork.num_outputs,
            },
            arrays={"embeddings": embeddings, "embedded_nodes": members},
            figures={"embeddings": partial(node_embeddings, embeddings, label_counts[members])},
        )

    def _as_hub(self, state: State, position: int) -> State:
        """The part of a local node under a hub's names, as views; under push-sum the hypernetwork is a copy."""
        own = {_HUB + name: rows[position : position + 1] for name, rows in state.items()}
        if WEIGHT in state:
            own[ROW] = own[ROW] / state[WEIGHT][position]
        return own

    def _generate_at(self, state: State, position: int, generator: ModelGenerator) -> Generated:
        """The model of a local node, [1, D]."""
        generated = self._generate(self._as_hub(state, position), np.zeros(1, dtype=np.int64), generator)
        assert generated is not None
        return generated

    def _update_at_(
        self, state: State, position: int, generator: ModelGenerator, made: Generated, delta: Tensor
    ) -> None:
        """Takes the step of a local node along what training has made of its model, ``delta`` [D], in place."""
        along_row, along_embedding = generator.pull_back(made, torch.zeros(1, dtype=torch.int64), delta[None])
        own = self._as_hub(state, position)
        before = own[ROW].clone() if WEIGHT in state else None
        self._update_(own, along_row, along_embedding)
        if before is not None:
            state[OWN_ROW][position] += (own[ROW] - before)[0]
        if self.spectral_norm:
            state[OWN_VECTORS][position] = made.vectors
