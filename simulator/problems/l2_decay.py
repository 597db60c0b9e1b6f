"""Tuning of the weight decay, one coefficient per node.

Update equations: f_i(x, h) = mean loss + h_i / 2 ||x||^2, so that d2 f_i / dh dx v = <x, v>; the outer loss is the bare
mean loss.
Needs: a classification dataset.
Sends: nothing; problems compute.
Source: Terashita and Hara, arXiv 2210.02129, the study of the estimation error.
Departures: none.
"""

from typing import ClassVar

from torch import Tensor

from simulator.data.base import NodeData
from simulator.problems.classification import Classification


class L2Decay(Classification):
    """One hyperparameter per node, which starts at 0; ``weight_decay`` is added to it."""

    hparams_enter_outer: ClassVar[bool] = False

    def count_hparams(self, data: NodeData) -> int:
        return 1

    def l2_coefficients(self, hparams: Tensor) -> Tensor | float:
        return hparams + self.weight_decay

    def add_l2_cross_(self, out: Tensor, params: Tensor, vector: Tensor) -> None:
        out.add_((params * vector).sum(dim=1, keepdim=True))
