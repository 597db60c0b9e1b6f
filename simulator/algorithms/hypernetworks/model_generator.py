"""What a hub makes models with: embeddings of nodes, a hypernetwork, and spectral normalisation where it is wanted.

Shapes: n nodes with an embedding, m of them that are asked for, d columns of an embedding, D parameters of a model,
P parameters of the hypernetwork, R vectors' entries of spectral normalisation.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from simulator import randomness
from simulator.algorithms.hypernetworks.hypernetwork import Hypernetwork
from simulator.algorithms.hypernetworks.spectral_normalization import Factors, SpectralNormalization
from simulator.arrays import IntArray


@dataclass(frozen=True)
class Generated:
    """Models, and how they came to be.

    Attributes:
        models: [m, D].
        row: the hypernetwork as it was used, [P].
        inputs: of its layers.
        vectors: of spectral normalisation after this use, [R]; factors: what its derivatives need.
    """

    models: Tensor
    row: Tensor
    inputs: list[Tensor]
    vectors: Tensor
    factors: list[Factors]

    def part(self, places: Tensor) -> list[Tensor]:
        """The inputs of some of the models."""
        return [x[places] for x in self.inputs]


@dataclass(frozen=True)
class ModelGenerator:
    """A hypernetwork with or without spectral normalisation.

    Args:
        hypernetwork: its sizes.
        normalization: None for none.
    """

    hypernetwork: Hypernetwork
    normalization: SpectralNormalization | None

    def init_vectors(self, seed: int) -> Tensor:
        """Of spectral normalisation, [R]; R is 0 without."""
        return torch.zeros(0) if self.normalization is None else self.normalization.init_vectors(seed)

    def generate(self, row: Tensor, vectors: Tensor, embeddings: Tensor) -> Generated:
        """Models for ``embeddings`` [m, d] by the hypernetwork ``row`` [P] with ``vectors`` [R]."""
        used = row
        factors: list[Factors] = []
        if self.normalization is not None:
            used, vectors, factors = self.normalization.normalize(row, vectors)
        models, inputs = self.hypernetwork.generate(used, embeddings)
        return Generated(models, used, inputs, vectors, factors)

    def pull_back(self, generated: Generated, places: Tensor, deltas: Tensor) -> tuple[Tensor, Tensor]:
        """Derivatives of sum_j <deltas_j, model_j> over models at ``places``: by the row [P], by embeddings [m, d]."""
        along_row, along_embeddings = self.hypernetwork.pull_back(generated.row, generated.part(places), deltas)
        if self.normalization is not None:
            self.normalization.pull_back_(along_row, generated.row, generated.factors)
        return along_row, along_embeddings


def init_embeddings(nodes: IntArray, dim: int, seed: int) -> Tensor:
    """Standard normal numbers that depend on nothing but the node and the seed, float64 [n, d]."""
    drawn = [randomness.generator(seed, "embedding", node=int(node)).standard_normal(dim) for node in nodes]
    return torch.from_numpy(np.stack(drawn))
