"""Gradient tracking whose messages are compressed residuals against references that neighbours share.

What the trackers follow at a node, its estimate m_i of its own gradient, is each algorithm's own.
"""

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from simulator.algorithms.base import Algorithm, State
from simulator.algorithms.compressed.consensus_lr import (
    ConsensusLr,
    check_consensus_lr,
    check_theory_applies,
    consensus_lr,
)
from simulator.algorithms.compressed.references import References
from simulator.algorithms.weights import Weights
from simulator.checks import require_positive
from simulator.compressors.base import Compressor
from simulator.graphs.base import Graph
from simulator.network.network import Network
from simulator.padding import copy_as, zeros_as
from simulator.problems.base import Problem
from simulator.schedules import Schedule


@dataclass(frozen=True, kw_only=True)
class CompressedTracking(Algorithm):
    """Compressed gradient tracking.

    Args:
        compressor: Q.
        seed: of the draws of random compressors.
        consensus_lr: gamma in (0, 1]; None for the compressor's, or ``theory`` (see consensus_lr.py).
        lr: learning rate; lr_schedule: its factor at each step.

    Attributes:
        prefix: of the references in the state, and the stream of the compressor's draws.
        followed: the key of m in the state.
    """

    weights: ClassVar[Weights] = Weights.SYMMETRIC
    push_sum_alternative: ClassVar[str] = "quantized_push_sum"
    uses_compressor = True
    prefix: ClassVar[str]
    followed: ClassVar[str]

    compressor: Compressor
    seed: int
    consensus_lr: ConsensusLr
    lr: float
    lr_schedule: Schedule

    def __post_init__(self) -> None:
        require_positive("algorithm.lr", self.lr)
        check_consensus_lr(self.consensus_lr)

    @property
    def references(self) -> References:
        """What the nodes know of each other's parameters and trackers."""
        return References(self.compressor, self.seed, self.prefix)

    @abstractmethod
    def follow(self, before: Tensor, gradient: Tensor) -> Tensor:
        """The estimate m [N, D] after a new gradient, which may be overwritten; ``before`` is m so far."""

    def check_graph(self, graph: Graph) -> None:
        check_theory_applies(self.consensus_lr, graph)

    def init(self, problem: Problem, network: Network) -> State:
        params = problem.init_params()
        gradient = problem.grad(params, problem.init_hparams(), 0)
        # Everybody knows where the parameters start, and nobody knows a gradient but its own.
        known = torch.stack([params, zeros_as(params)], dim=1)
        return {
            "params": params,
            self.followed: gradient,
            "tracker": copy_as(gradient),
            **self.references.init(known, network, known=True),
        }

    def step(self, state: State, step: int, problem: Problem, network: Network) -> State:
        x, v, lr = state["params"], state["tracker"], self.lr * self.lr_schedule.factor(step)
        gamma = consensus_lr(self.consensus_lr, self.compressor, network.graph, x.shape[1])
        of_x, of_v = self.references.disagreement(state).unbind(dim=1)
        x.add_(of_x, alpha=gamma).sub_(v, alpha=lr)
        gradient = problem.grad(x, problem.init_hparams(), step + 1)
        followed = self.follow(state[self.followed], gradient)
        v.add_(of_v, alpha=gamma).add_(followed).sub_(state[self.followed])
        self.references.send_(state, torch.stack([x, v], dim=1), network, step)
        return {**state, self.followed: followed}

    def estimate(self, state: State) -> Tensor:
        return state["params"]
