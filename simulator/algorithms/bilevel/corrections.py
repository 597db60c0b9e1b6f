"""How single loops correct for the differences between nodes: gradient tracking, EXTRA, exact diffusion.

A variable v of every node follows directions d_k with step size a over mixing with W:
    gradient_tracking:  v <- W (v - a T),  T <- W T + d_new - d_old (T = d at the start)
    extra:              v_1 = W v_0 - a d_0,  v_{k+1} = v_k + W v_k - (v_{k-1} + W v_{k-1}) / 2 - a (d_k - d_{k-1})
    exact_diffusion:    psi_{k+1} = v_k - a d_k,  v_{k+1} = (I + W) / 2 (psi_{k+1} + v_k - psi_k)  (psi_0 = v_0)
Each keeps one further row per node, its memory. With static W all three end where the mean direction is 0 and the
nodes agree; gradient tracking also does on schedules that change.
Sources: Nedic, Olshevsky and Shi, SIAM Journal on Optimization 2017 (arXiv 1607.03218); Shi, Ling, Wu and Yin, SIAM
Journal on Optimization 2015 (arXiv 1404.6264); Yuan, Ying, Zhao and Sayed, IEEE TSP 2019 (arXiv 1702.05122).

Shapes: N local nodes, D columns.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import torch
from torch import Tensor


class Correction(ABC):
    """How one variable moves."""

    num_rows: int
    """Rows per node that are mixed."""

    @abstractmethod
    def init(self, value: Tensor, direction: Tensor) -> Tensor:
        """The memory at the start."""

    @abstractmethod
    def send(self, value: Tensor, direction: Tensor, memory: Tensor, lr: float) -> tuple[Tensor, ...]:
        """What is to be mixed, ``num_rows`` tensors."""

    @abstractmethod
    def move(
        self,
        value: Tensor,
        direction: Tensor,
        memory: Tensor,
        lr: float,
        sent: Sequence[Tensor],
        mixed: Sequence[Tensor],
    ) -> tuple[Tensor, Tensor]:
        """The new value and memory."""

    def turn(self, memory: Tensor, old: Tensor, new: Tensor) -> Tensor:
        """The memory once the direction at the new value is known."""
        return memory


class GradientTracking(Correction):
    """The memory is the tracker T."""

    num_rows = 2

    def init(self, value: Tensor, direction: Tensor) -> Tensor:
        return direction.clone()

    def send(self, value: Tensor, direction: Tensor, memory: Tensor, lr: float) -> tuple[Tensor, ...]:
        return value.sub(memory, alpha=lr), memory

    def move(
        self,
        value: Tensor,
        direction: Tensor,
        memory: Tensor,
        lr: float,
        sent: Sequence[Tensor],
        mixed: Sequence[Tensor],
    ) -> tuple[Tensor, Tensor]:
        return mixed[0], mixed[1]

    def turn(self, memory: Tensor, old: Tensor, new: Tensor) -> Tensor:
        return memory + new - old


class Extra(Correction):
    """The memory is (v_{k-1} + W v_{k-1}) / 2 - a d_{k-1}, and v_0 at the start."""

    num_rows = 1

    def init(self, value: Tensor, direction: Tensor) -> Tensor:
        return value.clone()

    def send(self, value: Tensor, direction: Tensor, memory: Tensor, lr: float) -> tuple[Tensor, ...]:
        return (value,)

    def move(
        self,
        value: Tensor,
        direction: Tensor,
        memory: Tensor,
        lr: float,
        sent: Sequence[Tensor],
        mixed: Sequence[Tensor],
    ) -> tuple[Tensor, Tensor]:
        both = value + mixed[0]
        return (both - memory).sub_(direction, alpha=lr), (both / 2).sub_(direction, alpha=lr)


class ExactDiffusion(Correction):
    """The memory is psi_k."""

    num_rows = 1

    def init(self, value: Tensor, direction: Tensor) -> Tensor:
        return value.clone()

    def send(self, value: Tensor, direction: Tensor, memory: Tensor, lr: float) -> tuple[Tensor, ...]:
        return ((2 * value - memory).sub_(direction, alpha=lr),)

    def move(
        self,
        value: Tensor,
        direction: Tensor,
        memory: Tensor,
        lr: float,
        sent: Sequence[Tensor],
        mixed: Sequence[Tensor],
    ) -> tuple[Tensor, Tensor]:
        return torch.lerp(sent[0], mixed[0], 0.5), value.sub(direction, alpha=lr)


CORRECTIONS: Mapping[str, Correction] = MappingProxyType(
    {"gradient_tracking": GradientTracking(), "extra": Extra(), "exact_diffusion": ExactDiffusion()}
)
