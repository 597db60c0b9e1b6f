"""How a hypernetwork learns: it makes models from embeddings, and follows what local training changes in them.

A hub has one hypernetwork with the embeddings of all nodes; without a hub every node has a hypernetwork of its own with
its own embedding. Both are a :class:`Learner`: a row of each of these entries of the state,
    hypernetwork [P], embeddings [n, d], spectral_vectors [R] with spectral normalisation, num_updates [],
and the optimizer's slots, of the shape of hypernetwork and of embeddings. The trainer does the work on a learner:
    generate:    theta = h(v; phi)
    pull back:   G = (d theta / d (phi, v))^T Delta, with Delta what local training takes away from theta
    update:      G <- G min(1, outer_clip / ||G||), then a step of the optimizer along G

Shapes: L learners, n embeddings of a learner, d columns of an embedding, P parameters of a hypernetwork, R entries of
the vectors of spectral normalisation.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from simulator.algorithms.base import State
from simulator.algorithms.hypernetworks.model_generator import Generated, ModelGenerator
from simulator.algorithms.hypernetworks.optimizers import Optimizer

ROW, EMBEDDINGS, VECTORS, NUM_UPDATES = "hypernetwork", "embeddings", "spectral_vectors", "num_updates"


@dataclass(frozen=True, kw_only=True)
class Learner:
    """A hypernetwork with its embeddings. All are views into a state, through which updates change the state.

    Attributes:
        row: [P].
        embeddings: [n, d].
        vectors: [R]; R is 0 without spectral normalisation.
        num_updates: [].
        row_slots, embedding_slots: of the optimizer, by name; empty where its state is reset in every round.
    """

    row: Tensor
    embeddings: Tensor
    vectors: Tensor
    num_updates: Tensor
    row_slots: Mapping[str, Tensor]
    embedding_slots: Mapping[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Trainer:
    """Trains hypernetworks.

    Args:
        generator: of models.
        optimizer: of a learner.
        outer_lr: learning rate of the hypernetwork; embedding_lr: of the embeddings.
        outer_clip: largest norm of a gradient by hypernetwork and embeddings together.
        reset_momentum: the optimizer starts anew in every round.
        prefix: of the names of the state's entries, for example ``hub/``.
    """

    generator: ModelGenerator
    optimizer: Optimizer
    outer_lr: float
    embedding_lr: float
    outer_clip: float
    reset_momentum: bool
    prefix: str

    def init(self, embeddings: Tensor, seed: int) -> State:
        """The entries of L learners that start with ``embeddings`` [L, n, d] and all with the same hypernetwork."""
        num_learners, hypernetwork = len(embeddings), self.generator.hypernetwork
        row = hypernetwork.init_row(seed) if num_learners else torch.zeros(hypernetwork.num_params)
        state = {
            ROW: row.to(embeddings).repeat(num_learners, 1),
            EMBEDDINGS: embeddings,
            NUM_UPDATES: embeddings.new_zeros(num_learners),
        }
        if self.generator.normalization is not None:
            state[VECTORS] = self.generator.init_vectors(seed).to(embeddings).repeat(num_learners, 1)
        if not self.reset_momentum:
            names = [(name, slot) for name in (ROW, EMBEDDINGS) for slot in self.optimizer.slots]
            state |= {f"{name}_{slot}": torch.zeros_like(state[name]) for name, slot in names}
        return {self.prefix + name: rows for name, rows in state.items()}

    def learner(self, state: State, position: int) -> Learner:
        """The learner in row ``position`` of the entries of ``state``."""
        own = {name: state[self.prefix + name][position] for name in (ROW, EMBEDDINGS, NUM_UPDATES)}
        vectors = state.get(self.prefix + VECTORS)
        row_slots, embedding_slots = (
            {}
            if self.reset_momentum
            else {slot: state[f"{self.prefix}{name}_{slot}"][position] for slot in self.optimizer.slots}
            for name in (ROW, EMBEDDINGS)
        )
        return Learner(
            row=own[ROW],
            embeddings=own[EMBEDDINGS],
            vectors=own[ROW].new_zeros(0) if vectors is None else vectors[position],
            num_updates=own[NUM_UPDATES],
            row_slots=row_slots,
            embedding_slots=embedding_slots,
        )

    def generate(self, learner: Learner, places: Tensor | None = None) -> Generated:
        """Models for the embeddings at ``places`` [m], all by default."""
        embeddings = learner.embeddings if places is None else learner.embeddings[places]
        return self.generator.generate(learner.row, learner.vectors, embeddings)

    def update_(self, learner: Learner, along_row: Tensor, along_embeddings: Tensor) -> None:
        """Takes a step of the optimizer along the gradient [P] and [n, d], which is clipped; all in place."""
        learner.num_updates.add_(1)
        # Reading the number makes the host wait for the device.
        counts = self.optimizer.uses_count and not self.reset_momentum
        count = int(learner.num_updates) if counts else 1
        norm = torch.hypot(along_row.norm(), along_embeddings.norm())
        scale = (self.outer_clip / norm).clamp_max(1.0)
        for x, along, slots, lr in (
            (learner.row, along_row, learner.row_slots, self.outer_lr),
            (learner.embeddings, along_embeddings, learner.embedding_slots, self.embedding_lr),
        ):
            if self.reset_momentum:
                slots = {slot: torch.zeros_like(along) for slot in self.optimizer.slots}
            self.optimizer.update_(x, along.mul_(scale), slots, lr, count)
