"""The picture of embeddings: their principal plane against scikit-learn, and discs divided by class."""

import numpy as np
import pytest
from matplotlib.collections import PatchCollection
from matplotlib.patches import Wedge
from sklearn.decomposition import PCA

from simulator.figures.embeddings import node_embeddings, principal_plane


@pytest.mark.parametrize("shape", [(10, 3), (50, 13), (6, 2)])
def test_plane_is_that_of_a_principal_component_analysis(shape):
    points = np.random.default_rng(0).standard_normal(shape) * np.arange(1, shape[1] + 1) + 5.0
    plane, shares = principal_plane(points)
    oracle = PCA(n_components=2).fit(points)
    np.testing.assert_allclose(np.abs(plane), np.abs(oracle.transform(points)), atol=1e-10)
    np.testing.assert_allclose(shares, oracle.explained_variance_ratio_, rtol=1e-10)
    assert (plane[np.abs(plane).argmax(axis=0), [0, 1]] > 0).all()


def test_a_single_dimension_is_a_line():
    plane, shares = principal_plane(np.array([[1.0], [3.0], [-1.0]]))
    np.testing.assert_allclose(np.abs(plane[:, 0]), [0.0, 2.0, 2.0], atol=1e-12)
    np.testing.assert_array_equal(plane[:, 1], 0)
    np.testing.assert_allclose(shares, [1.0, 0.0])


@pytest.mark.parametrize("num_classes", [10, 100])
def test_every_node_is_a_disc_with_a_sector_per_class(monkeypatch, tmp_path, num_classes):
    rng = np.random.default_rng(1)
    counts = np.zeros((5, num_classes), dtype=int)
    for node in range(1, 5):
        counts[node, [node, node + 4]] = [30, 10]
    sectors, faces = [], []
    original = PatchCollection.__init__

    def spy(self, patches, **options):
        sectors.extend(patches)
        faces.extend(options["facecolor"])
        original(self, patches, **options)

    monkeypatch.setattr(PatchCollection, "__init__", spy)
    path = tmp_path / "figures" / "embeddings.png"
    assert node_embeddings(rng.standard_normal((5, 3)), counts, path) == path
    assert path.stat().st_size > 8_000
    # Node 0, which holds nothing, is left out; the others show three quarters of one class and a quarter of another.
    assert len(sectors) == 8
    assert all(isinstance(sector, Wedge) for sector in sectors)
    np.testing.assert_allclose([s.theta2 - s.theta1 for s in sectors], [270, 90] * 4, atol=1e-9)
    assert len(set(faces)) == len(np.flatnonzero(counts.any(axis=0))) == 8


def test_nothing_to_tell_apart_is_no_picture(tmp_path):
    counts = np.ones((4, 3), dtype=int)
    assert node_embeddings(np.zeros((4, 2)), counts, tmp_path / "a.png") is None
    assert node_embeddings(np.eye(2), counts[:2], tmp_path / "a.png") is None
    points = np.eye(4)
    points[0] = np.nan
    assert node_embeddings(points, counts, tmp_path / "b.png") is not None
    assert not (tmp_path / "a.png").exists()
