"""Spectral normalisation of a hypernetwork's row: every weight is divided by an estimate of its largest singular value.

Update equations: for a weight W [out, in] with a vector u [out] that is kept from one time to the next,
    v = W^T u / ||W^T u||,   u <- W v / ||W v||,   sigma = u^T W v,   W_n = W / sigma,
with one such iteration each time. With u and v held fixed, the derivative by W of what has derivative G by W_n is
    (G - <G, W_n> u v^T) / sigma.
The head is one weight per tensor of the target. Biases stay as they are.
Source: T. Miyato et al., "Spectral Normalization for Generative Adversarial Networks", ICLR 2018 (arXiv 1802.05957).

Shapes: P numbers of a hypernetwork's row, R rows of all weights together.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from simulator import randomness
from simulator.algorithms.hypernetworks.hypernetwork import Hypernetwork


class Factors(NamedTuple):
    """Of one weight: its divisor, and the vectors that gave it."""

    sigma: Tensor
    left: Tensor
    right: Tensor


@dataclass(frozen=True)
class SpectralNormalization:
    """Normalises the weights of a hypernetwork.

    Args:
        hypernetwork: whose rows are normalised.
        target_sizes: numbers in each tensor of the target; their sum is D.
    """

    hypernetwork: Hypernetwork
    target_sizes: tuple[int, ...]

    def init_vectors(self, seed: int) -> Tensor:
        """The vectors u of all weights, side by side, as they start: random and of norm 1; float64 [R]."""
        rng = randomness.generator(seed, "spectral_normalization")
        drawn = [torch.from_numpy(rng.standard_normal(size)) for size in self._sizes()]
        return torch.cat([vector / vector.norm() for vector in drawn])

    def normalize(self, row: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor, list[Factors]]:
        """One iteration.

        Args:
            row: [P].
            vectors: u of all weights, [R].

        Returns:
            The normalised row, the new vectors, and what :meth:`pull_back_` needs.
        """
        normalized, factors = row.clone(), []
        for weight, u in zip(self._weights(normalized), vectors.split(self._sizes()), strict=True):
            right = _unit(weight.T @ u)
            image = weight @ right
            left = _unit(image)
            factors.append(Factors(left @ image, left, right))
            weight.div_(factors[-1].sigma)
        return normalized, torch.cat([factor.left for factor in factors]), factors

    def pull_back_(self, along: Tensor, normalized: Tensor, factors: Sequence[Factors]) -> None:
        """Turns derivatives by the normalised row into those by the row itself, in place.

        Args:
            along: [P].
            normalized, factors: of :meth:`normalize`.
        """
        weights = zip(self._weights(along), self._weights(normalized), factors, strict=True)
        for along_weight, weight, (sigma, left, right) in weights:
            product = (along_weight * weight).sum()
            along_weight.sub_(product * torch.outer(left, right)).div_(sigma)

    def _weights(self, row: Tensor) -> Iterator[Tensor]:
        *trunk, (head, _) = self.hypernetwork.layers(row)
        yield from (weight for weight, _ in trunk)
        yield from head.split(self.target_sizes)

    def _sizes(self) -> list[int]:
        return [out for out, _ in self.hypernetwork.shapes[:-1]] + list(self.target_sizes)


def _unit(vector: Tensor) -> Tensor:
    unit: Tensor = vector / vector.norm().clamp_min(1e-12)
    return unit
