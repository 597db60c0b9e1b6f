"""What algorithms with hypernetworks share, with a hub or without: the settings, and what is made of them.

Shapes: M all nodes, n nodes with an embedding, d columns of an embedding, D parameters of a target.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, cast

import numpy as np
from torch import Tensor

from simulator.algorithms.base import Algorithm, Report
from simulator.algorithms.hypernetworks.hypernetwork import Hypernetwork
from simulator.algorithms.hypernetworks.local_sgd import LocalSGD
from simulator.algorithms.hypernetworks.model_generator import ModelGenerator
from simulator.algorithms.hypernetworks.optimizers import OPTIMIZERS
from simulator.algorithms.hypernetworks.spectral_normalization import SpectralNormalization
from simulator.algorithms.hypernetworks.trainer import Trainer
from simulator.arrays import IntArray
from simulator.checks import require_one_of, require_positive
from simulator.figures.embeddings import node_embeddings
from simulator.problems.base import Problem
from simulator.problems.classification import Classification
from simulator.rows import ModelFunction


@dataclass(frozen=True, kw_only=True)
class HypernetworkAlgorithm(Algorithm):
    """An algorithm that trains hypernetworks, which make the nodes' models.

    Args:
        nodes_per_round: m, how many nodes train in a round.
        inner_steps: K; inner_lr, inner_momentum, inner_weight_decay, inner_clip: of the nodes' SGD.
        optimizer: of hypernetworks and embeddings, ``sgd`` or ``adam``.
        outer_lr: its learning rate; embedding_lr: of embeddings under SGD, None for the same.
        outer_momentum, outer_weight_decay: of SGD; outer_clip: largest norm of its gradient.
        reset_momentum: the optimizer starts anew in every round.
        embedding_dim: d; None for 1 + n / 4, rounded down.
        hidden_width: H; num_hidden: hidden layers of the hypernetwork after the first.
        spectral_norm: whether its weights are spectrally normalised.
        seed: of the nodes drawn and of the start.

    Attributes:
        prefix: of the names under which hypernetworks stand in the state.
    """

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
    prefix: ClassVar[str] = ""

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
        require_one_of("algorithm.optimizer", self.optimizer, OPTIMIZERS)
        if self.embedding_lr is not None and not OPTIMIZERS[self.optimizer].uses_groups:
            raise ValueError(
                f"algorithm.embedding_lr={self.embedding_lr}: algorithm.optimizer={self.optimizer} has one learning "
                "rate; use null"
            )

    def check_problem(self, problem: Problem) -> None:
        if type(problem) is not Classification:
            raise ValueError(
                f"problem: algorithm={self.name} needs problem=classification, and this is {type(problem).__name__}"
            )

    def members(self, problem: Problem) -> IntArray:
        """The nodes with an embedding: those with training samples, ascending, [n]."""
        counts = problem.sample_counts()
        assert counts is not None
        return np.flatnonzero(counts)

    def target_sizes(self, problem: Problem) -> tuple[int, ...]:
        """Numbers in each tensor that is generated, in the order of a row of parameters; D is their sum."""
        return tensor_sizes(cast(Classification, problem).function)

    def generator(self, problem: Problem) -> ModelGenerator:
        """The hypernetwork that fits the problem."""
        dim = self.embedding_dim or 1 + len(self.members(problem)) // 4
        sizes = self.target_sizes(problem)
        hypernetwork = Hypernetwork(dim, self.hidden_width, self.num_hidden, sum(sizes))
        return ModelGenerator(hypernetwork, SpectralNormalization(hypernetwork, sizes) if self.spectral_norm else None)

    def trainer(self, problem: Problem) -> Trainer:
        """How hypernetworks learn."""
        return Trainer(
            generator=self.generator(problem),
            optimizer=OPTIMIZERS[self.optimizer](momentum=self.outer_momentum, weight_decay=self.outer_weight_decay),
            outer_lr=self.outer_lr,
            embedding_lr=self.outer_lr if self.embedding_lr is None else self.embedding_lr,
            outer_clip=self.outer_clip,
            reset_momentum=self.reset_momentum,
            prefix=self.prefix,
        )

    @property
    def local_sgd(self) -> LocalSGD:
        """How nodes train their models."""
        return LocalSGD(
            num_steps=self.inner_steps,
            lr=self.inner_lr,
            momentum=self.inner_momentum,
            weight_decay=self.inner_weight_decay,
            clip=self.inner_clip,
        )

    def sizes(self, problem: Problem) -> Mapping[str, Any]:
        """Numbers of parameters, for reports."""
        members, hypernetwork = self.members(problem), self.generator(problem).hypernetwork
        return {
            "hypernetwork/num_params": hypernetwork.num_params + len(members) * hypernetwork.embedding_dim,
            "target/num_params": hypernetwork.num_outputs,
        }

    def embedding_report(self, numbers: Mapping[str, Any], embeddings: Tensor, problem: Problem) -> Report:
        """``numbers``, with the ``embeddings`` [n, d] of the members as array and figure."""
        members, label_counts = self.members(problem), problem.facts().label_counts
        assert label_counts is not None
        rows = embeddings.double().cpu().numpy()
        return Report(
            numbers=numbers,
            arrays={"embeddings": rows, "embedded_nodes": members},
            figures={"embeddings": partial(node_embeddings, rows, label_counts[members])},
        )


def tensor_sizes(function: ModelFunction) -> tuple[int, ...]:
    """Numbers in each parameter tensor of a model."""
    return tuple(math.prod(shape) for shape in function.layout.shapes)
