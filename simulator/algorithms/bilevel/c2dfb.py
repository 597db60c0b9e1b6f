"""C2DFB: decentralized bilevel optimization with first derivatives only and compressed residuals in the inner loops.

Update equations: the step of penalty_method.py with the gossip of reference_gossip.py.
Needs: symmetric, doubly stochastic W; any schedule; a bilevel problem; a contraction as Q.
Sends: 2 H numbers per edge and step, uncompressed, and 4 compressed vectors of D per edge and inner step, in one
message; K inner steps more before step 0.
State: ``hparams`` [N, H], ``hparam_tracker`` [N, H], ``surrogate`` [N, H], ``vectors`` [N, 4, D], ``gradients``
[N, 2, D]; on a static graph also ``solvers/reference`` [N, 4, D], ``solvers/mixed`` [N, 4, D]; on others, with S links
of a node, also ``solvers/sent`` [N, S, 4, D], ``solvers/received`` [N, S, 4, D], ``solvers/disagreement`` [N, 4, D].
Source: Wen, Liu, Abdelmoniem, Zhou and Xu, arXiv 2410.14115: a re-implementation from the public abstract and standard
components; the inner recursion is that of BEER, Zhao et al., NeurIPS 2022 (arXiv 2201.13320).
Departures: whatever the abstract does not say is this project's choice: the order of the updates, trackers that are
kept and corrected when x moves, y on h_i / penalty so that both solvers share a step size, x sent uncompressed.
"""

from dataclasses import dataclass
from typing import ClassVar

from simulator.algorithms.bilevel.penalty_method import PenaltyMethod
from simulator.algorithms.bilevel.reference_gossip import ReferenceGossip
from simulator.algorithms.bilevel.shared_bilevel import require_fraction
from simulator.algorithms.compressed.references import References
from simulator.algorithms.weights import Weights
from simulator.compressors.base import Compressor


@dataclass(frozen=True, kw_only=True)
class C2DFB(PenaltyMethod):
    """The penalty method with compressed residuals; further arguments as in :class:`PenaltyMethod`.

    Args:
        outer_consensus_lr: how far x and its trackers move towards the neighbours' mean, in (0, 1].
        inner_consensus_lr: the same for the inner solvers; None for what suits the compressor.
        seed: of the draws of random compressors.
        compressor: Q.
    """

    weights: ClassVar[Weights] = ReferenceGossip.weights
    uses_compressor: ClassVar[bool] = True

    outer_consensus_lr: float
    inner_consensus_lr: float | None
    seed: int
    compressor: Compressor

    def __post_init__(self) -> None:
        super().__post_init__()
        require_fraction("algorithm.outer_consensus_lr", self.outer_consensus_lr)
        require_fraction("algorithm.inner_consensus_lr", self.inner_consensus_lr)

    @property
    def gossip(self) -> ReferenceGossip:
        return ReferenceGossip(
            outer_consensus_lr=self.outer_consensus_lr,
            inner_consensus_lr=self.inner_consensus_lr or self.compressor.consensus_lr,
            references=References(self.compressor, self.seed, "solvers"),
        )
