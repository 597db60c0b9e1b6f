"""CHOCO-SGD: decentralized SGD whose messages are compressed residuals against references that neighbours share.

Update equations, with W symmetric and doubly stochastic, consensus step gamma and compressor Q; x_i^(1/2) is x_i after
the gradient steps of D-SGD (see dsgd.py, for learning rate, momentum, local steps and the average for evaluation too):
    q_i = Q(x_i^(1/2) - x^_i),    x^_i <- x^_i + q_i  (at i and at its neighbours)
    x_i <- x_i^(1/2) + gamma sum_j W[i, j] (x^_j - x^_i)
With order=combine_and_adapt gossip comes first and the gradient steps, taken from the old x_i, are added after it.
With Q(v) = v and gamma = 1 this is D-SGD.
State: ``params`` [N, D]; with momentum also ``momentum`` [N, D]; with ema also ``average`` [N, D]; on a static graph
also ``choco/reference`` [N, 1, D], ``choco/mixed`` [N, 1, D]; on other graphs, with S links that a node may ever have,
also ``choco/sent`` [N, S, 1, D], ``choco/received`` [N, S, 1, D], ``choco/disagreement`` [N, 1, D].
Needs: undirected graph, doubly stochastic W; any schedule; a contraction as Q. Where the schedule changes, references
are kept by link (see references.py).
Sends: one compressed row of D columns per edge and step.
Source: Koloskova, Stich and Jaggi, ICML 2019 (arXiv 1902.00340), algorithm 2; momentum and local training as in
Koloskova, Lin, Stich and Jaggi, ICLR 2020 (arXiv 1907.09356).
Departures: references start at the common starting point, which everybody knows, instead of 0.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from simulator.algorithms.base import State
from simulator.algorithms.compressed.consensus_lr import (
    ConsensusLr,
    check_consensus_lr,
    check_theory_applies,
    consensus_lr,
)
from simulator.algorithms.compressed.references import References
from simulator.algorithms.gossip.dsgd import CombinedDescent
from simulator.algorithms.weights import Weights
from simulator.compressors.base import Compressor
from simulator.graphs.base import Graph
from simulator.network.network import Network
from simulator.problems.base import Problem


@dataclass(frozen=True, kw_only=True)
class ChocoSGD(CombinedDescent):
    """CHOCO-SGD.

    Args:
        compressor: Q.
        seed: of the draws of random compressors.
        consensus_lr: gamma in (0, 1]; None for the compressor's, or ``theory`` (see consensus_lr.py).
        lr, lr_schedule, momentum, order, local_steps, ema: as ``CombinedDescent`` in gossip/dsgd.py.
    """

    weights: ClassVar[Weights] = Weights.SYMMETRIC
    push_sum_alternative: ClassVar[str] = "quantized_push_sum"
    uses_compressor = True

    compressor: Compressor
    seed: int
    consensus_lr: ConsensusLr

    def __post_init__(self) -> None:
        super().__post_init__()
        check_consensus_lr(self.consensus_lr)

    @property
    def references(self) -> References:
        """What the nodes know of each other's parameters."""
        return References(self.compressor, self.seed, "choco")

    def check_graph(self, graph: Graph) -> None:
        check_theory_applies(self.consensus_lr, graph)

    def init(self, problem: Problem, network: Network) -> State:
        state = super().init(problem, network)
        return state | self.references.init(state["params"][:, None], network, known=True)

    def combine(self, rows: Tensor, state: State, step: int, network: Network) -> Tensor:
        self.references.send_(state, rows[:, None], network, step)
        gamma = consensus_lr(self.consensus_lr, self.compressor, network.graph, rows.shape[1])
        return rows.add(self.references.disagreement(state)[:, 0], alpha=gamma)
