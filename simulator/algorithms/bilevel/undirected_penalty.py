"""The penalty method on undirected graphs: x is sent as it is, y and z in a way of each algorithm's own.

Update equations, with consensus step sizes c_x and c and step sizes a_x and a (see penalty_method.py for u_i and r_i):
    x_i <- x_i + c_x sum_j w_ij (x_j - x_i) - a_x s_i,    s_i <- s_i + c_x sum_j w_ij (s_j - s_i) + u_i(new) - u_i
    inner, for (d, s) of y and of z:  d_i <- d_i + c A_i - a s_i,    s_i <- s_i + c B_i + grad r_i(d_i) - G_i
where A_i and B_i stand for sum_j w_ij (d_j - d_i) and sum_j w_ij (s_j - s_i), as far as neighbours know of them.
Sends: 2 H numbers per edge and step for x and its trackers, in one message.

Shapes: N local nodes, D parameters, H hyperparameters.
"""

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from simulator.algorithms.base import State
from simulator.algorithms.bilevel.penalty_method import PenaltyMethod, inner_gradients
from simulator.compressors.base import Compressor
from simulator.network.network import Network
from simulator.problems.base import BilevelProblem


@dataclass(frozen=True, kw_only=True)
class UndirectedPenalty(PenaltyMethod):
    """A penalty method with symmetric weights.

    Args:
        outer_consensus_lr: c_x, in (0, 1].
    """

    outer_consensus_lr: float

    def __post_init__(self) -> None:
        super().__post_init__()
        require_share("algorithm.outer_consensus_lr", self.outer_consensus_lr)

    @property
    @abstractmethod
    def consensus_lr(self) -> float:
        """c, of the inner solvers."""

    @abstractmethod
    def disagreement(self, state: State, round_index: int, network: Network) -> Tensor:
        """A_i and B_i of both solvers, [N, 4, D]; may send, and then changes entries of ``state`` in place."""

    def announce_(self, state: State, round_index: int, network: Network) -> None:
        """Tells the neighbours about the new vectors, where that is done after an inner step."""

    def move_hparams(self, state: State, round_index: int, network: Network) -> State:
        hparams, tracker = state["hparams"], state["hparam_tracker"]
        mixed_hparams, mixed_tracker = network.mix((hparams, tracker), round_index)
        moved = hparams.lerp(mixed_hparams, self.outer_consensus_lr).sub_(tracker, alpha=self.outer_lr)
        return {
            **state,
            "hparams": self.clamp(moved),
            "hparam_tracker": tracker.lerp(mixed_tracker, self.outer_consensus_lr),
        }

    def inner_step(
        self,
        state: State,
        problem: BilevelProblem,
        penalty: float,
        batch: int | None,
        round_index: int,
        network: Network,
    ) -> State:
        vectors = state["vectors"]
        disagreement = self.disagreement(state, round_index, network)
        vectors[:, :2].sub_(vectors[:, 2:], alpha=self.inner_lr)
        vectors.add_(disagreement, alpha=self.consensus_lr)
        gradients = inner_gradients(problem, state["hparams"], vectors[:, :2], penalty, batch)
        vectors[:, 2:].add_(gradients).sub_(state["gradients"])
        state = {**state, "gradients": gradients}
        self.announce_(state, round_index, network)
        return state


@dataclass(frozen=True, kw_only=True)
class CompressedPenalty(UndirectedPenalty):
    """A penalty method whose inner solvers send compressed vectors.

    Args:
        inner_consensus_lr: c of the inner solvers; None for what suits the compressor.
        seed: of the draws of random compressors.
        compressor: Q.
    """

    inner_consensus_lr: float | None
    seed: int
    compressor: Compressor

    uses_compressor: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        require_share("algorithm.inner_consensus_lr", self.inner_consensus_lr)

    @property
    def consensus_lr(self) -> float:
        return self.inner_consensus_lr or self.compressor.consensus_lr


def require_share(name: str, value: float | None) -> None:
    """Raises ValueError unless ``value`` is in (0, 1], or None where that is left to something else."""
    if value is not None and not 0 < value <= 1:
        raise ValueError(f"{name}={value}: expected a number in (0, 1]")
