"""NIDS: exact diffusion in which every node may have a learning rate of its own.

Update equations, with g_k = grad f(x_k) on the minibatch of step k, learning rate a and A = a diag(s_1, ..., s_M), s_i
in (0, 1] the factor of node i:
    x_1 = x_0 - A g_0,    x_{k+1} = (I - r / a A (I - W)) (2 x_k - x_{k-1} - A (g_k - g_{k-1})),
which is  u = x_k - A (g_k + c_k),  x_{k+1} = u - r / a A (I - W) u,  c_{k+1} = c_k + r / a (I - W) u  with c_1 = 0.
The sum over nodes of c stays 0. Where all s_i are 1, it is exact diffusion from the second step on.
State: ``params`` [N, D], ``memory`` [N, D], which is x + A c.
Needs: symmetric, doubly stochastic W; a static graph; (1 - r) I + r W with eigenvalues above -1/3, as r = 1/2 has
everywhere. Node i needs a s_i below 2 by its own largest curvature, whatever the graph.
Sends: D numbers per edge and step, but nothing in the first step.
Source: Li, Shi and Yan, IEEE TSP 2019 (arXiv 1704.07807), algorithm 1, whose c is r / a here, without nonsmooth terms.
Departures: minibatches; learning rates may change over time, and c keeps its value then.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from simulator.algorithms import corrections
from simulator.algorithms.base import State
from simulator.algorithms.primal_dual.base import RelaxedMixing
from simulator.algorithms.primal_dual.corrected_descent import CorrectedDescent
from simulator.graphs.base import Graph
from simulator.network.network import Network
from simulator.padding import copy_as
from simulator.problems.base import Problem
from simulator.uploads import upload_like


@dataclass(frozen=True, kw_only=True)
class NIDS(RelaxedMixing, CorrectedDescent):
    """NIDS.

    Args:
        lr, lr_schedule, relaxation: as :class:`RelaxedMixing`.
        lr_factors: s, one number in (0, 1] for every node; None for 1 everywhere.
    """

    lr_factors: Sequence[float] | None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.lr_factors is not None and not all(0 < factor <= 1 for factor in self.lr_factors):
            raise ValueError(f"algorithm.lr_factors={list(self.lr_factors)}: expected numbers in (0, 1], or null")

    def check_graph(self, graph: Graph) -> None:
        super().check_graph(graph)
        if self.lr_factors is not None and len(self.lr_factors) != graph.num_nodes:
            raise ValueError(
                f"algorithm.lr_factors has {len(self.lr_factors)} numbers: expected one for each of {graph.num_nodes} "
                "nodes"
            )

    def correction(self, params: Tensor, network: Network) -> corrections.DualCorrection:
        if self.lr_factors is None:
            return corrections.ExactDiffusion(self.relaxation)
        return corrections.ExactDiffusion(self._factors(params, network) * self.relaxation)

    def direction(self, params: Tensor, step: int, problem: Problem, network: Network) -> Tensor:
        gradient = super().direction(params, step, problem, network)
        return gradient if self.lr_factors is None else gradient.mul_(self._factors(params, network))

    def step(self, state: State, step: int, problem: Problem, network: Network) -> State:
        if step:
            return super().step(state, step, problem, network)
        params = state["params"]
        params.sub_(self.direction(params, step, problem, network), alpha=self.rate(step))
        return {"params": params, "memory": copy_as(params)}

    def _factors(self, params: Tensor, network: Network) -> Tensor:
        """The factors of the local nodes, [N, 1]."""
        assert self.lr_factors is not None
        nodes = network.nodes
        return upload_like(np.array(self.lr_factors[nodes.start : nodes.stop])[:, None], params)
