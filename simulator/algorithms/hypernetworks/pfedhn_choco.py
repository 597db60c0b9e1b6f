"""pFedHN without a hub, with compressed gossip of the hypernetworks (CHOCO-SGD).

Update equations: as pfedhn_gossip.py, with gossip as in CHOCO-SGD (see choco.py): with phi_i^(1/2) the row after the
node's own step, consensus step gamma and compressor Q,
    q_i = Q(phi_i^(1/2) - phi^_i),    phi^_i <- phi^_i + q_i  (at i and at its neighbours),
    phi_i <- phi_i^(1/2) + gamma sum_j W[i, j] (phi^_j - phi^_i).
Needs: undirected graph, doubly stochastic W, which may change; a contraction as Q; problem=classification.
Sends: one compressed row of P columns per edge and step.
State: ``hypernetwork`` [N, P], ``embeddings`` [N, 1, d], ``num_updates`` [N]; with spectral_norm also
``spectral_vectors`` [N, R]; without reset_momentum with sgd ``hypernetwork_momentum`` [N, P], ``embeddings_momentum``
[N, 1, d], with adam ``hypernetwork_mean`` [N, P], ``embeddings_mean`` [N, 1, d], ``hypernetwork_mean_square`` [N, P],
``embeddings_mean_square`` [N, 1, d]; on a static graph also ``choco/reference`` [N, 1, P], ``choco/mixed`` [N, 1, P];
on others, with S links of a node, also ``choco/sent`` [N, S, 1, P], ``choco/received`` [N, S, 1, P],
``choco/disagreement`` [N, 1, P].
Source: as pfedhn_gossip.py; Koloskova, Stich and Jaggi, ICML 2019 (arXiv 1902.00340), algorithm 2.
Departures: as pfedhn_gossip.py; references start at the common starting point.
"""

from dataclasses import dataclass
from typing import ClassVar

from simulator.algorithms.base import State
from simulator.algorithms.compressed.consensus_lr import (
    ConsensusLr,
    check_consensus_lr,
    check_theory_applies,
    consensus_lr,
)
from simulator.algorithms.compressed.references import References
from simulator.algorithms.hypernetworks.pfedhn_gossip import PFedHNGossip
from simulator.algorithms.hypernetworks.trainer import ROW
from simulator.algorithms.weights import Weights
from simulator.compressors.base import Compressor
from simulator.graphs.base import Graph
from simulator.network.network import Network
from simulator.problems.base import Problem


@dataclass(frozen=True, kw_only=True)
class PFedHNChoco(PFedHNGossip):
    """Hypernetworks and compressed gossip; further arguments as in :class:`PFedHNGossip`.

    Args:
        compressor: Q; its draws have the algorithm's seed.
        consensus_lr: gamma in (0, 1]; None for the compressor's, or ``theory`` (see consensus_lr.py).
    """

    weights: ClassVar[Weights] = Weights.SYMMETRIC
    push_sum_alternative: ClassVar[str] = "pfedhn_gossip"
    uses_compressor: ClassVar[bool] = True

    compressor: Compressor
    consensus_lr: ConsensusLr

    def __post_init__(self) -> None:
        super().__post_init__()
        check_consensus_lr(self.consensus_lr)

    @property
    def references(self) -> References:
        """What the nodes know of each other's hypernetworks."""
        return References(self.compressor, self.seed, "choco")

    def check_graph(self, graph: Graph) -> None:
        check_theory_applies(self.consensus_lr, graph)

    def init(self, problem: Problem, network: Network) -> State:
        state = super().init(problem, network)
        return state | self.references.init(state[ROW][:, None], network, known=True)

    def combine_(self, state: State, step: int, network: Network) -> None:
        rows = state[ROW]
        self.references.send_(state, rows[:, None], network, step)
        gamma = consensus_lr(self.consensus_lr, self.compressor, network.graph, rows.shape[1])
        rows.add_(self.references.disagreement(state)[:, 0], alpha=gamma)
