"""EXTRA: gradient descent over mixing, whose error a sum over all earlier disagreements takes away.

Update equations, with g_k = grad f(x_k) on the minibatch of step k and learning rate a:
    x_1 = W x_0 - a g_0,    x_{k+1} = (I + W) x_k - (I + W) / 2 x_{k-1} - a (g_k - g_{k-1}),
which is  x_{k+1} = W x_k - a (g_k + c_k),  c_{k+1} = c_k + (I - W) x_k / (2 a)  with c_0 = 0. The sum over nodes of c
stays 0.
Needs: symmetric, doubly stochastic W; a static graph. a must be below (1 + l) / L, with l the smallest eigenvalue of W
and L the largest curvature; exact diffusion and NIDS need less than 2 / L, whatever the graph.
Sends: D numbers per edge and step.
Source: Shi, Ling, Wu and Yin, SIAM Journal on Optimization 2015 (arXiv 1404.6264), algorithm 1 with W~ = (I + W) / 2.
Departures: minibatches; learning rates may change over time, and c keeps its value then.
"""

from dataclasses import dataclass

from torch import Tensor

from simulator.algorithms.corrections import DualCorrection, Extra
from simulator.algorithms.primal_dual.corrected_descent import CorrectedDescent
from simulator.network.network import Network


@dataclass(frozen=True, kw_only=True)
class EXTRA(CorrectedDescent):
    """EXTRA.

    Args:
        lr, lr_schedule: as :class:`PrimalDual`.
    """

    def correction(self, params: Tensor, network: Network) -> DualCorrection:
        return Extra()
