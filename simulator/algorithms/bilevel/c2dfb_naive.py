"""C2DFB with naive compression: iterates and trackers are compressed instead of residuals.

Update equations: penalty_method.py and undirected_penalty.py, where in an inner step for every v of d (y or z) and s
(its tracker)
    m_i = Q(v_i + e_i),    e_i <- v_i + e_i - m_i (without error feedback e_i = 0),    A_i = sum_j w_ij (m_j - m_i).
Means over nodes are kept as with residuals, but Q(d) is not exact where d ends up: with constant steps an error stays
whose size shrinks with the step sizes.
Needs: symmetric, doubly stochastic W; any schedule; a bilevel problem.
Sends: what C2DFB sends, in as many bytes.
Source: error feedback is that of Stich, Cordonnier and Jaggi, NeurIPS 2018 (arXiv 1809.07599).
Departures: Wen et al., arXiv 2410.14115, have a naive variant, of which their public abstract says nothing: this one is
this project's, with and without error feedback.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from simulator.algorithms.base import State
from simulator.algorithms.bilevel.undirected_penalty import CompressedPenalty
from simulator.algorithms.compressed.vector_coding import VectorCoding
from simulator.network.network import Network
from simulator.problems.base import Problem


@dataclass(frozen=True, kw_only=True)
class C2DFBNaive(CompressedPenalty):
    """C2DFB with naive compression; further arguments as in :class:`CompressedPenalty`.

    Args:
        error_feedback: add to each message what compression cut off the messages before.
    """

    error_feedback: bool

    def init(self, problem: Problem, network: Network) -> State:
        state = super().init(problem, network)
        return {**state, "cut_off": torch.zeros_like(state["vectors"])} if self.error_feedback else state

    def disagreement(self, state: State, round_index: int, network: Network) -> Tensor:
        wanted = state["vectors"]
        if self.error_feedback:
            wanted = wanted + state["cut_off"]
        values, mixed = VectorCoding(self.compressor, self.seed, "solvers").mix(wanted, network, round_index)
        if self.error_feedback:
            torch.sub(wanted, values, out=state["cut_off"])
        return mixed.sub_(values)
