"""C2DFB with naive compression: iterates and trackers are compressed instead of residuals.

Update equations: the step of penalty_method.py with the gossip of naive_gossip.py. With constant steps an error stays
whose size shrinks with the step sizes.
Needs: symmetric, doubly stochastic W; any schedule; a bilevel problem; with error feedback a contraction as Q.
Sends: what C2DFB sends, in as many bytes.
State: ``hparams`` [N, H], ``hparam_tracker`` [N, H], ``surrogate`` [N, H], ``vectors`` [N, 4, D], ``gradients``
[N, 2, D]; with error feedback also ``cut_off`` [N, 4, D].
Source: error feedback is that of Stich, Cordonnier and Jaggi, NeurIPS 2018 (arXiv 1809.07599).
Departures: Wen et al., arXiv 2410.14115, have a naive variant, of which their public abstract says nothing: this one is
this project's, with and without error feedback.
"""

from dataclasses import dataclass
from typing import ClassVar

from simulator.algorithms.bilevel.naive_gossip import NaiveGossip
from simulator.algorithms.bilevel.penalty_method import PenaltyMethod
from simulator.algorithms.bilevel.shared_bilevel import require_fraction
from simulator.algorithms.compressed.vector_coding import VectorCoding
from simulator.algorithms.weights import Weights
from simulator.compressors.base import Compressor


@dataclass(frozen=True, kw_only=True)
class C2DFBNaive(PenaltyMethod):
    """The penalty method with naive compression; further arguments as in :class:`PenaltyMethod`.

    Args:
        outer_consensus_lr: how far x and its trackers move towards the neighbours' mean, in (0, 1].
        inner_consensus_lr: the same for the inner solvers; None for what suits the compressor.
        error_feedback: add to each message what compression cut off the messages before.
        seed: of the draws of random compressors.
        compressor: Q.
    """

    weights: ClassVar[Weights] = NaiveGossip.weights
    uses_compressor: ClassVar[bool] = True

    outer_consensus_lr: float
    inner_consensus_lr: float | None
    error_feedback: bool
    seed: int
    compressor: Compressor

    def __post_init__(self) -> None:
        super().__post_init__()
        require_fraction("algorithm.outer_consensus_lr", self.outer_consensus_lr)
        require_fraction("algorithm.inner_consensus_lr", self.inner_consensus_lr)

    @property
    def gossip(self) -> NaiveGossip:
        return NaiveGossip(
            outer_consensus_lr=self.outer_consensus_lr,
            inner_consensus_lr=self.inner_consensus_lr or self.compressor.consensus_lr,
            coding=VectorCoding(self.compressor, self.seed, "solvers"),
            error_feedback=self.error_feedback,
        )
