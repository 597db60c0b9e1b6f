"""ClippedGossip: decentralized SGD in which no neighbour moves a node by more than its weight times a radius.

Update equations, with W doubly stochastic, Clip(v, r) = v min(1, r / ||v||), and u_i what the gradient steps of D-SGD
make of x_i (see gossip/dsgd.py, for learning rate, momentum, local steps, both orders and the average for evaluation):
    x_i <- u_i + sum_j W_t[i, j] Clip(u_j - u_i, r_i)
radius=adaptive: with S_i those that i hears but for the b whose rows are farthest from its own, and d_i the weight of
these b,
    r_i^2 = (1 / d_i) sum_{j in S_i} W_t[i, j] ||u_j - u_i||^2
At least one neighbour is in S_i; with b = 0 nothing is clipped, and this is D-SGD.
State: ``params`` [N, D]; with momentum also ``momentum`` [N, D]; with ema also ``average`` [N, D].
Needs: doubly stochastic W; any schedule. In the source W is symmetric.
Sends: D numbers per edge and step.
Source: He, Karimireddy and Jaggi (arXiv 2202.01545), algorithm 1 and the radius of its theory, which is that of
radius=adaptive with the honest neighbours as S_i and the weight of attackers as d_i. That the b farthest stand for the
attackers is a re-implementation of the idea of the adaptive rule.
Departures: heavy-ball momentum in place of an average of gradients.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from simulator.algorithms.base import State
from simulator.algorithms.gossip.dsgd import CombinedDescent
from simulator.algorithms.robust.neighbourhoods import neighbourhoods
from simulator.algorithms.weights import Weights
from simulator.arrays import IntArray
from simulator.checks import require_at_least, require_positive
from simulator.network.network import Network
from simulator.network.row_sums import add_rows
from simulator.uploads import upload, upload_like


@dataclass(frozen=True, kw_only=True)
class ClippedGossip(CombinedDescent):
    """D-SGD with clipped differences.

    Args:
        radius: r, positive, or ``adaptive``.
        num_attackers: b of radius=adaptive, at least 0.
        lr, lr_schedule, momentum, order, local_steps, ema: as ``CombinedDescent`` in gossip/dsgd.py.
    """

    weights: ClassVar[Weights] = Weights.DOUBLY_STOCHASTIC
    admits_attackers: ClassVar[bool] = True

    radius: float | str
    num_attackers: int

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.radius, str) and self.radius != "adaptive":
            raise ValueError(f"algorithm.radius={self.radius!r}: expected a positive number or adaptive")
        if not isinstance(self.radius, str):
            require_positive("algorithm.radius", self.radius)
        require_at_least("algorithm.num_attackers", self.num_attackers, 0)

    def combine(self, rows: Tensor, state: State, step: int, network: Network) -> Tensor:
        inbox = network.exchange((rows,), step)
        (heard,) = inbox.rows
        others = inbox.source != inbox.target
        target, row = inbox.target[others], inbox.row[others]
        at, weight = target - network.nodes.start, upload_like(inbox.weight[others], heard)
        away = heard[upload(row, heard.device)] - rows[upload(at, heard.device)]
        distance = torch.linalg.vector_norm(away, dim=1)
        radius = self._radii(distance, weight, target, network.nodes)
        away.mul_((weight * torch.where(distance > radius, radius / distance, 1.0))[:, None])
        return add_rows(rows, (at, away))

    def _radii(self, distance: Tensor, weight: Tensor, target: IntArray, nodes: range) -> Tensor:
        """The radius for every message, [E]."""
        if not isinstance(self.radius, str):
            return torch.full_like(distance, self.radius)
        radii = torch.full_like(distance, torch.inf)
        for _, messages in neighbourhoods(target, nodes):
            near = max(messages.shape[1] - self.num_attackers, 1)
            if near >= messages.shape[1]:
                continue
            index = upload(messages, distance.device)
            sorted_distance, order = distance[index].sort(dim=1, stable=True)
            share = weight[index].gather(1, order)
            squares = (share[:, :near] * sorted_distance[:, :near].square()).sum(dim=1)
            radius = (squares / share[:, near:].sum(dim=1)).sqrt()
            radii[index] = radius[:, None].expand(index.shape)
        return radii
