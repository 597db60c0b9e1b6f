"""Partitions: what is dealt out is a disjoint cover, with the sizes and the skew that each one promises."""

import time

import numpy as np
import pytest
import torch

from simulator.data.base import NodeIndices, Samples
from simulator.data.partitions.as_given import AsGiven
from simulator.data.partitions.class_skew import ClassSkew
from simulator.data.partitions.dirichlet import Dirichlet
from simulator.data.partitions.dirichlet_shift import DirichletShift
from simulator.data.partitions.iid import Iid
from simulator.data.partitions.shards import Shards

NUM_CLASSES = 10
COMMON = {"valid_fraction": 0.2, "test_fraction": 0.1, "test": "node", "seed": 3}
SHIFT = {
    "alpha": 0.5,
    "num_label_clusters": None,
    "sample_fraction": 1.0,
    "min_samples": 5,
    "feature_shift": True,
    "num_shift_clusters": 3,
    "min_std": 0.1,
}
MAKERS = {
    "iid": lambda **changes: Iid(**{**COMMON, **changes}),
    "dirichlet": lambda **changes: Dirichlet(**{**COMMON, "alpha": 0.5, "min_samples": 5, **changes}),
    "class_skew": lambda **changes: ClassSkew(**{**COMMON, "heterogeneity": 0.8, **changes}),
    "shards": lambda **changes: Shards(**{**COMMON, "shards_per_node": 2, **changes}),
    "dirichlet_shift": lambda **changes: DirichletShift(**{**COMMON, **SHIFT, **changes}),
}


def make_samples(count=2000, num_train=None, num_classes=NUM_CLASSES):
    rng = np.random.default_rng(0)
    labels = torch.from_numpy(rng.choice(num_classes, size=count, p=np.arange(1, num_classes + 1) / (55.0)))
    return Samples(
        inputs=torch.zeros(count, 1),
        labels=labels,
        num_classes=num_classes,
        num_train=count if num_train is None else num_train,
    )


def owned(node):
    return np.concatenate([node.train, node.valid, node.test])


@pytest.mark.parametrize("name", MAKERS)
class TestEveryDealtPartition:
    def test_own_test_sets_cover_everything_once(self, name):
        samples = make_samples(num_train=1500)  # the official sets are pooled
        nodes = MAKERS[name]().split(samples, 13)
        rows = np.concatenate([owned(node) for node in nodes])
        np.testing.assert_array_equal(np.sort(rows), np.arange(2000))
        for node in nodes:
            size = len(owned(node))
            assert len(node.valid) == (2 * size) // 10
            assert len(node.test) == size // 10

    def test_shared_test_is_the_official_one(self, name):
        nodes = MAKERS[name](test="shared").split(make_samples(num_train=1500), 7)
        rows = np.concatenate([np.r_[node.train, node.valid] for node in nodes])
        np.testing.assert_array_equal(np.sort(rows), np.arange(1500))
        assert all(node.test is nodes[0].test for node in nodes)
        np.testing.assert_array_equal(nodes[0].test, np.arange(1500, 2000))

    def test_shared_test_is_held_out_by_class_where_there_is_no_official_one(self, name):
        samples = make_samples()
        nodes = MAKERS[name](test="shared", test_fraction=0.25).split(samples, 7)
        rows = np.concatenate([nodes[0].test, *(np.r_[node.train, node.valid] for node in nodes)])
        np.testing.assert_array_equal(np.sort(rows), np.arange(2000))
        held_out = np.bincount(samples.labels.numpy()[nodes[0].test], minlength=NUM_CLASSES)
        assert held_out.sum() == 500
        assert np.abs(held_out - 0.25 * np.bincount(samples.labels.numpy())).max() <= 1

    def test_held_out_validation_is_the_same_share_of_every_class_for_all_nodes(self, name):
        if name == "digit_shards":
            pytest.skip("its splits are shards of digits")
        samples = make_samples(num_train=1500)
        nodes = MAKERS[name](test="held_out", valid_fraction=0.2).split(samples, 7)
        assert all(node.test is nodes[0].test and node.valid is nodes[0].valid for node in nodes)
        np.testing.assert_array_equal(nodes[0].test, np.arange(1500, 2000))
        rows = np.concatenate([nodes[0].valid, *(node.train for node in nodes)])
        np.testing.assert_array_equal(np.sort(rows), np.arange(1500))
        held_out = np.bincount(samples.labels.numpy()[nodes[0].valid], minlength=NUM_CLASSES)
        assert held_out.sum() == 300
        assert np.abs(held_out - 0.2 * np.bincount(samples.labels.numpy()[:1500])).max() <= 1

    def test_is_a_function_of_the_seed(self, name):
        samples = make_samples()
        first, again, other = (MAKERS[name](seed=seed).split(samples, 5) for seed in (3, 3, 4))
        for node, twin in zip(first, again, strict=True):
            np.testing.assert_array_equal(owned(node), owned(twin))
        assert any(set(owned(node)) != set(owned(twin)) for node, twin in zip(first, other, strict=True))

    def test_splits_of_a_node_are_random_and_not_sorted_by_label(self, name):
        samples = make_samples()
        node = MAKERS[name](valid_fraction=0.5, test_fraction=0.0).split(samples, 1)[0]
        shares = [np.bincount(samples.labels.numpy()[rows], minlength=10) for rows in (node.train, node.valid)]
        assert np.abs(shares[0] - shares[1]).max() < 80  # 5 standard deviations; a sorted split is 360 apart

    def test_too_many_nodes_are_one_clear_error(self, name):
        with pytest.raises(ValueError, match=r"^partition[^\n]*(nodes)[^\n]*; use"):
            MAKERS[name]().split(make_samples(20), 30)

    def test_impossible_fractions_are_refused(self, name):
        with pytest.raises(ValueError, match="together below 1"):
            MAKERS[name](valid_fraction=0.5, test_fraction=0.5)
        with pytest.raises(ValueError, match=r"valid_fraction=-0.1: must be in \[0, 1\)"):
            MAKERS[name](valid_fraction=-0.1)
        with pytest.raises(ValueError, match=r"partition.test=each: 'node'"):
            MAKERS[name](test="each")
        with pytest.raises(ValueError, match="holds out at least one sample"):
            MAKERS[name](test="shared", test_fraction=0.0).split(make_samples(), 2)


def test_iid_sizes_differ_by_one_and_classes_are_even():
    samples = make_samples(20_000)
    nodes = MAKERS["iid"]().split(samples, 9)
    sizes = [len(owned(node)) for node in nodes]
    assert sum(sizes) == 20_000
    assert max(sizes) - min(sizes) == 1
    overall = np.bincount(samples.labels.numpy()) / 20_000
    for node in nodes:
        share = np.bincount(samples.labels.numpy()[owned(node)], minlength=10) / len(owned(node))
        np.testing.assert_allclose(share, overall, atol=0.04)  # 4.5 standard deviations of a share of 0.2


def test_ten_thousand_nodes_are_dealt_out_quickly():
    samples = make_samples(60_000)
    started = time.process_time()
    nodes = MAKERS["iid"]().split(samples, 10_000)
    assert time.process_time() - started < 2.0
    assert {len(owned(node)) for node in nodes} == {6}


def class_counts(nodes, samples):
    return np.array([np.bincount(samples.labels.numpy()[owned(node)], minlength=NUM_CLASSES) for node in nodes])


def test_dirichlet_shares_have_the_moments_of_the_distribution():
    samples = make_samples(20_000)
    alpha, num_nodes = 0.5, 10
    shares = []
    for seed in range(40):
        counts = class_counts(
            MAKERS["dirichlet"](alpha=alpha, min_samples=1, seed=seed).split(samples, num_nodes), samples
        )
        shares.append(counts / counts.sum(axis=0))
    shares = np.stack(shares)
    # A symmetric Dirichlet has means 1/M and variances (1/M)(1 - 1/M) / (alpha M + 1); multinomial noise adds < 1 %.
    np.testing.assert_allclose(shares.mean(axis=(0, 2)), 1 / num_nodes, atol=0.03)
    np.testing.assert_allclose(shares.var(), 0.1 * 0.9 / (alpha * num_nodes + 1), rtol=0.1)


def test_dirichlet_with_large_alpha_is_even():
    samples = make_samples(20_000)
    counts = class_counts(MAKERS["dirichlet"](alpha=1e6).split(samples, 4), samples)
    shares = counts / counts.sum(axis=0)
    deviations = np.sqrt(0.25 * 0.75 / counts.sum(axis=0))
    assert (np.abs(shares - 0.25) < 5 * deviations).all()


def test_dirichlet_draws_again_until_every_node_has_enough():
    samples = make_samples(300)
    for seed in range(20):
        nodes = MAKERS["dirichlet"](alpha=0.3, min_samples=10, seed=seed).split(samples, 8)
        assert min(len(owned(node)) for node in nodes) >= 10


def test_dirichlet_gives_up_with_one_clear_error():
    with pytest.raises(ValueError, match=r"none of 100 draws with alpha=0.001 gave it to each of 50 nodes.*larger"):
        MAKERS["dirichlet"](alpha=1e-3, min_samples=20).split(make_samples(), 50)


@pytest.mark.parametrize("name", ["dirichlet", "dirichlet_shift"])
def test_dirichlet_refuses_impossible_numbers(name):
    with pytest.raises(ValueError, match="alpha=0: must be positive"):
        MAKERS[name](alpha=0)
    with pytest.raises(ValueError, match="min_samples=0"):
        MAKERS[name](min_samples=0)


def test_shards_are_equal_runs_of_the_sorted_labels():
    samples = make_samples()
    nodes = MAKERS["shards"](shards_per_node=2).split(samples, 20)
    # 40 shards of 50 samples; a shard holds more than one class only where two classes meet.
    assert [len(owned(node)) for node in nodes] == [100] * 20
    counts = class_counts(nodes, samples)
    assert ((counts > 0).sum(axis=1) <= 4).all()
    assert (counts > 0).sum() <= 40 + (NUM_CLASSES - 1)
    with pytest.raises(ValueError, match="shards_per_node=0"):
        MAKERS["shards"](shards_per_node=0)


def test_shift_keeps_the_asked_share_of_samples():
    nodes = MAKERS["dirichlet_shift"](sample_fraction=0.3).split(make_samples(), 6)
    rows = np.concatenate([owned(node) for node in nodes])
    assert len(rows) == len(np.unique(rows)) == 600
    with pytest.raises(ValueError, match="sample_fraction=0"):
        MAKERS["dirichlet_shift"](sample_fraction=0)


def test_shift_shares_the_labels_of_a_cluster_alike():
    samples = make_samples(50_000)
    partition = MAKERS["dirichlet_shift"](num_label_clusters=2)
    counts = class_counts(partition.split(samples, 5), samples)
    shares = counts / counts.sum(axis=0)
    distance = np.abs(shares[:, :, None] - shares[:, None, :]).max(axis=0)
    together = distance < 0.08  # samples of one cluster are exchangeable, so only sampling noise is left
    assert together.sum() == 2 * 5 * 5
    with pytest.raises(ValueError, match="has 10 classes"):
        MAKERS["dirichlet_shift"](num_label_clusters=11).split(samples, 5)


def test_feature_shifts_are_three_bounded_pairs_for_nearly_equal_groups():
    shifts = MAKERS["dirichlet_shift"](min_std=0.4).feature_shift(11)
    assert shifts.shape == (11, 2)
    pairs, sizes = np.unique(shifts, axis=0, return_counts=True)
    assert len(pairs) == 3
    assert sorted(sizes) == [3, 4, 4]
    assert (pairs[:, 1] >= 0.4).all()
    assert ((pairs > 0) & (pairs < 1)).all()
    smallest = [MAKERS["dirichlet_shift"](min_std=0.4, seed=s).feature_shift(50)[:, 1].min() for s in range(30)]
    assert 0.4 <= min(smallest) < 0.45
    assert MAKERS["dirichlet_shift"](feature_shift=False).feature_shift(11) is None
    assert MAKERS["iid"]().feature_shift(11) is None


def test_as_given_hands_on_what_the_dataset_says():
    empty = np.arange(0)
    given = (NodeIndices(np.array([0, 2]), empty, empty), NodeIndices(np.array([1]), empty, empty))
    base = {"inputs": torch.zeros(3, 1), "labels": torch.zeros(3, dtype=torch.int64), "num_classes": 2, "num_train": 3}
    assert AsGiven().split(Samples(**base, node_indices=given), 2) is given
    with pytest.raises(ValueError, match="made for 2 nodes and num_nodes is 3"):
        AsGiven().split(Samples(**base, node_indices=given), 3)
    with pytest.raises(ValueError, match="does not say which node holds what"):
        AsGiven().split(Samples(**base), 2)
    with pytest.raises(ValueError, match="first node 1, get no training sample"):
        AsGiven().split(Samples(**base, node_indices=(given[0], NodeIndices(empty, empty, empty))), 2)


@pytest.mark.parametrize("heterogeneity", [0.0, 0.29, 0.8, 1.0])
@pytest.mark.parametrize("num_nodes", [1, 3, 4, 5, 10, 23])
def test_class_skew_gives_every_class_to_its_own_nodes_and_the_rest_evenly(heterogeneity, num_nodes):
    samples = make_samples(3000)
    labels = samples.labels.numpy()
    whole = {"valid_fraction": 0.0, "test_fraction": 0.0}
    nodes = MAKERS["class_skew"](heterogeneity=heterogeneity, **whole).split(samples, num_nodes)
    counts = np.array([np.bincount(labels[node.train], minlength=NUM_CLASSES) for node in nodes])
    sizes = np.bincount(labels, minlength=NUM_CLASSES)
    given = np.floor(heterogeneity * sizes + 1e-9)
    own = np.zeros((num_nodes, NUM_CLASSES))
    for label in range(NUM_CLASSES):
        if num_nodes >= NUM_CLASSES:
            nodes_of_label = [node for node in range(num_nodes) if node % NUM_CLASSES == label]
        else:
            nodes_of_label = [label % num_nodes]
        own[nodes_of_label, label] = given[label] / len(nodes_of_label)
    assert (counts >= np.floor(own)).all()
    rest = len(labels) - given.sum()
    # Every part that a node gets is even to within one sample.
    assert (np.abs(counts.sum(1) - own.sum(1) - rest / num_nodes) < 1 + (own > 0).sum(1)).all()
    # What is left of every class is dealt out at random: at most five standard deviations from an even share.
    left = (sizes - given) / num_nodes
    assert (np.abs(counts - own - left) <= 5 * np.sqrt(left) + 2).all()
    if heterogeneity == 1.0:
        assert counts[own == 0].sum() == 0


@pytest.mark.parametrize(("num_classes", "num_nodes"), [(10, 10), (20, 10), (60, 10), (5, 10), (30, 3), (7, 3)])
@pytest.mark.parametrize("heterogeneity", [0.0, 0.4, 0.8, 1.0])
def test_class_skew_has_the_total_variation_that_its_strength_says(num_classes, num_nodes, heterogeneity):
    """For classes of equal size and each with its own nodes: a share h of a node's samples is of its own classes."""
    per_class = 1000
    labels = torch.arange(num_classes).repeat_interleave(per_class)
    samples = Samples(inputs=torch.zeros(len(labels), 1), labels=labels, num_classes=num_classes, num_train=len(labels))
    whole = {"valid_fraction": 0.0, "test_fraction": 0.0}
    nodes = MAKERS["class_skew"](heterogeneity=heterogeneity, **whole).split(samples, num_nodes)
    counts = np.array([np.bincount(labels.numpy()[node.train], minlength=num_classes) for node in nodes])
    if num_classes < num_nodes:
        own = np.arange(num_nodes)[:, None] % num_classes == np.arange(num_classes)
    else:
        own = np.arange(num_nodes)[:, None] == np.arange(num_classes) % num_nodes
    num_own = own.sum(axis=1)
    # In units of a class, a node gets ``kept`` of each class of its own, and ``rest`` of all classes together.
    kept = heterogeneity / own.sum(axis=0).mean()
    rest = (1 - heterogeneity) * num_classes / num_nodes
    shares = (own * kept + rest / num_classes) / (num_own * kept + rest)[:, None]
    expected = np.abs(shares - 1 / num_classes).sum(axis=1) / 2
    found = np.abs(counts / counts.sum(axis=1, keepdims=True) - 1 / num_classes).sum(axis=1) / 2
    # The rest is random: its own total variation, for the classes together, is at most about sqrt(C / (2 pi n)).
    noise = (1 - heterogeneity) * np.sqrt(num_classes / (2 * np.pi * counts.sum(axis=1)))
    assert (np.abs(found - expected) < 4 * noise + 0.002).all()
    if heterogeneity == 0.8 and num_classes % num_nodes == 0:
        assert found.mean() == pytest.approx(0.8 * (1 - 1 / num_nodes), abs=0.01)  # 0.72 on ten nodes


@pytest.mark.parametrize("heterogeneity", [-0.1, 1.1])
def test_impossible_class_skew_is_refused(heterogeneity):
    with pytest.raises(ValueError, match=r"partition.heterogeneity=.*: must be in \[0, 1\]"):
        MAKERS["class_skew"](heterogeneity=heterogeneity)
