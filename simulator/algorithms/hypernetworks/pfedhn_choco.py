"""pFedHN without a hub, with compressed gossip of the hypernetworks (CHOCO-SGD).

Update equations: as pfedhn_gossip.py, with gossip as in CHOCO-SGD (see choco.py): with phi_i^(1/2) what the node's step
has made of phi_i, consensus step gamma and compressor Q,
    q_i = Q(phi_i^(1/2) - phi^_i),    phi^_i <- phi^_i + q_i  (at i and at its neighbours),
    phi_i <- phi_i^(1/2) + gamma sum_j W[i, j] (phi^_j - phi^_i).
Needs: undirected graph, doubly stochastic W, which may change; problem=classification.
Sends: one compressed row of P columns per edge and step.
Source: as pfedhn_gossip.py; Koloskova, Stich and Jaggi, ICML 2019 (arXiv 1902.00340), algorithm 2.
Departures: as pfedhn_gossip.py; references start at the common starting point.
"""

from dataclasses import dataclass
from typing import ClassVar

from simulator.algorithms.base import State, require_undirected
from simulator.algorithms.compressed.consensus_lr import (
    ConsensusLr,
    check_consensus_lr,
    check_theory_applies,
    consensus_lr,
)
from simulator.algorithms.compressed.references import References
from simulator.algorithms.hypernetworks.pfedhn_gossip import OWN_ROW, PFedHNGossip
from simulator.algorithms.weights import Weights
from simulator.compressors.base import Compressor
from simulator.graphs.base import Graph
from simulator.network.network import Network
from simulator.problems.base import Problem


@dataclass(frozen=True, kw_only=True)
class PFedHNChoco(PFedHNGossip):
    """Personalized federated learning by hypernetworks and compressed gossip; further arguments as its base class.

    Args:
        compressor: Q; its draws have the algorithm's seed.
        consensus_lr: gamma in (0, 1]; None for the compressor's, or ``theory`` (see consensus_lr.py).
    """

    weights: ClassVar[Weights] = Weights.SYMMETRIC
    push_sum_alternative: ClassVar[str] = "pfedhn_gossip"
    uses_compressor = True

    compressor: Compressor
    consensus_lr: ConsensusLr

    name: ClassVar[str] = "pfedhn_choco"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_consensus_lr(self.consensus_lr)

    @property
    def references(self) -> References:
        """What the nodes know of each other's hypernetworks."""
        return References(self.compressor, self.seed, "choco")

    def check_graph(self, graph: Graph) -> None:
        require_undirected(self.name, graph)
        check_theory_applies(self.consensus_lr, graph)

    def init(self, problem: Problem, network: Network) -> State:
        state = super().init(problem, network)
        return state | self.references.init(state[OWN_ROW][:, None], network, known=True)

    def combine_(self, state: State, step: int, network: Network) -> None:
        rows = state[OWN_ROW]
        self.references.send_(state, rows[:, None], network, step)
        gamma = consensus_lr(self.consensus_lr, self.compressor, network.graph, rows.shape[1])
        rows.add_(self.references.disagreement(state)[:, 0], alpha=gamma)
