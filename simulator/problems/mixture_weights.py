"""Personalization by a mixture of shared learners (HGP-MTL): every node weights K models that all nodes train.

Update equations: p_i(label | a) = sum_k softmax(hparams_i)_k softmax(logits_k(a)); the loss is -log p_i.
r_i = outer_regularization / 2 ||hparams_i||^2. A row of parameters holds the K models one after the other.
Needs: a classification dataset.
Sends: nothing; problems compute.
Source: Terashita and Hara, arXiv 2210.02129, personalization with HGP-MTL; mixture as in FedEM, arXiv 2108.10252.
Departures: none.
"""

from typing import Literal

import torch
from torch import Tensor

from simulator.arrays import IntArray
from simulator.checks import require_at_least
from simulator.compute.executors import Head, LoopExecutor
from simulator.data.base import NodeData
from simulator.problems.classification import Classification
from simulator.problems.heads import MixedLearners, WeightedLearners
from simulator.problems.oracle import counted
from simulator.problems.scores import EVALUATION_BLOCK


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
        require_at_least("problem.num_learners", num_learners, 2)
        self.num_learners = num_learners

    def build_head(self, data: NodeData) -> Head:
        return MixedLearners(self.num_learners)

    def count_hparams(self, data: NodeData) -> int:
        return self.num_learners

    @torch.no_grad()
    def responsibilities(self, params: Tensor, hparams: Tensor) -> Tensor:
        """The probability that learner k made training sample j of node i, given its label; [N, S, K].

        S is the largest number of samples of a local node; rows past a node's own samples are 0.
        """
        split, executor = self.data.train, LoopExecutor(self.function, self.head)
        responsibilities = params.new_zeros(len(params), int(split.sizes.max(initial=0)), self.num_learners)
        for i, (offset, size) in enumerate(zip(split.offsets.tolist(), split.sizes.tolist(), strict=True)):
            for start in range(0, size, EVALUATION_BLOCK):
                rows = slice(offset + start, offset + min(start + EVALUATION_BLOCK, size))
                logits = executor.logits(params[i], split.inputs[rows].to(params.dtype))
                labels = split.labels[rows].expand(self.num_learners, -1).unsqueeze(-1)
                likelihood = logits.log_softmax(-1).gather(-1, labels).squeeze(-1).T + hparams[i].log_softmax(-1)
                responsibilities[i, start : start + len(likelihood)] = likelihood.softmax(-1)
        return responsibilities

    @counted("gradients")
    def weighted_grad_at(self, params: Tensor, shares: Tensor, steps: IntArray) -> Tensor:
        """Gradient of the learners' losses, sample j of learner k weighted with ``shares`` [N, S, K]; [N, K D].

        Args:
            steps: as in :meth:`grad_at`.
        """
        executor = self._executor("first_order", WeightedLearners(self.num_learners))
        out = params * self.weight_decay
        for batch in self.batches(steps, params.dtype):
            executor.add_gradient_(out, params, shares.flatten(1), batch, 1.0)
        return out
