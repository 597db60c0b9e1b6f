"""pFedHN: a hypernetwork at the hub makes the model of every node and learns from the nodes' local training.

Update equations, one step being one round, with an embedding v_i of every node, a hypernetwork h of parameters phi (see
hypernetwork.py), and m nodes drawn at random, without replacement in a round and independently of other rounds:
    theta_i = h(v_i; phi) goes to each of them;
    y_i <- K steps of SGD from theta_i with momentum from 0, gradients clipped (see clipped_sgd.py);
    Delta_i = theta_i - y_i goes back;
    G = (1 / m) sum_i (d theta_i / d (phi, v))^T Delta_i,   G <- G min(1, outer_clip / ||G||);
    the hub's optimizer takes a step along G (see hub_optimizers.py).
Embeddings of nodes that were not drawn have gradient 0, but momentum and weight decay move them all the same.
Needs: graph=star, of which node 0 is the hub; problem=classification, for batches drawn as in the paper's code with
problem.sampling=uniform. Nodes without training samples, usually the hub, have no embedding and never take part; in
evaluations they use the model of the mean embedding.
Sends: D numbers down and D numbers up for every node that takes part, 8 D bytes in float32; a hub with data of its own
sends nothing to itself. Neither phi nor embeddings are sent. Models for evaluations are not counted in ``comm/bytes``.
Source: A. Shamsian et al., "Personalized Federated Learning using Hypernetworks", ICML 2021 (arXiv 2103.04628),
algorithm 1, and its code (https://github.com/AvivSham/pFedHN).
Departures: one node per round there; with several, G is their mean. reset_momentum forgets the optimizer's state in
every round, as the baseline of Flower does (https://github.com/flwrlabs/flower/pull/2377). A node whose message is lost
counts as not drawn.

Shapes: N local nodes, M all nodes, n nodes with an embedding, m of a round, d columns of an embedding, D parameters of
a target, P of the hypernetwork.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from simulator.algorithms.base import Algorithm, Report, State, require_positive
from simulator.algorithms.federated.local_training import HUB
from simulator.algorithms.hypernetworks.clipped_sgd import train_clipped_
from simulator.algorithms.hypernetworks.hub_optimizers import OPTIMIZERS
from simulator.algorithms.hypernetworks.hub_round import HubRound, choose_nodes, require_star
from simulator.algorithms.hypernetworks.hypernetwork import Hypernetwork
from simulator.algorithms.hypernetworks.model_generator import Generated, ModelGenerator, init_embeddings
from simulator.algorithms.hypernetworks.spectral_normalization import SpectralNormalization
from simulator.algorithms.weights import Weights
from simulator.figures.embeddings import node_embeddings
from simulator.graphs.base import Graph
from simulator.network.network import Network
from simulator.problems.base import Problem
from simulator.problems.classification import Classification
from simulator.rows import ModelFunction

IntArray = npt.NDArray[np.int64]

ROW, EMBEDDINGS, VECTORS, MODELS = "hub/hypernetwork", "hub/embeddings", "hub/spectral_vectors", "models"
NUM_UPDATES = "hub/num_updates"


@dataclass(frozen=True, kw_only=True)
class PFedHN(Algorithm):
    """Personalized federated learning by a hypernetwork.

    Args:
        nodes_per_round: m, at most the number of nodes with training samples.
        inner_steps: K; inner_lr, inner_momentum, inner_weight_decay, inner_clip: of the nodes' SGD.
        optimizer: of the hub, ``sgd`` or ``adam``.
        outer_lr: its learning rate; embedding_lr: of embeddings under SGD, None for the same.
        outer_momentum, outer_weight_decay: of SGD; outer_clip: largest norm of G.
        reset_momentum: the optimizer starts anew in every round.
        embedding_dim: d; None for 1 + n / 4, rounded down.
        hidden_width: H; num_hidden: hidden layers of the hypernetwork after the first.
        spectral_norm: whether its weights are spectrally normalised.
        seed: of the nodes drawn and of the start.
    """

    weights: ClassVar[Weights] = Weights.ANY

    nodes_per_round: int
    inner_steps: int
    inner_lr: float
    inner_momentum: float
    inner_weight_decay: float
    inner_clip: float
    optimizer: str
    outer_lr: float
    embedding_lr: float | None
    outer_momentum: float
    outer_weight_decay: float
    outer_clip: float
    reset_momentum: bool
    embedding_dim: int | None
    hidden_width: int
    num_hidden: int
    spectral_norm: bool
    seed: int

    personalizes: ClassVar[bool] = True
    selection: ClassVar[str] = "valid/accuracy_weighted"
    name: ClassVar[str] = "pfedhn"

    def __post_init__(self) -> None:
        for name in ("nodes_per_round", "inner_steps", "inner_lr", "inner_clip", "outer_lr", "outer_clip"):
            require_positive(f"algorithm.{name}", getattr(self, name))
        for name in ("embedding_lr", "embedding_dim"):
            if getattr(self, name) is not None:
                require_positive(f"algorithm.{name}", getattr(self, name))
        require_positive("algorithm.hidden_width", self.hidden_width)
        for name in ("inner_momentum", "outer_momentum"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"algorithm.{name}={getattr(self, name)}: expected a number in [0, 1)")
        for name in ("inner_weight_decay", "outer_weight_decay", "num_hidden"):
            if getattr(self, name) < 0:
                raise ValueError(f"algorithm.{name}={getattr(self, name)}: expected at least 0")
        if self.optimizer not in OPTIMIZERS:
            raise ValueError(f"algorithm.optimizer={self.optimizer!r}: expected {' or '.join(OPTIMIZERS)}")
        if self.embedding_lr is not None and not OPTIMIZERS[self.optimizer].uses_groups:
            raise ValueError(
                f"algorithm.embedding_lr={self.embedding_lr}: algorithm.optimizer={self.optimizer} has one learning "
                "rate; use null"
            )

    def check_graph(self, graph: Graph) -> None:
        require_star(self.name, graph)

    def check_problem(self, problem: Problem) -> None:
        if type(problem) is not Classification:
            raise ValueError(
                f"algorithm={self.name} needs problem=classification, and this is {type(problem).__name__}"
            )

    def members(self, problem: Problem) -> IntArray:
        """The nodes with an embedding, ascending, [n]."""
        counts = problem.sample_counts()
        assert counts is not None
        return np.flatnonzero(counts)

    def target_sizes(self, problem: Problem) -> tuple[int, ...]:
        """Numbers in each tensor that is generated, one after the other in a row of parameters; D is their sum."""
        return tensor_sizes(cast(Classification, problem).function)

    def generator(self, problem: Problem) -> ModelGenerator:
        """The hypernetwork that fits the problem."""
        dim = self.embedding_dim or 1 + len(self.members(problem)) // 4
        sizes = self.target_sizes(problem)
        hypernetwork = Hypernetwork(dim, self.hidden_width, self.num_hidden, sum(sizes))
        return ModelGenerator(hypernetwork, SpectralNormalization(hypernetwork, sizes) if self.spectral_norm else None)

    def init(self, problem: Problem, network: Network) -> State:
        members, generator = self.members(problem), self.generator(problem)
        if self.nodes_per_round > len(members):
            raise ValueError(
                f"algorithm.nodes_per_round={self.nodes_per_round}: only {len(members)} nodes take part in training"
            )
        hypernetwork, like = generator.hypernetwork, problem.init_params()
        if HUB in network.nodes:
            embeddings = init_embeddings(members, hypernetwork.embedding_dim, self.seed)[None]
            row, vectors = hypernetwork.init_row(self.seed)[None], generator.init_vectors(self.seed)[None]
        else:
            embeddings = torch.zeros(0, len(members), hypernetwork.embedding_dim)
            row, vectors = torch.zeros(0, hypernetwork.num_params), generator.init_vectors(self.seed)[None][:0]
        state = {ROW: row.to(like), EMBEDDINGS: embeddings.to(like), NUM_UPDATES: like.new_zeros(len(row))}
        if self.spectral_norm:
            state[VECTORS] = vectors.to(like)
        if not self.reset_momentum:
            slots = OPTIMIZERS[self.optimizer].slots
            state |= {f"{name}_{slot}": torch.zeros_like(state[name]) for name in (ROW, EMBEDDINGS) for slot in slots}
        return state

    def step(self, state: State, step: int, problem: Problem, network: Network) -> State:
        members, generator = self.members(problem), self.generator(problem)
        nodes = choose_nodes(members, self.nodes_per_round, self.seed, step)
        generated = self._generate(state, np.searchsorted(members, nodes), generator)
        if generated is not None and self.spectral_norm:
            state = {**state, VECTORS: generated.vectors[None]}
        models = self._no_models(state, generator) if generated is None else generated.models
        senders, deltas = self.round_trip(state, models, nodes, step, problem, network)
        if generated is not None and len(deltas):
            places = torch.from_numpy(np.searchsorted(nodes, senders))
            along_row, along_embeddings = generator.pull_back(generated, places, deltas / len(deltas))
            along_all = torch.zeros_like(state[EMBEDDINGS][0])
            along_all[torch.from_numpy(np.searchsorted(members, senders))] = along_embeddings
            self._update_(state, along_row, along_all)
        return state

    def round_trip(
        self, state: State, models: Tensor, nodes: IntArray, step: int, problem: Problem, network: Network
    ) -> tuple[IntArray, Tensor]:
        """Sends models to nodes, which train them, and what that takes away from them back to the hub.

        Args:
            models: [m, D] at the hub, [0, D] elsewhere.
            nodes: who takes part, ascending, [m].

        Returns:
            The nodes that the hub hears, and their differences in the same order; none of them elsewhere.
        """
        round_ = HubRound(nodes, step, network)
        deltas = self.train(state, round_.down(models), round_.local_nodes, step, problem, network)
        return round_.senders, round_.up(deltas)

    def train(
        self, state: State, models: Tensor, nodes: IntArray, step: int, problem: Problem, network: Network
    ) -> Tensor:
        """Trains ``models`` [n, D] at the local ``nodes`` [n]; returns what that takes away from them, [n, D]."""
        if not len(nodes):
            return models
        positions = nodes - network.nodes.start
        some = problem.part(positions)
        hparams = some.init_hparams()
        params, velocity = self.starting_point(state, models, positions)
        train_clipped_(
            params,
            velocity,
            lambda out, rows, batch_step: some.add_grad_(out, rows, hparams, batch_step, 1.0),
            range(step * self.inner_steps, (step + 1) * self.inner_steps),
            lr=self.inner_lr,
            momentum=self.inner_momentum,
            weight_decay=self.inner_weight_decay,
            clip=self.inner_clip,
            num_clipped=models.shape[1],
        )
        self.keep_(state, params, velocity, positions)
        return models - params[:, : models.shape[1]]

    def starting_point(self, state: State, models: Tensor, positions: IntArray) -> tuple[Tensor, Tensor]:
        """Parameters and velocities of local nodes that have got ``models`` [n, D], all columns of a row."""
        return models.clone(), torch.zeros_like(models)

    def keep_(self, state: State, params: Tensor, velocity: Tensor, positions: IntArray) -> None:
        """What trained nodes keep for themselves, in place; by default nothing."""

    def prepare_evaluation(self, state: State, problem: Problem, network: Network) -> State:
        members, generator = self.members(problem), self.generator(problem)
        if HUB not in network.nodes:
            return {**state, MODELS: network.scatter(self._no_models(state, generator))}
        embeddings = state[EMBEDDINGS][0]
        everybody = embeddings.mean(dim=0).repeat(network.num_nodes, 1)
        everybody[torch.from_numpy(members)] = embeddings
        models = generator.generate(state[ROW][0], self._vectors(state), everybody).models
        return {**state, MODELS: network.scatter(self.handed_out(models, problem))}

    def handed_out(self, models: Tensor, problem: Problem) -> Tensor:
        """What of the models [M, D] of all nodes goes to them to be evaluated, [M, D]; may overwrite them."""
        return models

    def estimate(self, state: State) -> Tensor:
        """Parameters [N, D]; of a state that :meth:`prepare_evaluation` has returned."""
        return state[MODELS]

    def report(self, state: State, step: int, problem: Problem, network: Network) -> Report:
        members, hypernetwork = self.members(problem), self.generator(problem).hypernetwork
        num_told = int((members != HUB).sum())
        numbers: Mapping[str, Any] = {
            "hypernetwork/num_params": hypernetwork.num_params + len(members) * hypernetwork.embedding_dim,
            "target/num_params": hypernetwork.num_outputs,
            "comm/bytes_per_evaluation": num_told * hypernetwork.num_outputs * state[ROW].element_size(),
        }
        if HUB not in network.nodes:
            return Report(numbers=numbers)
        embeddings, label_counts = state[EMBEDDINGS][0].double().cpu().numpy(), problem.facts().label_counts
        assert label_counts is not None
        return Report(
            numbers=numbers,
            arrays={"embeddings": embeddings, "embedded_nodes": members},
            figures={"embeddings": partial(node_embeddings, embeddings, label_counts[members])},
        )

    def _generate(self, state: State, places: IntArray, generator: ModelGenerator) -> Generated | None:
        """Models for the embeddings at ``places``; None on processes without the hub."""
        if not len(state[ROW]):
            return None
        embeddings = state[EMBEDDINGS][0][torch.from_numpy(places)]
        return generator.generate(state[ROW][0], self._vectors(state), embeddings)

    def _no_models(self, state: State, generator: ModelGenerator) -> Tensor:
        return state[ROW].new_zeros(0, generator.hypernetwork.num_outputs)

    def _vectors(self, state: State) -> Tensor:
        return state[VECTORS][0] if self.spectral_norm else state[ROW].new_zeros(0)

    def _update_(self, state: State, along_row: Tensor, along_embeddings: Tensor) -> None:
        """Takes the hub's step along the gradient [P] and [n, d], in place."""
        state[NUM_UPDATES] += 1
        count = 1 if self.reset_momentum else int(state[NUM_UPDATES][0])
        norm = torch.hypot(along_row.norm(), along_embeddings.norm())
        scale = (self.outer_clip / norm).clamp_max(1.0)
        optimizer = OPTIMIZERS[self.optimizer](momentum=self.outer_momentum, weight_decay=self.outer_weight_decay)
        embedding_lr = self.outer_lr if self.embedding_lr is None else self.embedding_lr
        for name, along, lr in ((ROW, along_row, self.outer_lr), (EMBEDDINGS, along_embeddings, embedding_lr)):
            if self.reset_momentum:
                slots = {slot: torch.zeros_like(along) for slot in optimizer.slots}
            else:
                slots = {slot: state[f"{name}_{slot}"][0] for slot in optimizer.slots}
            optimizer.update_(state[name][0], along.mul_(scale), slots, lr, count)


def tensor_sizes(function: ModelFunction) -> tuple[int, ...]:
    """Numbers in each parameter tensor of a model."""
    return tuple(math.prod(shape) for shape in function.layout.shapes)
