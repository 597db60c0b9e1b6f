"""``--help`` has every group, every choice, and every comment of the files that it shows."""

import re

import pytest

from simulator.config.composition import CONF, group_folders
from simulator.config.help import help_text


def comments(path):
    return re.findall(r"  # (.*)$", path.read_text(), re.MULTILINE)


def test_groups_settings_and_comments_of_the_defaults():
    text = help_text([])
    for folder in group_folders():
        assert f"    {folder.name}=\n" in text
        for path in folder.glob("*.yaml"):
            assert re.search(rf"[ ,]{re.escape(path.stem)}(,|$)", text, re.MULTILINE), path
    assert "study=" not in text
    assert "num_nodes: 16  # simulated nodes, at least 1" in text
    assert "paper/personalization_sgp" in text
    assert comments(CONF / "algorithm" / "sgp.yaml")
    for name in ("algorithm/sgp", "graph/random_directed", "partition/dirichlet"):
        for comment in comments(CONF / f"{name}.yaml"):
            assert comment in text
    assert "hydra:" not in text


def test_what_is_chosen_is_shown():
    text = help_text(["algorithm=choco", "num_nodes=4"])
    assert "algorithm=choco" in text
    assert "algorithm=sgp\n" not in text
    experiment = help_text(["experiment=personalization_sgp"])
    assert (CONF / "experiment" / "personalization_sgp.yaml").read_text().splitlines()[-1] in experiment
    assert "graph=random_directed\n" not in experiment
    with pytest.raises(ValueError, match=r"^algorithm=sgd: there is no such file in conf/algorithm/$"):
        help_text(["algorithm=sgd"])
