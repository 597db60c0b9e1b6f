"""Settings of components that a multirun sweeps over."""

import pytest

from simulator.config.swept_groups import settings_as_choices


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("algorithm.local_steps=10", "algorithm.local_steps=choice(10)"),
        ("+algorithm.more=[1,2]", "+algorithm.more=choice([1,2])"),
        ("algorithm.lr=0.1,0.2", "algorithm.lr=0.1,0.2"),
        ("algorithm.path='a b'", "algorithm.path=choice('a b')"),
        ("model.hidden=[20]", "model.hidden=[20]"),
        ("num_steps=10", "num_steps=10"),
        ("~algorithm.lr", "~algorithm.lr"),
        ("hydra.sweep.dir=here", "hydra.sweep.dir=here"),
    ],
)
def test_settings_of_a_swept_group_are_choices_of_one_value(word, expected):
    assert settings_as_choices(["-m", "algorithm=dsgd,led", word]) == ["-m", "algorithm=dsgd,led", expected]
    assert settings_as_choices(["algorithm=dsgd", word]) == ["algorithm=dsgd", word]
    assert settings_as_choices(["-m", "algorithm=dsgd", word]) == ["-m", "algorithm=dsgd", word]


def test_experiments_change_components_of_all_groups():
    words = ["--multirun", "experiment=a,b", "model.hidden=[20]", "num_steps=10"]
    assert settings_as_choices(words) == ["--multirun", "experiment=a,b", "model.hidden=choice([20])", "num_steps=10"]
