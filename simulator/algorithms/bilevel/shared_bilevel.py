"""What the algorithms share in which all nodes look for one outer variable and one lower-level variable.

The problem, with x the hyperparameters, y the parameters, g_i the inner and f_i the outer objective of node i:
    min_x 1/n sum_i f_i(x, y*(x)),    y*(x) = argmin_y 1/n sum_i g_i(x, y)
Every node has a copy of x and of y; all copies agree in the limit. No node can find y*(x) by itself, since the lower
level is an average as well: the mean of hypergradients made of local Hessians is not the hypergradient.

Shapes: N local nodes, M all nodes, D parameters, H hyperparameters.
"""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, cast

import numpy as np
import torch
from torch import Tensor

from simulator.algorithms.base import Algorithm, State, consensus_distance, require_stochasticity
from simulator.algorithms.weights import Weights
from simulator.graphs.base import Graph
from simulator.graphs.support import count_components
from simulator.network.network import Network
from simulator.problems.base import BilevelProblem, Problem

_NUM_ROUNDS_LOOKED_AT = 3
_TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-8}


@dataclass(frozen=True, kw_only=True)
class SharedBilevel(Algorithm):
    """A decentralized bilevel algorithm whose nodes agree on both variables.

    Args:
        full_batch: gradients of everything a node has, in place of minibatches, where the problem has them.
        hparam_range: smallest and largest hyperparameter: entries outside are moved to it after each step.
        check_invariants: verify after every step that all trackers still have the mean that they track.
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
    def name(self) -> str:
        """The word that chooses this algorithm in a configuration."""
        return type(self).__module__.rpartition(".")[-1]

    @property
    def exchanges(self) -> Mapping[str, range]:
        """Which rounds of a step carry which variable; the steps of all variables are as long as the last stop."""
        return {"x and y": range(1)}

    def check_graph(self, graph: Graph) -> None:
        remedy = "use an undirected graph with metropolis weights, or algorithm=push_penalty"
        require_stochasticity(self.name, graph, ("double",), remedy)
        symmetric = not graph.directed and all(_is_symmetric(graph, step) for step in _rounds(graph))
        if not symmetric:
            raise ValueError(
                f"algorithm={self.name} needs symmetric weights, and graph {graph.description} has others; use an "
                "undirected graph, or algorithm=push_penalty"
            )
        self.check_rounds(graph)

    def check_rounds(self, graph: Graph) -> None:
        """Raises ValueError where some variable would meet only rounds of ``graph`` that do not connect all nodes."""
        if graph.period in (1, None) or not graph.mixes:
            return
        assert graph.period is not None
        length = max(rounds.stop for rounds in self.exchanges.values())
        for variable, rounds in self.exchanges.items():
            met = {(first + length * step) % graph.period for first in rounds for step in range(graph.period)}
            edges = [graph.edges(step) for step in sorted(met)]
            support = np.concatenate([e.source for e in edges]), np.concatenate([e.target for e in edges])
            if count_components(support, graph.num_nodes)[0] > 1:
                raise ValueError(
                    f"graph {graph.description} repeats after {graph.period} rounds and algorithm={self.name} has "
                    f"{length} rounds per step, so that {variable} would meet the same rounds over and over, which do "
                    "not connect all nodes; use another number of inner steps"
                )

    @abstractmethod
    def advance(self, state: State, step: int, problem: BilevelProblem, network: Network) -> State:
        """The state after ``step``."""

    @abstractmethod
    def tracked(self, state: State) -> Mapping[str, tuple[Tensor, Tensor]]:
        """Pairs of rows that have one mean over all nodes after every step, by the name of the invariant."""

    def step(self, state: State, step: int, problem: Problem, network: Network) -> State:
        state = self.advance(state, step, cast(BilevelProblem, problem), network)
        if self.check_invariants:
            self._verify(state, step, network)
        return state

    def _verify(self, state: State, step: int, network: Network) -> None:
        for name, (left, right) in self.tracked(state).items():
            size = network.mean(left.abs() + right.abs()).max()
            apart = network.mean(left - right).abs().max()
            # Not finite is the business of whoever looks for that.
            if bool(apart > _TOLERANCE[left.dtype] * (1 + size)):
                raise RuntimeError(f"invariant: after step {step} {name}: apart by {float(apart):.3g}")

    def batch(self, index: int) -> int | None:
        """What problems are asked for at the gradient number ``index``."""
        return None if self.full_batch else index

    def clamp(self, hparams: Tensor) -> Tensor:
        """``hparams`` within their range."""
        return hparams if self.hparam_range is None else hparams.clamp(*self.hparam_range)

    def estimate(self, state: State) -> Tensor:
        return state["params"]

    def hparams(self, state: State, problem: Problem) -> Tensor:
        return state["hparams"]

    def diagnose(
        self, state: State, step: int, problem: Problem, network: Network, *, is_last: bool
    ) -> Mapping[str, float | Tensor]:
        """How far the copies of x are apart, and the metrics of the mean over nodes of x and y."""
        params, hparams = self.estimate(state), self.hparams(state, problem)
        mean_params, mean_hparams = network.mean(params), network.mean(hparams)
        at_mean = problem.evaluate(
            mean_params.expand_as(params).contiguous(), mean_hparams.expand_as(hparams).contiguous()
        )
        return {
            "hparams/consensus_distance": consensus_distance(hparams, network),
            **{f"mean_iterate/{name}": values for name, values in at_mean.items()},
        }


def _rounds(graph: Graph) -> range:
    return range(graph.period or _NUM_ROUNDS_LOOKED_AT)


def _is_symmetric(graph: Graph, step: int) -> bool:
    edges = graph.edges(step)
    order = np.lexsort((edges.target, edges.source))
    there = edges.source[order], edges.target[order], edges.weight[order]
    return (
        np.array_equal(there[0], edges.target)
        and np.array_equal(there[1], edges.source)
        and np.allclose(there[2], edges.weight, rtol=0, atol=1e-12)
    )
