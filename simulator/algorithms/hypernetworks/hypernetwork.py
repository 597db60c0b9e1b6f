"""A hypernetwork on one flat row: from embeddings to parameters of models, and back, in closed form.

Update equations: with an embedding e in R^d, a trunk of linear layers with a ReLU before each but the first, and one
linear head for all parameters of the target (heads of its tensors side by side are one head),
    x_0 = e,   a_l = W_l x_l + b_l,   x_{l+1} = relu(a_l) for all l but the last of the trunk,   f = a_L,
    theta = W f + b.
The vector-Jacobian product with a row Delta is dW = Delta f^T, db = Delta, df = W^T Delta, and so on back through the
trunk; for m models it is one product of an [D, m] and an [m, H] matrix, and no gradient of a single model is formed.
Source: A. Shamsian et al., "Personalized Federated Learning using Hypernetworks", ICML 2021 (arXiv 2103.04628).

Shapes: m models, d columns of an embedding, H columns of the hidden layers, D parameters of a target, P of the row.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import torch
from torch import Tensor, nn

from simulator import randomness

Layer = tuple[Tensor, Tensor]
"""Weight [out, in] and bias [out]."""


@dataclass(frozen=True)
class Hypernetwork:
    """Sizes of a hypernetwork; embeddings are not part of its row.

    Args:
        embedding_dim: d.
        hidden_width: H.
        num_hidden: layers of the trunk after the first, each with a ReLU before it.
        num_outputs: D.
    """

    embedding_dim: int
    hidden_width: int
    num_hidden: int
    num_outputs: int

    @cached_property
    def shapes(self) -> tuple[tuple[int, int], ...]:
        """Of the weights, (out, in): those of the trunk, then that of the head."""
        widths = [self.embedding_dim] + [self.hidden_width] * (self.num_hidden + 1) + [self.num_outputs]
        return tuple((after, before) for before, after in pairwise(widths))

    @property
    def num_params(self) -> int:
        """P."""
        return sum(math.prod(shape) + shape[0] for shape in self.shapes)

    def init_row(self, seed: int) -> Tensor:
        """The row [P] as it starts: weights and biases uniform within 1 / sqrt(in), as is usual for linear layers."""
        with randomness.torch_seed(seed, "hypernetwork"):
            layers = [nn.Linear(before, after) for after, before in self.shapes]
        return torch.cat([tensor.detach().reshape(-1) for layer in layers for tensor in (layer.weight, layer.bias)])

    def layers(self, row: Tensor) -> list[Layer]:
        """Views into ``row`` [P]; writing to a view writes to the row."""
        found, start = [], 0
        for shape in self.shapes:
            middle = start + math.prod(shape)
            stop = middle + shape[0]
            found.append((row[start:middle].view(shape), row[middle:stop]))
            start = stop
        return found

    def generate(self, row: Tensor, embeddings: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Models for embeddings.

        Args:
            row: [P].
            embeddings: [m, d].

        Returns:
            The models [m, D], and the inputs of all layers, which :meth:`pull_back` needs.
        """
        *trunk, (head_weight, head_bias) = self.layers(row)
        x, inputs = embeddings, []
        for position, (weight, bias) in enumerate(trunk):
            if position:
                x = x.clamp_min(0)
            inputs.append(x)
            x = torch.addmm(bias, x, weight.T)
        return torch.addmm(head_bias, x, head_weight.T), [*inputs, x]

    def pull_back(self, row: Tensor, inputs: Sequence[Tensor], deltas: Tensor) -> tuple[Tensor, Tensor]:
        """The vector-Jacobian product: derivatives of sum_j <deltas_j, model_j>.

        Args:
            row: [P].
            inputs: of :meth:`generate`.
            deltas: [m, D].

        Returns:
            By the row, [P], and by the embeddings, [m, d].
        """
        along_row, delta = torch.empty_like(row), deltas
        pairs = list(zip(self.layers(row), self.layers(along_row), inputs, strict=True))
        for position, ((weight, _), (along_weight, along_bias), x) in reversed(list(enumerate(pairs))):
            torch.mm(delta.T, x, out=along_weight)
            torch.sum(delta, dim=0, out=along_bias)
            delta = delta @ weight
            # The first layer sees the embeddings and the head the trunk's output as they are; ReLUs feed the others.
            if 0 < position < len(pairs) - 1:
                delta *= x > 0
        return along_row, delta
