"""A single loop in which every variable moves by a correction of ../corrections.py: sparkle, sldbo, dsgda_gt.

Update equations of step t, for each variable v with its direction d, its step size a and the memory of its correction:
    1. v and its memory move along d by the correction, all variables in one message
    2. v is limited: x to ``hparam_range``, others as the algorithm says
    3. d <- the direction at the new values of all variables, number t + 1 of the minibatches (0 at the start)
    4. the memory takes in how d has changed
State: for each variable ``v`` also ``v_direction`` for d and ``v_memory``, of the same shape.

Shapes: N local nodes, C columns of a variable.
"""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from simulator.algorithms.base import State
from simulator.algorithms.bilevel.shared_bilevel import SharedBilevel
from simulator.algorithms.corrections import Correction, GradientTracking, Moving
from simulator.network.network import Network
from simulator.problems.base import BilevelProblem, Problem


class Move(NamedTuple):
    """How a variable moves: its key in the state, its correction and its step size."""

    key: str
    correction: Correction
    lr: float


@dataclass(frozen=True, kw_only=True)
class CorrectedLoop(SharedBilevel):
    """A single loop over the variables of :meth:`moves`."""

    @abstractmethod
    def moves(self) -> tuple[Move, ...]:
        """The variables, in the order in which they are sent."""

    @abstractmethod
    def start(self, problem: BilevelProblem) -> State:
        """All variables before step 0."""

    @abstractmethod
    def directions(self, problem: BilevelProblem, state: State, index: int) -> tuple[Tensor, ...]:
        """The direction of descent of every variable at minibatch ``index``, in the order of :meth:`moves`."""

    def next_directions(self, problem: BilevelProblem, new: State, old: State, index: int) -> tuple[Tensor, ...]:
        """The directions at the ``new`` variables; ``old`` is the state before the step."""
        return self.directions(problem, new, index)

    def limited(self, key: str, value: Tensor) -> Tensor:
        """The new ``value`` [N, C] of a variable within its bounds."""
        return self.clamp(value) if key == "hparams" else value

    def init(self, problem: Problem, network: Network) -> State:
        assert isinstance(problem, BilevelProblem)
        state = self.start(problem)
        for (key, correction, _), direction in zip(self.moves(), self.directions(problem, state, 0), strict=True):
            state[f"{key}_direction"] = direction
            state[f"{key}_memory"] = correction.init(state[key], direction)
        return state

    def advance(self, state: State, step: int, problem: BilevelProblem, network: Network) -> State:
        moves = self.moves()
        variables = {key: Moving(state[key], state[f"{key}_direction"], state[f"{key}_memory"]) for key, _, _ in moves}
        sent = {key: correction.send(variables[key], lr) for key, correction, lr in moves}
        mixed = list(network.mix([rows for key, _, _ in moves for rows in sent[key]], step))
        new: State = {}
        for key, correction, lr in moves:
            arrived, mixed = mixed[: correction.num_rows], mixed[correction.num_rows :]
            value, new[f"{key}_memory"] = correction.move(variables[key], lr, sent[key], arrived)
            new[key] = self.limited(key, value)
        directions = self.next_directions(problem, new, state, step + 1)
        for (key, correction, _), direction in zip(moves, directions, strict=True):
            old = state[f"{key}_direction"]
            new[f"{key}_direction"] = direction
            new[f"{key}_memory"] = correction.update_memory(new[f"{key}_memory"], old, direction)
        return new

    def tracked(self, state: State) -> Mapping[str, tuple[Tensor, Tensor]]:
        return {
            f"the trackers of {key} have the mean of its directions": (
                state[f"{key}_memory"],
                state[f"{key}_direction"],
            )
            for key, correction, _ in self.moves()
            if isinstance(correction, GradientTracking)
        }
