"""D-SGD: decentralized stochastic gradient descent.

Update equations, with W doubly stochastic, learning rate a_t and h local steps (1 unless asked otherwise):
    local steps at node i, starting from u = x_i, h times (m_i is heavy-ball momentum; it stays at its node):
        m_i <- momentum m_i + grad f_i(u),    u <- u - a_t m_i
    adapt-then-combine:  x_i <- sum_j W_t[i, j] u_j
    combine-and-adapt:   x_i <- sum_j W_t[i, j] x_j + (u_i - x_i)
    with ema > 0 what is evaluated is e_i <- ema e_i + (1 - ema) x_i, which starts at the initial parameters and never
    enters the training.
The weight decay of the problem is part of grad f_i, and so goes through the momentum.
With clique_averaging every gradient is first replaced by the mean of those of the node's clique (graph=d_cliques).
State: ``params`` [N, D]; with momentum also ``momentum`` [N, D]; with ema also ``average`` [N, D].
Needs: doubly stochastic W. With row-stochastic W it runs to a weighted consensus, which is refused.
Sends: D numbers per edge and step; with clique_averaging also D numbers per edge for every local step.
Source: Lian et al., NeurIPS 2017 (arXiv 1705.09056), algorithm 1; both orders in Sayed, Foundations and Trends 2014;
the average for evaluation as in Vogels, Hendrikx and Jaggi, NeurIPS 2022 (arXiv 2206.03093); clique averaging:
Bellet, Kermarrec and Lavoie, SRDS 2022 (arXiv 2104.07365), algorithm 1.
Departures: with clique_averaging, gradients also travel along the few edges between cliques, where nobody uses them.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from torch import Tensor

from simulator.algorithms.base import State
from simulator.algorithms.gossip.combined_steps import CombinedSteps
from simulator.algorithms.weights import Weights
from simulator.arrays import IntArray
from simulator.checks import require_within
from simulator.faults.base import beneath_faults
from simulator.graphs.base import Graph
from simulator.graphs.d_cliques import DCliques
from simulator.network.network import Network
from simulator.network.row_sums import add_rows
from simulator.padding import zeros_as
from simulator.problems.base import Problem
from simulator.uploads import upload, upload_like


@dataclass(frozen=True, kw_only=True)
class CombinedDescent(CombinedSteps):
    """Local gradient steps with momentum and, at every step, a combination with what other nodes have.

    Args:
        lr, lr_schedule, order, local_steps, ema: as :class:`CombinedSteps`.
        momentum: heavy-ball coefficient in [0, 1).
    """

    momentum: float

    def __post_init__(self) -> None:
        super().__post_init__()
        require_within("algorithm.momentum", self.momentum, "[0, 1)")

    def init(self, problem: Problem, network: Network) -> State:
        state = super().init(problem, network)
        if self.momentum:
            state["momentum"] = zeros_as(state["params"])
        return state

    def add_gradient_(
        self, out: Tensor, x: Tensor, problem: Problem, network: Network, *, batch: int, alpha: float, step: int
    ) -> None:
        """Adds ``alpha`` times the gradient at ``x`` on minibatch ``batch`` to ``out``, which may be ``x``."""
        problem.add_grad_(out, x, problem.init_hparams(), batch, alpha)

    def adapt_(self, x: Tensor, state: State, step: int, problem: Problem, network: Network) -> None:
        lr = self.rate(step)
        for batch in self.batches(step):
            if not self.momentum:
                self.add_gradient_(x, x, problem, network, batch=batch, alpha=-lr, step=step)
                continue
            momentum = state["momentum"].mul_(self.momentum)
            self.add_gradient_(momentum, x, problem, network, batch=batch, alpha=1.0, step=step)
            x.add_(momentum, alpha=-lr)


@dataclass(frozen=True, kw_only=True)
class DSGD(CombinedDescent):
    """Decentralized SGD.

    Args:
        lr, lr_schedule, momentum, order, local_steps, ema: as :class:`CombinedDescent`.
        clique_averaging: whether gradients are averaged over the cliques of graph=d_cliques before they are used.
    """

    weights: ClassVar[Weights] = Weights.DOUBLY_STOCHASTIC
    push_sum_alternative: ClassVar[str] = "sgp"
    survives_churn: ClassVar[bool] = True
    admits_attackers: ClassVar[bool] = True

    clique_averaging: bool = False

    def check_graph(self, graph: Graph) -> None:
        if self.clique_averaging and not isinstance(beneath_faults(graph), DCliques):
            raise ValueError(
                f"algorithm.clique_averaging=true: graph {graph.description} has no cliques; use graph=d_cliques"
            )

    def combine(self, rows: Tensor, state: State, step: int, network: Network) -> Tensor:
        (mixed,) = network.mix((rows,), step)
        return mixed

    def add_gradient_(
        self, out: Tensor, x: Tensor, problem: Problem, network: Network, *, batch: int, alpha: float, step: int
    ) -> None:
        if not self.clique_averaging:
            super().add_gradient_(out, x, problem, network, batch=batch, alpha=alpha, step=step)
            return
        inbox = network.exchange((problem.grad(x, problem.init_hparams(), batch),), step)
        clique_of = _clique_of(network.graph)
        is_within = clique_of[inbox.source] == clique_of[inbox.target]
        target = inbox.target[is_within] - network.nodes.start
        shares = 1.0 / np.bincount(target, minlength=len(x))[target]
        rows = inbox.rows[0][upload(inbox.row[is_within], x.device)]
        rows.mul_(upload_like(alpha * shares[:, None], x))
        out.copy_(add_rows(out, (target, rows)))


def _clique_of(graph: Graph) -> IntArray:
    """The clique of every node, [M]."""
    cliques = beneath_faults(graph)
    assert isinstance(cliques, DCliques)
    found = np.empty(graph.num_nodes, dtype=np.int64)
    for number, nodes in enumerate(cliques.cliques):
        found[nodes] = number
    return found
