"""MoTEF: compressed gossip whose trackers follow the nodes' momenta instead of their gradients.

Update equations, with W symmetric and doubly stochastic, learning rate a_t, consensus step gamma, compressor Q and
averaging rate lambda; g_t is the gradient at x on the minibatch of step t, and v = m = g_0 at the start:
    x_i <- x_i + gamma sum_j W[i, j] (x^_j - x^_i) - a_t v_i
    q_i = Q(x_i - x^_i),    x^_i <- x^_i + q_i  (at i and at its neighbours)
    m_i' = (1 - lambda) m_i + lambda g_{t+1}
    v_i <- v_i + gamma sum_j W[i, j] (v^_j - v^_i) + m_i' - m_i,    m_i <- m_i'
    p_i = Q(v_i - v^_i),    v^_i <- v^_i + p_i  (at i and at its neighbours)
The mean of v is that of m at every step, whatever the compressor and the noise. m averages the noise of minibatches
over about 1 / lambda steps. With lambda = 1 this is BEER (see beer.py).
State: ``params`` [N, D], ``momentum`` [N, D], ``tracker`` [N, D]; on a static graph also ``motef/reference``
[N, 2, D], ``motef/mixed`` [N, 2, D]; on other graphs, with S links that a node may ever have, also ``motef/sent``
[N, S, 2, D], ``motef/received`` [N, S, 2, D], ``motef/disagreement`` [N, 2, D].
Needs: undirected graph, doubly stochastic W; any schedule; a contraction as Q. Where the schedule changes, references
are kept by link (see references.py).
Sends: two compressed rows of D columns per edge and step, in one message.
Source: Islamov, Gao and Stich (arXiv 2405.20114), algorithm 1; the equations are as in the authors' public code.
Departures: references of the parameters start at the common starting point; learning rates may change over time; where
the schedule changes, gossip uses the links of the round before.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from simulator.algorithms.compressed.tracking import CompressedTracking
from simulator.checks import require_within


@dataclass(frozen=True, kw_only=True)
class MoTEF(CompressedTracking):
    """Compressed momentum tracking.

    Args:
        averaging: lambda in (0, 1], the share of the new gradient in the momentum.
        compressor, seed, consensus_lr, lr, lr_schedule: as :class:`CompressedTracking`.
    """

    prefix: ClassVar[str] = "motef"
    followed: ClassVar[str] = "momentum"

    averaging: float

    def __post_init__(self) -> None:
        super().__post_init__()
        require_within("algorithm.averaging", self.averaging, "(0, 1]")

    def follow(self, before: Tensor, gradient: Tensor) -> Tensor:
        return gradient.lerp_(before, 1.0 - self.averaging)
