"""One weight per training sample, for studies of the influence of training samples.

Update equations: f_i(x, h) = mean_j h_ij loss_j + weight_decay / 2 ||x||^2 with the batch size as denominator, h = 1 at
the start; the outer loss is the bare mean loss.
Needs: a classification dataset.
Sends: nothing; problems compute.
Source: Terashita and Hara, arXiv 2210.02129, the study of influential samples.
Departures: nodes with fewer samples than the largest node have masks that are not used.
"""

from typing import ClassVar

from simulator.compute.executors import Head
from simulator.data.base import NodeData
from simulator.problems.classification import Classification
from simulator.problems.heads import MaskedSamples


class SampleMasks(Classification):
    """One hyperparameter per training sample of the largest node, at every node."""

    hparams_enter_outer: ClassVar[bool] = False

    def build_head(self, data: NodeData) -> Head:
        return MaskedSamples()

    def count_hparams(self, data: NodeData) -> int:
        return int(data.train_sizes.max())

    def initial_hparam(self) -> float:
        return 1.0
