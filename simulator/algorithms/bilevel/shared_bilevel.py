"""The base class of algorithms in which all nodes agree on one outer variable, and all but lopa on one lower-level one.

The problem, with x the hyperparameters, y the parameters, g_i the inner and f_i the outer objective of node i:
    min_x 1/n sum_i f_i(x, y*(x)),    y*(x) = argmin_y 1/n sum_i g_i(x, y)
Every node has a copy of x and of y; all copies agree in the limit. No node can compute y*(x) by itself, since the lower
level is an average over nodes as well: the mean of hypergradients made of local Hessians is not the hypergradient. An
algorithm that personalizes (lopa) has a lower level y_i*(x) = argmin_y g_i(x, y) at every node instead.

Shapes: N local nodes, M all nodes, D parameters, H hyperparameters.
"""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from torch import Tensor

from simulator.algorithms.base import Algorithm, State, consensus_distance
from simulator.algorithms.bilevel.step_rounds import StepRounds
from simulator.algorithms.weights import Weights
from simulator.graphs.base import Graph
from simulator.network.network import Network
from simulator.problems.base import BilevelProblem, Problem

_TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-8}


@dataclass(frozen=True, kw_only=True)
class SharedBilevel(Algorithm):
    """A decentralized bilevel algorithm whose nodes agree on the outer variable.

    Args:
        full_batch: gradients of all of a node's data instead of minibatches, where the problem has them.
        hparam_range: smallest and largest hyperparameter; after each step x is clamped to it. None for no bounds.
        check_invariants: verify after every step that all trackers have the mean that they track.
    """

    weights: ClassVar[Weights] = Weights.SYMMETRIC
    push_sum_alternative: ClassVar[str] = "push_penalty"

    full_batch: bool
    hparam_range: Sequence[float] | None
    check_invariants: bool

    needs_bilevel: ClassVar[bool] = True
    shares_hparams: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.hparam_range is not None and (
            len(self.hparam_range) != 2 or self.hparam_range[0] > self.hparam_range[1]
        ):
            raise ValueError(f"algorithm.hparam_range={list(self.hparam_range)}: expected [low, high], or null")

    @property
    def rounds(self) -> StepRounds:
        """The rounds of a step; by default one, which carries all variables, so that step t takes round t."""
        return StepRounds({"all variables": 1})

    def check_graph(self, graph: Graph) -> None:
        self.rounds.check_connected(graph, self.name)

    @abstractmethod
    def advance(self, state: State, step: int, problem: BilevelProblem, network: Network) -> State:
        """The state after ``step``."""

    @abstractmethod
    def tracked(self, state: State) -> Mapping[str, tuple[Tensor, Tensor]]:
        """The invariants by name: pairs of tensors [N, ...] whose means over all nodes are equal after every step."""

    def step(self, state: State, step: int, problem: Problem, network: Network) -> State:
        state = self.advance(state, step, cast(BilevelProblem, problem), network)
        if self.check_invariants:
            self._verify(state, step, network)
        return state

    def _verify(self, state: State, step: int, network: Network) -> None:
        for name, (left, right) in self.tracked(state).items():
            size = network.mean(left.abs() + right.abs()).max()
            apart = network.mean(left - right).abs().max()
            # NaN compares false and passes: run.py looks for numbers that are not finite.
            if bool(apart > _TOLERANCE[left.dtype] * (1 + size)):
                raise RuntimeError(f"invariant: after step {step} {name}: apart by {float(apart):.3g}")

    def batch(self, index: int) -> int | None:
        """The ``step`` that :class:`Problem` takes for minibatch ``index``: None for the full batch."""
        return None if self.full_batch else index

    def clamp(self, hparams: Tensor) -> Tensor:
        """``hparams`` clamped to ``hparam_range``."""
        return hparams if self.hparam_range is None else hparams.clamp(*self.hparam_range)

    def estimate(self, state: State) -> Tensor:
        return state["params"]

    def hparams(self, state: State, problem: Problem) -> Tensor:
        return state["hparams"]

    def diagnose(
        self, state: State, step: int, problem: Problem, network: Network, *, is_last: bool
    ) -> Mapping[str, float | Tensor]:
        """The consensus distance of x, and the problem's metrics at the means over nodes of x and of a shared y."""
        params, hparams = self.estimate(state), self.hparams(state, problem)
        mean_params = params if self.personalizes else network.mean(params).expand_as(params).contiguous()
        at_mean = problem.evaluate(mean_params, network.mean(hparams).expand_as(hparams).contiguous())
        return {
            "hparams/consensus_distance": consensus_distance(hparams, network),
            **{f"mean_iterate/{name}": values for name, values in at_mean.items()},
        }


def require_fraction(name: str, value: float | None) -> None:
    """Raises ValueError unless ``value`` is in (0, 1]; None passes, for settings that have a default elsewhere."""
    if value is not None and not 0 < value <= 1:
        raise ValueError(f"{name}={value}: expected a number in (0, 1]")
