"""F2SA with gradient tracking: the penalty method with uncompressed messages, by default as a single loop.

Update equations: the step of penalty_method.py with the gossip of exact_gossip.py and a penalty that may grow:
lambda_c = penalty (1 + c)^penalty_growth for c = 0 in the setup and c = t + 1 in step t.
Needs: symmetric, doubly stochastic W; any schedule; a bilevel problem.
Sends: 2 H numbers per edge and step, and 4 D numbers per edge and inner step; K inner steps more before step 0.
State: ``hparams`` [N, H], ``hparam_tracker`` [N, H], ``surrogate`` [N, H], ``vectors`` [N, 4, D], ``gradients``
[N, 2, D].
Source: Kwon, Kwon, Wright and Nowak, ICML 2023 (arXiv 2301.10945), there for one machine; gradient tracking as in
Nedic, Olshevsky and Shi, SIAM Journal on Optimization 2017 (arXiv 1607.03218).
Departures: decentralized; both solvers share a step size, y being on h_i / lambda.
"""

from dataclasses import dataclass
from typing import ClassVar

from simulator.algorithms.bilevel.exact_gossip import ExactGossip
from simulator.algorithms.bilevel.penalty_method import PenaltyMethod
from simulator.algorithms.bilevel.shared_bilevel import require_fraction
from simulator.algorithms.weights import Weights


@dataclass(frozen=True, kw_only=True)
class F2SA(PenaltyMethod):
    """The penalty method with uncompressed messages; further arguments as in :class:`PenaltyMethod`.

    Args:
        outer_consensus_lr: how far x and its trackers move towards the neighbours' mean, in (0, 1].
        inner_consensus_lr: the same for the inner solvers, in (0, 1].
        penalty_growth: exponent, 0 for a constant penalty.
    """

    weights: ClassVar[Weights] = ExactGossip.weights

    outer_consensus_lr: float
    inner_consensus_lr: float
    penalty_growth: float

    def __post_init__(self) -> None:
        super().__post_init__()
        require_fraction("algorithm.outer_consensus_lr", self.outer_consensus_lr)
        require_fraction("algorithm.inner_consensus_lr", self.inner_consensus_lr)
        if self.penalty_growth < 0:
            raise ValueError(f"algorithm.penalty_growth={self.penalty_growth}: expected a number of at least 0")

    @property
    def gossip(self) -> ExactGossip:
        return ExactGossip(outer_consensus_lr=self.outer_consensus_lr, inner_consensus_lr=self.inner_consensus_lr)

    def penalty_at(self, call: int) -> float:
        return float(self.penalty * (1 + call) ** self.penalty_growth)
