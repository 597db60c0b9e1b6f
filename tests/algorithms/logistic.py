"""Regularised logistic regression over push-sum, written out in float64 NumPy, as an oracle for the studies.

Shapes: n nodes, B samples of a node, D = features + 1 (the bias stands last).
"""

import numpy as np

from simulator.data.synthetic_mixture import SyntheticMixture


class Logistic:
    """Nodes with ``inputs`` [n, B, D], a last column of ones, and 0/1 ``labels`` [n, B]."""

    def __init__(self, inputs, labels):
        self.inputs, self.labels = inputs, labels

    @classmethod
    def of(cls, dataset: SyntheticMixture, split):
        samples = dataset.load()
        rows = np.stack([getattr(node, split) for node in samples.node_indices])
        features = samples.inputs.numpy().astype(np.float64)[rows]
        return cls(np.concatenate([features, np.ones((*rows.shape, 1))], axis=2), samples.labels.numpy()[rows])

    def chances(self, z):
        return 1 / (1 + np.exp(-np.einsum("nbd,nd->nb", self.inputs, z)))

    def losses(self, z):
        p = self.chances(z)
        return -np.where(self.labels == 1, np.log(p), np.log(1 - p)).mean(axis=1)

    def sample_gradients(self, z):
        """[n, B, D]"""
        return (self.chances(z) - self.labels)[..., None] * self.inputs

    def gradient(self, z, decay, masks=1.0):
        weights = np.broadcast_to(masks, self.labels.shape)
        return (weights[..., None] * self.sample_gradients(z)).mean(axis=1) + decay * z

    def hessians(self, z, decay):
        p = self.chances(z)
        curved = np.einsum("nb,nbd,nbe->nde", p * (1 - p), self.inputs, self.inputs) / self.labels.shape[1]
        return curved + decay * np.eye(z.shape[1])


def train(train_set, start, matrices, lrs, decay, masks=1.0):
    """SGP, adapt then mix, with the full batch; returns the debiased parameters [n, D]."""
    x, w = start.copy(), np.ones(len(start))
    for P, lr in zip(matrices, lrs, strict=True):
        g = train_set.gradient(x / w[:, None], decay, masks)
        x, w = P @ (x - lr * g), P @ w
    return x / w[:, None]


def pushed(outer_gradient, hessians, cross, matrices, num_pushes, step_size, preserving=False):
    """v after every term of the series; ``cross`` maps s [n, D] to the mixed products [n, H]."""
    n = len(outer_gradient)
    u, v, w, found = outer_gradient / n, 0.0, np.ones(n), []
    for start in range(0, len(matrices), num_pushes):
        if not preserving:
            w = np.ones(n)
        for P in matrices[start : start + num_pushes]:
            u, w = P @ u, P @ w
        s = u / w[:, None]
        v = v - step_size * cross(s)
        u = (u if preserving else s) - step_size * np.einsum("nde,ne->nd", hessians, s)
        found.append(v)
    return np.stack(found)
