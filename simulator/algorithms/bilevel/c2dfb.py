"""C2DFB: decentralized bilevel optimization with first derivatives only and compressed residuals in the inner loops.

Update equations: penalty_method.py and undirected_penalty.py, with references d^_i and s^_i that everybody who hears
of node i knows alike (references.py) in
    A_i = sum_j w_ij (d^_j - d^_i),    B_i = sum_j w_ij (s^_j - s^_i);
after an inner step every node sends Q(d_i - d^_i) and Q(s_i - s^_i) of y and of z, which all add to the references.
As iterates and trackers settle, the residuals vanish, and with them the error of the compression.
Needs: symmetric, doubly stochastic W; any schedule; a bilevel problem; a contraction as Q.
Sends: 2 H numbers per edge and step, uncompressed, and 4 compressed vectors of D per edge and inner step, in one
message; K inner steps more before step 0.
Source: Wen, Liu, Abdelmoniem, Zhou and Xu, arXiv 2410.14115: a re-implementation from the public abstract and standard
components; the inner recursion is that of BEER, Zhao et al., NeurIPS 2022 (arXiv 2201.13320).
Departures: whatever the abstract does not say is this project's choice: the order of the updates, trackers that are
kept and corrected when x moves, y on h_i / penalty so that both solvers share a step size, x sent uncompressed.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from simulator.algorithms.base import State
from simulator.algorithms.bilevel.undirected_penalty import CompressedPenalty
from simulator.algorithms.compressed.references import References
from simulator.network.network import Network
from simulator.problems.base import Problem


@dataclass(frozen=True, kw_only=True)
class C2DFB(CompressedPenalty):
    """C2DFB; arguments as in :class:`CompressedPenalty`."""

    @property
    def references(self) -> References:
        """Those of y, z and their trackers."""
        return References(self.compressor, self.seed, "solvers")

    def init(self, problem: Problem, network: Network) -> State:
        state = super().init(problem, network)
        return {**state, **self.references.init(state["vectors"], network, known=True)}

    def disagreement(self, state: State, round_index: int, network: Network) -> Tensor:
        return self.references.disagreement(state)

    def announce_(self, state: State, round_index: int, network: Network) -> None:
        self.references.send_(state, state["vectors"], network, round_index)

    def tracked(self, state: State) -> Mapping[str, tuple[Tensor, Tensor]]:
        disagreement = self.references.disagreement(state)
        return {
            **super().tracked(state),
            "the disagreements of the references cancel": (disagreement, torch.zeros_like(disagreement)),
        }
