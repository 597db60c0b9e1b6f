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
from typing import NamedTuple

import torch
from torch import Tensor


class Moving(NamedTuple):
    """A variable before a step, all [N, D]: its value v, the direction d there, and the correction's memory."""

    value: Tensor
    direction: Tensor
    memory: Tensor


class Correction(ABC):
    """How one variable moves."""

    num_rows: int
    """Rows per node that are mixed."""

    @abstractmethod
    def init(self, value: Tensor, direction: Tensor) -> Tensor:
        """The memory at the start."""

    @abstractmethod
    def send(self, variable: Moving, lr: float) -> tuple[Tensor, ...]:
        """What is mixed, ``num_rows`` tensors."""

    @abstractmethod
    def move(
        self, variable: Moving, lr: float, sent: Sequence[Tensor], mixed: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """The new value and memory; ``mixed`` is W times what :meth:`send` returned, ``sent``."""

    def update_memory(self, memory: Tensor, old: Tensor, new: Tensor) -> Tensor:
        """The memory after the direction has changed from ``old`` to ``new``, that at the new value."""
        return memory


class GradientTracking(Correction):
    """The memory is the tracker T."""

    num_rows = 2

    def init(self, value: Tensor, direction: Tensor) -> Tensor:
        return direction.clone()

    def send(self, variable: Moving, lr: float) -> tuple[Tensor, ...]:
        return variable.value.sub(variable.memory, alpha=lr), variable.memory

    def move(
        self, variable: Moving, lr: float, sent: Sequence[Tensor], mixed: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor]:
        return mixed[0], mixed[1]

    def update_memory(self, memory: Tensor, old: Tensor, new: Tensor) -> Tensor:
        return memory + new - old


class Extra(Correction):
    """The memory is (v_{k-1} + W v_{k-1}) / 2 - a d_{k-1}, and v_0 at the start."""

    num_rows = 1

    def init(self, value: Tensor, direction: Tensor) -> Tensor:
        return value.clone()

    def send(self, variable: Moving, lr: float) -> tuple[Tensor, ...]:
        return (variable.value,)

    def move(
        self, variable: Moving, lr: float, sent: Sequence[Tensor], mixed: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor]:
        value, direction, memory = variable
        both = value + mixed[0]
        return (both - memory).sub_(direction, alpha=lr), (both / 2).sub_(direction, alpha=lr)


class ExactDiffusion(Correction):
    """The memory is psi_k."""

    num_rows = 1

    def init(self, value: Tensor, direction: Tensor) -> Tensor:
        return value.clone()

    def send(self, variable: Moving, lr: float) -> tuple[Tensor, ...]:
        value, direction, memory = variable
        return ((2 * value - memory).sub_(direction, alpha=lr),)

    def move(
        self, variable: Moving, lr: float, sent: Sequence[Tensor], mixed: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor]:
        return torch.lerp(sent[0], mixed[0], 0.5), variable.value.sub(variable.direction, alpha=lr)


CORRECTIONS: Mapping[str, Correction] = MappingProxyType(
    {"gradient_tracking": GradientTracking(), "extra": Extra(), "exact_diffusion": ExactDiffusion()}
)
"""The values of ``algorithm.outer_correction`` and ``algorithm.inner_correction``."""
