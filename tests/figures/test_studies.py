"""The pictures of the studies: drawn where there is something to see, with what they were given."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes

from simulator.figures.studies import error_by_term, predicted_against_actual


@pytest.fixture
def drawn(monkeypatch):
    """What axes were asked to plot and to scatter."""
    calls = {"plot": [], "scatter": [], "fill_between": [], "text": []}
    for name in calls:
        original = getattr(Axes, name)

        def spy(self, *arguments, name=name, original=original, **options):
            calls[name].append((arguments, options))
            return original(self, *arguments, **options)

        monkeypatch.setattr(Axes, name, spy)
    return calls


def curves(scale: float) -> np.ndarray:
    return scale * 0.9 ** np.arange(1, 31) * np.linspace(0.5, 2.0, 5)[:, None]


def test_medians_of_every_number_of_pushes_and_rule(drawn, tmp_path: Path):
    errors = {"debiased": {1: curves(1.0), 10: curves(0.1)}, "average_preserving": {1: curves(0.5)}}
    path = tmp_path / "figures" / "error.png"
    assert error_by_term(errors, path) == path
    assert path.stat().st_size > 10_000
    assert [options["label"] for _, options in drawn["plot"]] == ["S = 1", "S = 10", "S = 1"]
    for (arguments, _), expected in zip(
        drawn["plot"], (errors["debiased"][1], errors["debiased"][10], errors["average_preserving"][1]), strict=True
    ):
        np.testing.assert_array_equal(arguments[0], np.arange(1, 31))
        np.testing.assert_allclose(arguments[1], np.median(expected, axis=0), rtol=1e-12)


def test_no_errors_no_picture(tmp_path: Path):
    assert error_by_term({"debiased": {1: np.zeros((3, 5))}}, tmp_path / "a.png") is None
    assert error_by_term({}, tmp_path / "a.png") is None
    assert not list(tmp_path.iterdir())


def test_a_point_per_sample_and_the_identity(drawn, tmp_path: Path):
    predicted, actual = np.array([-2e-3, 1e-3, np.nan, 5e-4]), np.array([-1.9e-3, 1.2e-3, 1.0, 4e-4])
    path = tmp_path / "scatter.png"
    assert predicted_against_actual(predicted, actual, path) == path
    ((points, _),) = drawn["scatter"]
    np.testing.assert_array_equal(points[0], actual[[0, 1, 3]])
    np.testing.assert_array_equal(points[1], predicted[[0, 1, 3]])
    ((line, _),) = drawn["plot"]
    assert line[0] == line[1]
    assert line[0][0] < -2e-3 < 1.2e-3 < line[0][1] < 2e-3


def test_noise_floor_gradient_and_share_are_shown(drawn, tmp_path: Path):
    values = np.array([-2e-3, 1e-3, 5e-4])
    known = {"removed_share": 0.2, "noise_floor": 1e-4, "gradient_norm": 0.025, "r2": 0.91}
    predicted_against_actual(values, values, tmp_path / "scatter.png", **known)
    ((band, _),) = drawn["fill_between"]
    ((line, _),) = drawn["plot"]
    np.testing.assert_allclose(band, [line[0], np.subtract(line[0], 1e-4), np.add(line[0], 1e-4)])
    ((text, _),) = drawn["text"]
    assert text[2].splitlines() == ["R² 0.91", "gradient norm 0.025", "noise floor 0.0001"]
    ((_, options),) = drawn["scatter"]
    assert options["label"] == "a share of 0.2 of one sample removed"


def test_one_point_is_no_picture(tmp_path: Path):
    assert predicted_against_actual(np.array([1.0, np.nan]), np.array([1.0, 2.0]), tmp_path / "a.png") is None
    assert predicted_against_actual(np.zeros(3), np.zeros(3), tmp_path / "b.png") is not None
