"""Compressed gossip: decentralized SGD whose messages are the compressed parameters themselves.

Update equations, with W doubly stochastic, consensus step gamma and compressor Q; x_i^(1/2) is x_i after the gradient
steps of D-SGD (see dsgd.py, for learning rate, momentum, local steps and the average for evaluation too):
    m_i = Q(x_i^(1/2) + e_i),    x_i <- x_i^(1/2) + gamma sum_j W[i, j] (m_j - m_i)
    error_feedback=true:  e_i <- e_i + x_i^(1/2) - m_i,    false:  e_i = 0
With order=combine_and_adapt gossip comes first and the gradient steps, taken from the old x_i, are added after it.
The mean over nodes moves as without compression, but Q(x) does not become exact as x settles: with constant steps the
nodes keep disagreeing. It is what CHOCO-SGD (choco.py) is compared with.
State: ``params`` [N, D]; with error_feedback also ``compression_error`` [N, D]; with momentum also ``momentum`` [N, D];
with ema also ``average`` [N, D].
Needs: doubly stochastic W; any schedule. Error feedback and consensus_lr=theory need a contraction. The analyses of
scheme Q2-G assume an unbiased Q, which compressor.unbiased=true gives for qsgd and random_k.
Sends: one compressed row of D columns per edge and step.
Source: scheme Q2-G as in Koloskova, Stich and Jaggi, ICML 2019 (arXiv 1902.00340); error feedback as
in Stich, Cordonnier and Jaggi, NeurIPS 2018 (arXiv 1809.07599).
Departures: a consensus step gamma below 1; Q may be biased (top_k, sign, and qsgd and random_k with unbiased=false),
which the analyses of Q2-G do not cover. With gamma = 1 and an unbiased Q it is their scheme.
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
from simulator.algorithms.compressed.requirements import require_contraction
from simulator.algorithms.compressed.vector_coding import VectorCoding
from simulator.algorithms.gossip.dsgd import CombinedDescent
from simulator.algorithms.weights import Weights
from simulator.compressors.base import Compressor
from simulator.graphs.base import Graph
from simulator.network.network import Network
from simulator.padding import zeros_as
from simulator.problems.base import Problem


@dataclass(frozen=True, kw_only=True)
class CompressedGossip(CombinedDescent):
    """D-SGD with compressed parameters as messages.

    Args:
        compressor: Q.
        seed: of the draws of random compressors.
        consensus_lr: gamma in (0, 1]; None for the compressor's, or ``theory`` (see consensus_lr.py).
        error_feedback: whether what compression has left out is added to the next message.
        lr, lr_schedule, momentum, order, local_steps, ema: as ``CombinedDescent`` in gossip/dsgd.py.
    """

    weights: ClassVar[Weights] = Weights.DOUBLY_STOCHASTIC
    push_sum_alternative: ClassVar[str] = "quantized_push_sum"
    uses_compressor = True

    compressor: Compressor
    seed: int
    consensus_lr: ConsensusLr
    error_feedback: bool

    def __post_init__(self) -> None:
        super().__post_init__()
        check_consensus_lr(self.consensus_lr)

    def check_graph(self, graph: Graph) -> None:
        check_theory_applies(self.consensus_lr, graph)

    def init(self, problem: Problem, network: Network) -> State:
        state = super().init(problem, network)
        if self.error_feedback:
            require_contraction(self.compressor, state["params"].shape[1], "error feedback")
            state["compression_error"] = zeros_as(state["params"])
        return state

    def combine(self, rows: Tensor, state: State, step: int, network: Network) -> Tensor:
        message = rows + state["compression_error"] if self.error_feedback else rows
        coding = VectorCoding(self.compressor, self.seed, "compressed_gossip")
        values, mixed = (vectors[:, 0] for vectors in coding.mix(message[:, None], network, step))
        if self.error_feedback:
            state["compression_error"] = message - values
        gamma = consensus_lr(self.consensus_lr, self.compressor, network.graph, rows.shape[1])
        return rows.add(mixed.sub_(values), alpha=gamma)
