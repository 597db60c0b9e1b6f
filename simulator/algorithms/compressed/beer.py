"""BEER: gradient tracking whose messages are compressed residuals against references that neighbours share.

Update equations, with W symmetric and doubly stochastic, learning rate a_t, consensus step gamma and compressor Q; g_t
is the gradient at x on the minibatch of step t, and v = g_0 at the start:
    x_i <- x_i + gamma sum_j W[i, j] (x^_j - x^_i) - a_t v_i
    q_i = Q(x_i - x^_i),    x^_i <- x^_i + q_i  (at i and at its neighbours)
    v_i <- v_i + gamma sum_j W[i, j] (v^_j - v^_i) + g_{t+1} - g_t
    p_i = Q(v_i - v^_i),    v^_i <- v^_i + p_i  (at i and at its neighbours)
The mean of v is that of g at every step, whatever the compressor and the noise; with exact gradients a constant a_t
reaches the common minimiser however unlike the nodes are.
State: ``params`` [N, D], ``gradient`` [N, D], ``tracker`` [N, D]; on a static graph also ``beer/reference`` [N, 2, D],
``beer/mixed`` [N, 2, D]; on other graphs, with S links that a node may ever have, also ``beer/sent`` [N, S, 2, D],
``beer/received`` [N, S, 2, D], ``beer/disagreement`` [N, 2, D].
Needs: undirected graph, doubly stochastic W; any schedule; a contraction as Q. Where the schedule changes, references
are kept by link (see references.py).
Sends: two compressed rows of D columns per edge and step, in one message.
Source: Zhao, Li, Li, Richtarik and Chi, NeurIPS 2022 (arXiv 2201.13320), algorithm 1.
Departures: learning rates may change over time; where the schedule changes, gossip uses the links of the round before.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from simulator.algorithms.compressed.tracking import CompressedTracking


@dataclass(frozen=True, kw_only=True)
class BEER(CompressedTracking):
    """Compressed gradient tracking; see :class:`CompressedTracking` for the arguments."""

    prefix: ClassVar[str] = "beer"
    followed: ClassVar[str] = "gradient"

    def follow(self, before: Tensor, gradient: Tensor) -> Tensor:
        return gradient
