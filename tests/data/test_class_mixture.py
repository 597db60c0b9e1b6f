"""Mixtures of classes by node: everything is dealt out, and mixtures follow their concentrations."""

import numpy as np
import pytest
import torch

from simulator.data.base import Samples
from simulator.data.partitions.class_mixture import ClassMixture

NUM_CLASSES = 10


def samples_of(num_samples=6000):
    labels = torch.from_numpy(np.random.default_rng(0).permutation(np.arange(num_samples) % NUM_CLASSES))
    return Samples(inputs=torch.zeros(num_samples, 1), labels=labels, num_classes=NUM_CLASSES, num_train=num_samples)


def partition_of(**changes):
    settings = {"alpha": 0.1, "num_novel": 0, "novel_alphas": [], "min_samples": 5, "skip_hub": False}
    settings |= {"valid_fraction": 0.2, "test_fraction": 0.2, "test": "node", "seed": 1}
    return ClassMixture(**{**settings, **changes})


def shares_of(nodes, labels):
    """Classes of every node, [N, C]."""
    rows = [np.concatenate([node.train, node.valid, node.test]) for node in nodes]
    counts = np.stack([np.bincount(labels[row], minlength=NUM_CLASSES) for row in rows])
    return counts / counts.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("skip_hub", [False, True])
def test_every_sample_has_one_owner(skip_hub):
    samples = samples_of()
    nodes = partition_of(skip_hub=skip_hub, num_novel=3, novel_alphas=[0.5, 1.0]).split(samples, 20)
    rows = np.concatenate([np.concatenate([node.train, node.valid, node.test]) for node in nodes])
    assert np.sort(rows).tolist() == list(range(6000))
    sizes = [len(node.train) + len(node.valid) + len(node.test) for node in nodes]
    assert min(sizes[skip_hub:]) >= 5
    assert (sizes[0] == 0) is skip_hub


def test_mixtures_follow_their_concentrations():
    """The largest share of a class in a mixture of 10 classes: about 0.67 for concentration 0.1 and 0.15 for 30."""
    samples = samples_of(60_000)
    partition = partition_of(num_novel=60, novel_alphas=[0.1, 30.0])
    largest = shares_of(partition.split(samples, 160), samples.labels.numpy()).max(axis=1)
    known = np.random.default_rng(0)
    for chosen, alpha in ((np.arange(100), 0.1), (np.arange(100, 160, 2), 0.1), (np.arange(101, 160, 2), 30.0)):
        expected = known.dirichlet(np.full(NUM_CLASSES, alpha), size=4000).max(axis=1).mean()
        # Dividing by the sum over nodes changes mixtures a little.
        assert largest[chosen].mean() == pytest.approx(expected, abs=0.1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"alpha": 0.0}, "partition.alpha=0.0"),
        ({"num_novel": 2}, r"partition.novel_alphas=\[\]"),
        ({"num_novel": 2, "novel_alphas": [1.0, -1.0]}, "expected positive and finite"),
        ({"num_novel": -1}, "num_novel=-1"),
        ({"num_novel": 5, "novel_alphas": [1.0]}, "num_novel=5: only 4 nodes hold data"),
        ({"min_samples": 5000}, "partition.min_samples=5000: none of 100 draws"),
    ],
)
def test_what_cannot_be_dealt_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        partition_of(**changes).split(samples_of(), 4)
