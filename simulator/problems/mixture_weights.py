"""Personalization by a mixture of shared learners (HGP-MTL): every node weights K models that all nodes train.

Update equations: p_i(label | a) = sum_k softmax(hparams_i)_k softmax(logits_k(a)); the loss is -log p_i.
r_i = outer_regularization / 2 ||hparams_i||^2. A row of parameters holds the K models one after the other.
Needs: a classification dataset.
Sends: nothing; problems compute.
Source: Terashita and Hara, arXiv 2210.02129, personalization with HGP-MTL; mixture as in FedEM, arXiv 2108.10252.
Departures: none.
"""

from typing import Literal

from simulator.compute import Head
from simulator.data.base import NodeData
from simulator.problems.classification import Classification
from simulator.problems.heads import MixedLearners


class MixtureWeights(Classification):
    """One hyperparameter per learner at every node.

    Args:
        num_learners: K, at least 2.
        batch_size, drop_last, weight_decay, outer_split, outer_regularization: as in :class:`Classification`.
    """

    def __init__(
        self,
        *,
        num_learners: int,
        batch_size: int | None,
        drop_last: bool,
        weight_decay: float,
        outer_split: Literal["train", "valid"],
        outer_regularization: float = 0.0,
    ) -> None:
        super().__init__(
            batch_size=batch_size,
            drop_last=drop_last,
            weight_decay=weight_decay,
            outer_split=outer_split,
            outer_regularization=outer_regularization,
        )
        if num_learners < 2:
            raise ValueError(f"problem.num_learners={num_learners}: expected at least 2")
        self.num_learners = num_learners

    def build_head(self, data: NodeData) -> Head:
        return MixedLearners(self.num_learners)

    def count_hparams(self, data: NodeData) -> int:
        return self.num_learners
