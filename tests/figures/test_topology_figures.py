"""The pictures of a schedule's analysis draw what they were given."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes

from simulator.figures.topology import (
    effective_neighbors_against_decay,
    learning_rate_bounds,
    rate_against_learning_rate,
    time_to_target,
)

LRS = np.array([0.01, 0.1, 0.5])
RATES = np.array([0.02, 0.1, -1.0])


@pytest.fixture
def lines(monkeypatch):
    """What axes were asked to plot: (x, y, label)."""
    calls = []
    original = Axes.plot

    def spy(self, x, y, **options):
        calls.append((np.asarray(x), np.asarray(y), options.get("label")))
        return original(self, x, y, **options)

    monkeypatch.setattr(Axes, "plot", spy)
    return calls


def test_neighbors_are_evenly_spaced_in_the_logarithm(lines, tmp_path: Path):
    gammas = np.array([0.0, 0.9, 0.99])
    path = tmp_path / "figures" / "neighbors.png"
    found = {"mine": (gammas, np.array([2.0, 3.0, 5.0]))}
    assert effective_neighbors_against_decay(found, {"alone": (gammas, np.ones(3))}, path) == path
    assert path.stat().st_size > 10_000
    assert [label for *_, label in lines] == ["alone", "mine"]
    np.testing.assert_allclose(lines[1][0], [0, 1, 2], atol=1e-12)
    np.testing.assert_array_equal(lines[1][1], [2, 3, 5])
    assert effective_neighbors_against_decay({}, {}, tmp_path / "none.png") is None


def test_rates_that_diverge_are_left_out(lines, tmp_path: Path):
    assert rate_against_learning_rate({"mine": (LRS, RATES)}, {}, tmp_path / "a.png") is not None
    np.testing.assert_array_equal(lines[0][0], LRS[:2])
    np.testing.assert_array_equal(lines[0][1], RATES[:2])
    assert time_to_target({"mine": (LRS, RATES)}, {"other": (LRS, RATES)}, 0.01, tmp_path / "b.png") is not None
    np.testing.assert_allclose((1 - RATES[:2]) ** lines[-1][1], 0.01)
    for picture in (
        rate_against_learning_rate({"mine": (LRS, -np.ones(3))}, {}, tmp_path / "c.png"),
        time_to_target({"mine": (LRS, -np.ones(3))}, {}, 0.01, tmp_path / "c.png"),
        learning_rate_bounds({}, tmp_path / "c.png"),
    ):
        assert picture is None
    assert not (tmp_path / "c.png").exists()


def test_the_bound_is_the_smaller_term(lines, tmp_path: Path):
    neighbors, consensus, noise = np.array([2.0, 3.0, 4.0]), np.array([9.0, 2.0, 1.0]), np.array([1.0, 2.0, 3.0])
    assert learning_rate_bounds({"older": (neighbors, consensus, noise)}, tmp_path / "a.png") is not None
    (allowed,) = [y for _, y, label in lines if label == "older form"]
    np.testing.assert_array_equal(allowed, [1, 2, 1])
