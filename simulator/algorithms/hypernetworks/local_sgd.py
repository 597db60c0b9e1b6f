"""What a node does with the model that a hypernetwork has made for it: SGD with momentum, decay and clipped gradients.

Update equations, for K steps on the row x of each model with its velocity m:
    g = grad f(x; batch),   g <- g min(1, clip / ||g||),   m <- momentum m + g + weight_decay x,   x <- x - lr m.
Where a node has private parameters behind the generated ones, the norm is that of the generated columns, and only these
are clipped.

Shapes: N local nodes, n of them that train, D generated and C private parameters of a node.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from simulator.arrays import IntArray
from simulator.problems.base import Problem
from simulator.uploads import upload


class Private(NamedTuple):
    """What the local nodes keep for themselves: parameters and their velocity, both [N, C]."""

    params: Tensor
    velocity: Tensor


@dataclass(frozen=True, kw_only=True)
class LocalSGD:
    """The settings of the nodes' SGD.

    Args:
        num_steps: K.
        lr, momentum, weight_decay: of SGD.
        clip: largest norm of a gradient.
    """

    num_steps: int
    lr: float
    momentum: float
    weight_decay: float
    clip: float

    def train(
        self,
        models: Tensor,
        positions: IntArray,
        step: int,
        problem: Problem,
        private: Private | None = None,
    ) -> Tensor:
        """Trains ``models`` [n, D] in round ``step`` at some local nodes, with the minibatches step K, step K + 1, ...

        Args:
            models: not changed.
            positions: of the nodes among the local ones, [n].
            private: trained together with the models, and updated in place; None where there are none.

        Returns:
            The models before minus after training, [n, D].
        """
        if not len(positions):
            return models
        num_generated = models.shape[1]
        params, velocity = models.clone(), torch.zeros_like(models)
        places = upload(positions, models.device)
        if private is not None:
            params = torch.cat([params, private.params[places]], dim=1)
            velocity = torch.cat([velocity, private.velocity[places]], dim=1)
        self._train_(params, velocity, num_generated, step, problem.part(positions))
        if private is not None:
            private.params[places] = params[:, num_generated:]
            private.velocity[places] = velocity[:, num_generated:]
        return models - params[:, :num_generated]

    def _train_(self, params: Tensor, velocity: Tensor, num_clipped: int, step: int, problem: Problem) -> None:
        """The K steps, in place; only the first ``num_clipped`` columns of a gradient are clipped."""
        gradient, hparams = torch.empty_like(params), problem.init_hparams()
        for batch in range(step * self.num_steps, (step + 1) * self.num_steps):
            problem.add_grad_(gradient.zero_(), params, hparams, batch, 1.0)
            clip_rows_(gradient[:, :num_clipped], self.clip)
            torch.add(gradient, velocity, alpha=self.momentum, out=velocity)
            if self.weight_decay:
                velocity.add_(params, alpha=self.weight_decay)
            params.sub_(velocity, alpha=self.lr)


def clip_rows_(rows: Tensor, limit: float) -> None:
    """Scales every row of norm above ``limit`` down to it, in place; [m, D]."""
    norms = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    if rows.device.type != "cpu" or bool((norms > limit).any()):  # only there it is cheap to ask
        rows.mul_((limit / norms).clamp_max(1.0))
