"""Exact diffusion, and D^2: adapt, correct by what the last adaptation missed, combine.

Update equations, with g_k = grad f(x_k) on the minibatch of step k, learning rate a and psi_0 = x_0:
    psi_{k+1} = x_k - a g_k,    x_{k+1} = ((1 - r) I + r W) (psi_{k+1} + x_k - psi_k),
which is  u = x_k - a (g_k + c_k),  x_{k+1} = u - r (I - W) u,  c_{k+1} = c_k + r (I - W) u / a  with c_0 = 0. The sum
over nodes of c stays 0. r = 1/2 is exact diffusion and r = 1 is D^2.
Needs: symmetric, doubly stochastic W; a static graph; (1 - r) I + r W with eigenvalues above -1/3, as r = 1/2 has
everywhere.
Sends: D numbers per edge and step.
Source: Yuan, Ying, Zhao and Sayed, IEEE TSP 2019 (arXiv 1702.05122), algorithm 1; Tang, Lian, Yan, Zhang and Liu, ICML
2018 (arXiv 1803.07068) for D^2.
Departures: learning rates may change over time, and c keeps its value then.
"""

from dataclasses import dataclass

from torch import Tensor

from simulator.algorithms import corrections
from simulator.algorithms.primal_dual.base import RelaxedMixing
from simulator.algorithms.primal_dual.corrected_descent import CorrectedDescent
from simulator.network.network import Network


@dataclass(frozen=True, kw_only=True)
class ExactDiffusion(RelaxedMixing, CorrectedDescent):
    """Exact diffusion.

    Args:
        lr, lr_schedule, relaxation: as :class:`RelaxedMixing`.
    """

    def correction(self, params: Tensor, network: Network) -> corrections.DualCorrection:
        return corrections.ExactDiffusion(self.relaxation)
