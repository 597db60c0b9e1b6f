"""Losses of logits: plain cross-entropy, and the forms that depend on hyperparameters.

Shapes: any leading axes (nodes); K learners, B batch, C classes, H hyperparameters.
"""

import torch
from torch import Tensor

from simulator.compute.executors import Batch, Head


def weighted_nll(log_probabilities: Tensor, batch: Batch) -> Tensor:
    """Weighted negative log-likelihood, [...], of ``log_probabilities`` [..., B, C]."""
    picked = log_probabilities.gather(-1, batch.labels.unsqueeze(-1)).squeeze(-1)
    return -(picked * batch.weights).sum(-1)


class CrossEntropy(Head):
    """Cross-entropy of softmax(logits); no hyperparameters."""

    def loss(self, logits: Tensor, hparams: Tensor, batch: Batch) -> Tensor:
        return weighted_nll(logits.log_softmax(-1), batch)

    def predict(self, logits: Tensor, hparams: Tensor) -> Tensor:
        return logits.log_softmax(-1)

    def logit_gradient(self, logits: Tensor, hparams: Tensor, batch: Batch) -> Tensor:
        # The derivative of -log softmax(logits)[label] is softmax(logits) - onehot(label).
        # In three passes, because torch.softmax is several times slower over few classes.
        gradient = logits.sub_(logits.amax(-1, keepdim=True)).exp_()
        gradient.div_(gradient.sum(-1, keepdim=True))
        labels = batch.labels.unsqueeze(-1)
        gradient.scatter_add_(-1, labels, gradient.new_full((), -1.0).expand(labels.shape))
        return gradient.mul_(batch.weights.unsqueeze(-1))


class ScaledLogits(Head):
    """Cross-entropy of logits scaled class by class with C * softmax(hparams); hparams = 0 is the plain model."""

    def _scale(self, logits: Tensor, hparams: Tensor) -> Tensor:
        return logits * (hparams.shape[-1] * hparams.softmax(-1)).unsqueeze(-2)

    def loss(self, logits: Tensor, hparams: Tensor, batch: Batch) -> Tensor:
        return weighted_nll(self._scale(logits, hparams).log_softmax(-1), batch)

    def predict(self, logits: Tensor, hparams: Tensor) -> Tensor:
        return self._scale(logits, hparams).log_softmax(-1)

    def logit_gradient(self, logits: Tensor, hparams: Tensor, batch: Batch) -> Tensor:
        scale = (hparams.shape[-1] * hparams.softmax(-1)).unsqueeze(-2)
        return CrossEntropy().logit_gradient(logits * scale, hparams, batch).mul_(scale)


class MixedLearners(Head):
    """A mixture of K learners' probabilities with weights softmax(hparams), H = K."""

    def __init__(self, num_learners: int) -> None:
        self.num_learners = num_learners

    def predict(self, logits: Tensor, hparams: Tensor) -> Tensor:
        log_weights = hparams.log_softmax(-1)[..., :, None, None]
        return torch.logsumexp(logits.log_softmax(-1) + log_weights, dim=-3)

    def loss(self, logits: Tensor, hparams: Tensor, batch: Batch) -> Tensor:
        return weighted_nll(self.predict(logits, hparams), batch)


class WeightedLearners(Head):
    """The sum of K learners' cross-entropies, in which hparams[j * K + k] multiplies sample j's loss of learner k."""

    def __init__(self, num_learners: int) -> None:
        self.num_learners = num_learners

    def loss(self, logits: Tensor, hparams: Tensor, batch: Batch) -> Tensor:
        labels = batch.labels[..., None, :, None].expand(*logits.shape[:-1], 1)
        picked = logits.log_softmax(-1).gather(-1, labels).squeeze(-1)
        shares = hparams.unflatten(-1, (-1, self.num_learners)).transpose(-1, -2)
        index = batch.index.unsqueeze(-2).expand(picked.shape)
        weighted: Tensor = picked * shares.gather(-1, index) * batch.weights.unsqueeze(-2)
        return -weighted.sum((-1, -2))

    def predict(self, logits: Tensor, hparams: Tensor) -> Tensor:
        raise AssertionError("weights of training samples define no predictions")


class MaskedSamples(Head):
    """Cross-entropy in which hparams[j] multiplies the loss of training sample j of a batch mean."""

    def loss(self, logits: Tensor, hparams: Tensor, batch: Batch) -> Tensor:
        log_probabilities = logits.log_softmax(-1)
        picked = log_probabilities.gather(-1, batch.labels.unsqueeze(-1)).squeeze(-1)
        return -(picked * batch.weights * hparams.gather(-1, batch.index)).sum(-1)

    def predict(self, logits: Tensor, hparams: Tensor) -> Tensor:
        return logits.log_softmax(-1)


class WeighedSamples(MaskedSamples):
    """Cross-entropy in which sigmoid(hparams[j]) multiplies the loss of training sample j of a batch mean."""

    def loss(self, logits: Tensor, hparams: Tensor, batch: Batch) -> Tensor:
        return super().loss(logits, hparams.sigmoid(), batch)
