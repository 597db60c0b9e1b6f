"""BEER: gradient tracking whose messages are compressed residuals against references that neighbours share.

Update equations, with W symmetric and doubly stochastic, learning rate a_t, consensus step gamma and compressor Q; g_t
is the gradient at x on the minibatch of step t, and v = g_0 at the start:
    x_i <- x_i + gamma sum_j W[i, j] (x^_j - x^_i) - a_t v_i
    q_i = Q(x_i - x^_i),    x^_i <- x^_i + q_i  (at i and at its neighbours)
    v_i <- v_i + gamma sum_j W[i, j] (v^_j - v^_i) + g_{t+1} - g_t
    p_i = Q(v_i - v^_i),    v^_i <- v^_i + p_i  (at i and at its neighbours)
The mean of v is that of g at every step, whatever the compressor and the noise; with exact gradients a constant a_t
reaches the common minimiser however unlike the nodes are.
State: ``params`` [N, D], ``gradient`` [N, D], ``tracker`` [N, D]; on a static graph also ``beer/reference`` [N, 2, D],
``beer/mixed`` [N, 2, D]; on other graphs, with S links that a node may ever have, also ``beer/sent`` [N, S, 2, D],
``beer/received`` [N, S, 2, D], ``beer/disagreement`` [N, 2, D].
Needs: undirected graph, doubly stochastic W; any schedule; a contraction as Q. Where the schedule changes, references
are kept by link (see references.py).
Sends: two compressed rows of D columns per edge and step, in one message.
Source: Zhao, Li, Li, Richtarik and Chi, NeurIPS 2022 (arXiv 2201.13320), algorithm 1.
Departures: learning rates may change over time; where the schedule changes, gossip uses the links of the round before.
"""

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
class BEER(Algorithm):
    """Compressed gradient tracking.

    Args:
        compressor: Q.
        seed: of the draws of random compressors.
        consensus_lr: gamma in (0, 1]; None for the compressor's, or ``theory`` (see consensus_lr.py).
        lr: learning rate; lr_schedule: its factor at each step.
    """

    weights: ClassVar[Weights] = Weights.SYMMETRIC
    push_sum_alternative: ClassVar[str] = "quantized_push_sum"
    uses_compressor = True

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
        return References(self.compressor, self.seed, "beer")

    def check_graph(self, graph: Graph) -> None:
        check_theory_applies(self.consensus_lr, graph)

    def init(self, problem: Problem, network: Network) -> State:
        params = problem.init_params()
        gradient = problem.grad(params, problem.init_hparams(), 0)
        # Everybody knows where the parameters start, and nobody knows a gradient but its own.
        known = torch.stack([params, zeros_as(params)], dim=1)
        return {
            "params": params,
            "gradient": gradient,
            "tracker": copy_as(gradient),
            **self.references.init(known, network, known=True),
        }

    def step(self, state: State, step: int, problem: Problem, network: Network) -> State:
        x, v, lr = state["params"], state["tracker"], self.lr * self.lr_schedule.factor(step)
        gamma = consensus_lr(self.consensus_lr, self.compressor, network.graph, x.shape[1])
        of_x, of_v = self.references.disagreement(state).unbind(dim=1)
        x.add_(of_x, alpha=gamma).sub_(v, alpha=lr)
        gradient = problem.grad(x, problem.init_hparams(), step + 1)
        v.add_(of_v, alpha=gamma).add_(gradient).sub_(state["gradient"])
        self.references.send_(state, torch.stack([x, v], dim=1), network, step)
        return {**state, "gradient": gradient}

    def estimate(self, state: State) -> Tensor:
        return state["params"]
