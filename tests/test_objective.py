"""What a run returns to a sweeper."""

import pytest

from simulator.objective import objective_of

SUMMARY = {"best/valid/accuracy": 0.9, "valid/accuracy": 0.8, "train/loss": 0.25, "comm/bytes": 7, "diverged": True}


def test_the_default_is_the_best_value_of_the_selection():
    assert objective_of(SUMMARY, None, "valid/accuracy") == 0.9
    assert objective_of(SUMMARY, None, "test/accuracy") == 0.25
    assert objective_of(SUMMARY | {"outer/loss": 0.5}, None, "test/accuracy") == 0.5
    assert objective_of({"step": None}, None, "test/accuracy") is None


def test_one_or_several_names():
    assert objective_of(SUMMARY, "comm/bytes", "valid/accuracy") == 7.0
    assert objective_of(SUMMARY, ["valid/accuracy", "comm/bytes"], "") == (0.8, 7.0)
    for name in ("train/losss", "diverged"):
        with pytest.raises(ValueError, match=rf"^objective={name}: summary.json has no number of this name; similar: "):
            objective_of(SUMMARY, name, "valid/accuracy")
