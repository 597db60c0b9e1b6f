"""F2SA with gradient tracking: the penalty method with uncompressed messages, by default as a single loop.

Update equations: penalty_method.py and undirected_penalty.py with the true neighbours,
    A_i = sum_j w_ij (d_j - d_i),    B_i = sum_j w_ij (s_j - s_i),
and a penalty that may grow: lambda_c = penalty (1 + c)^penalty_growth for c = 0 before step 0 and c = t + 1 in step t.
Needs: symmetric, doubly stochastic W; any schedule; a bilevel problem.
Sends: 2 H numbers per edge and step, and 4 D numbers per edge and inner step; K inner steps more before step 0.
Source: Kwon, Kwon, Wright and Nowak, ICML 2023 (arXiv 2301.10945), there for one machine; gradient tracking as in
Nedic, Olshevsky and Shi, SIAM Journal on Optimization 2017 (arXiv 1607.03218).
Departures: decentralized; both solvers share a step size, y being on h_i / lambda.
"""

from dataclasses import dataclass

from torch import Tensor

from simulator.algorithms.base import State
from simulator.algorithms.bilevel.undirected_penalty import UndirectedPenalty, require_share
from simulator.network.network import Network


@dataclass(frozen=True, kw_only=True)
class F2SA(UndirectedPenalty):
    """F2SA with gradient tracking.

    Args:
        inner_consensus_lr: c of the inner solvers, in (0, 1].
        penalty_growth: exponent, 0 for a constant penalty.
    """

    inner_consensus_lr: float
    penalty_growth: float

    def __post_init__(self) -> None:
        super().__post_init__()
        require_share("algorithm.inner_consensus_lr", self.inner_consensus_lr)
        if self.penalty_growth < 0:
            raise ValueError(f"algorithm.penalty_growth={self.penalty_growth}: expected a number of at least 0")

    @property
    def consensus_lr(self) -> float:
        return self.inner_consensus_lr

    def penalty_at(self, call: int) -> float:
        return float(self.penalty * (1 + call) ** self.penalty_growth)

    def disagreement(self, state: State, round_index: int, network: Network) -> Tensor:
        vectors = state["vectors"]
        (mixed,) = network.mix((vectors.flatten(1),), round_index)
        return mixed.view_as(vectors).sub_(vectors)
