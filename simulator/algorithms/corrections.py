"""How variables that nodes share are corrected for the differences between nodes, for algorithms of one and two levels.

A variable v of every node follows directions d_k with step size a over mixing with W:
    gradient_tracking:  v <- W (v - a T),  T <- W T + d_new - d_old (T = d at the start)
    extra:              v_1 = W v_0 - a d_0,  v_{k+1} = v_k + W v_k - (v_{k-1} + W v_{k-1}) / 2 - a (d_k - d_{k-1})
    exact_diffusion:    psi_{k+1} = v_k - a d_k,  v_{k+1} = (I - R (I - W)) (psi_{k+1} + v_k - psi_k)  (psi_0 = v_0)
R is 1/2 unless asked otherwise: (I + W) / 2. R = I is D^2, and a diagonal R with step sizes of each node's own is NIDS.
Each keeps one further row per node, its memory. With static W all end where the mean direction is 0 and the nodes
agree; gradient tracking also does on schedules that change.

The memory of extra and exact_diffusion is v + a c, where c is the dual variable, which corrects the direction: both
move along d + c, and c + d is 0 at the end. c is 0 at the start, and its sum over nodes (in NIDS that of c / R) stays
0 at every step.
Sources: Nedic, Olshevsky and Shi, SIAM Journal on Optimization 2017 (arXiv 1607.03218); Shi, Ling, Wu and Yin, SIAM
Journal on Optimization 2015 (arXiv 1404.6264); Yuan, Ying, Zhao and Sayed, IEEE TSP 2019 (arXiv 1702.05122); Tang,
Lian, Yan, Zhang and Liu, ICML 2018 (arXiv 1803.07068) for D^2; Li, Shi and Yan, IEEE TSP 2019 (arXiv 1704.07807) for
NIDS.

Shapes: N local nodes, D columns.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from torch import Tensor

from simulator.graphs.base import Graph
from simulator.padding import copy_as


class Moving(NamedTuple):
    """A variable before a step, all [N, D]: its value v, the direction d there, and the correction's memory."""

    value: Tensor
    direction: Tensor
    memory: Tensor


class Correction(ABC):
    """How one variable moves. A move consumes the variable's value and memory: it may overwrite them."""

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


class CombineAndAdapt(GradientTracking):
    """Gradient tracking with v <- W v - a T, the form of DIGing: what is mixed has not moved yet."""

    def send(self, variable: Moving, lr: float) -> tuple[Tensor, ...]:
        return variable.value, variable.memory

    def move(
        self, variable: Moving, lr: float, sent: Sequence[Tensor], mixed: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor]:
        return mixed[0].sub_(variable.memory, alpha=lr), mixed[1]


class DualCorrection(Correction):
    """A correction whose memory is v + a c."""

    num_rows = 1

    def init(self, value: Tensor, direction: Tensor) -> Tensor:
        return copy_as(value)

    def rescale_(self, value: Tensor, memory: Tensor, factor: float) -> None:
        """Keeps c when the step size is multiplied with ``factor``: changes ``memory`` in place."""
        memory.lerp_(value, 1.0 - factor)


class Extra(DualCorrection):
    """The memory is (v_{k-1} + W v_{k-1}) / 2 - a d_{k-1}, and v_0 at the start."""

    def send(self, variable: Moving, lr: float) -> tuple[Tensor, ...]:
        return (variable.value,)

    def move(
        self, variable: Moving, lr: float, sent: Sequence[Tensor], mixed: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor]:
        value, direction, memory = variable
        both = mixed[0].add_(value)
        moved = memory.neg_().add_(both).sub_(direction, alpha=lr)
        return moved, both.div_(2).sub_(direction, alpha=lr)


class ExactDiffusion(DualCorrection):
    """The memory is psi_k.

    Args:
        relaxation: R, a number or one for every node [N, 1].
    """

    def __init__(self, relaxation: float | Tensor = 0.5) -> None:
        self.relaxation = relaxation

    def send(self, variable: Moving, lr: float) -> tuple[Tensor, ...]:
        value, direction, memory = variable
        return (memory.neg_().add_(value, alpha=2).sub_(direction, alpha=lr),)

    def move(
        self, variable: Moving, lr: float, sent: Sequence[Tensor], mixed: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor]:
        return sent[0].lerp_(mixed[0], self.relaxation), variable.value.sub_(variable.direction, alpha=lr)


CORRECTIONS: Mapping[str, Correction] = MappingProxyType(
    {"gradient_tracking": GradientTracking(), "extra": Extra(), "exact_diffusion": ExactDiffusion()}
)
"""The values of ``algorithm.outer_correction`` and ``algorithm.inner_correction``."""


def require_static(setting: str, graph: Graph, instead: str) -> None:
    """Raises ValueError where ``graph`` changes, for which the convergence of dual variables is not known.

    Args:
        setting: what needs a static graph, as on the command line.
        instead: what to use on graphs that change.
    """
    if graph.period != 1:
        raise ValueError(f"{setting} needs a static graph, and {graph.description} changes; use {instead}")
