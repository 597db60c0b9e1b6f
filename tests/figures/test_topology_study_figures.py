"""The pictures of studies and of many schedules draw what they were given."""

import numpy as np
import pytest
from matplotlib.axes import Axes

from simulator.figures.topology_correlation import (
    Scatter,
    metric_against_bytes,
    metric_against_gap,
    metric_against_learning_rate,
    metric_against_neighbors,
)
from simulator.figures.topology_studies import covariances_between_nodes, moments_by_step


@pytest.fixture
def drawn(monkeypatch):
    """What axes were asked for, by the method's name: positional and named arguments."""
    calls = {}
    for name in ("plot", "errorbar", "annotate", "axhline", "imshow", "set_ylim"):
        original = getattr(Axes, name)

        def spy(self, *args, name=name, original=original, **named):
            calls.setdefault(name, []).append((args, named))
            return original(self, *args, **named)

        monkeypatch.setattr(Axes, name, spy)
    return calls


def test_moments_are_drawn_with_what_is_expected(drawn, tmp_path):
    steps = np.arange(4.0)
    measured = {name: np.stack([np.exp(-steps), 0.01 * steps]) for name in ("squared_norm", "squared_mean")}
    measured["squared_distance"] = np.stack([np.array([0.0, 0.2, 0.3, 0.1]), 0.01 * steps])
    exact = {name: values[0] * 1.1 for name, values in measured.items()}
    path = tmp_path / "figures" / "moments.png"
    assert moments_by_step(measured, exact, path) == path
    assert path.stat().st_size > 10_000
    curves = [args for args, _ in drawn["plot"]]
    # In turn what was measured and what is expected; distances of 0 have no logarithm.
    np.testing.assert_allclose(curves[0][1], np.exp(-steps))
    np.testing.assert_allclose(curves[1][1], 1.1 * np.exp(-steps))
    np.testing.assert_array_equal(curves[4][0], [1, 2, 3])
    np.testing.assert_allclose(curves[4][1], [0.2, 0.3, 0.1])


def test_without_expectations_there_are_no_lines_for_them(drawn, tmp_path):
    measured = {name: np.ones((2, 3)) for name in ("squared_norm", "squared_mean", "squared_distance")}
    moments_by_step(measured, {}, tmp_path / "moments.png")
    assert len(drawn["plot"]) == 3


def test_covariances_share_their_colours(drawn, tmp_path):
    measured, walk = np.eye(3), np.full((3, 3), 1.5)
    covariances_between_nodes(measured, walk, None, tmp_path / "covariances.png")
    (first, options), (second, others) = drawn["imshow"]
    np.testing.assert_array_equal(first[0], measured)
    np.testing.assert_array_equal(second[0], walk)
    assert (options["vmin"], options["vmax"]) == (others["vmin"], others["vmax"]) == (0.0, 1.5)


def test_points_have_names_and_unknown_ones_are_left_out(drawn, tmp_path):
    points = Scatter(
        labels=["a", "b", "c"],
        x=np.array([0.0, np.nan, 0.5]),
        y=np.array([3.0, 2.0, 1.0]),
        error=np.array([0.1, 0.2, 0.3]),
        curve=(np.array([1.0, 8.0]), np.array([4.0, 1.0])),
    )
    path = tmp_path / "gap.png"
    assert metric_against_gap(points, "train/loss", path) == path
    assert [(args[0], tuple(args[1])) for args, _ in drawn["annotate"]] == [("a", (0.0, 3.0)), ("c", (0.5, 1.0))]
    (args, named), *_ = drawn["errorbar"]
    np.testing.assert_array_equal(args[0], [0.0, 0.5])
    np.testing.assert_array_equal(named["yerr"], [0.1, 0.3])
    np.testing.assert_array_equal(drawn["plot"][0][0][0], [1.0, 8.0])
    nothing = Scatter(labels=["a"], x=np.array([np.nan]), y=np.ones(1), error=np.zeros(1))
    assert metric_against_neighbors(nothing, 0.9, "train/loss", tmp_path / "none.png") is None


def test_learning_rates_that_nobody_would_use_are_cut_off(drawn, tmp_path):
    lrs = np.array([0.1, 0.2, 0.4])
    curves = {"a": (lrs, np.array([0.5, 0.3, 900.0])), "b": (lrs, np.array([0.4, 0.2, 0.6]))}
    metric_against_learning_rate(curves, "train/loss", tmp_path / "lr.png")
    ((low, high), _), *_ = drawn["set_ylim"]
    assert low < 0.2
    assert 0.4 < high < 1.0
    assert metric_against_learning_rate({}, "train/loss", tmp_path / "none.png") is None


def test_what_sends_nothing_is_a_level_line(drawn, tmp_path):
    curves = {"alone": (np.zeros(2), np.array([0.9, 0.8])), "ring": (np.array([1.0, 2.0]), np.array([0.7, 0.4]))}
    metric_against_bytes(curves, "train/loss", tmp_path / "bytes.png")
    assert drawn["axhline"][0][0] == (0.8,)
    assert [named["label"] for _, named in drawn["plot"]] == ["ring"]
