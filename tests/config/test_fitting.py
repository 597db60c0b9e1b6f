"""An algorithm that is chosen alone gets defaults that fit it; what the user has chosen stays."""

from pathlib import Path

import pytest

from simulator import config

ALGORITHMS = sorted(path.stem for path in (config.composition.CONF / "algorithm").glob("*.yaml"))
EXPECTED = {
    "sgp": {},
    "dsgd": {"graph": "ring"},
    "fedavg": {"graph": "hub"},
    "relay_sum": {"graph": "binary_tree"},
    "pfedhn": {"graph": "star"},
    "pfedhn_sizes": {"graph": "star", "problem": "model_sizes"},
    "c2dfb": {"graph": "ring", "problem": "l2_decay"},
    "hgp": {"problem": "l2_decay"},
    "adpsgd": {"graph": "ring", "timing": "constant"},
    "async_fedavg": {"graph": "hub", "timing": "constant"},
    "fedem": {"graph": "hub", "problem": "mixture_weights"},
}


@pytest.fixture(scope="module")
def compose():
    """Composes every section once."""
    with config.composer() as compose_one:
        cache: dict[tuple[str, ...], dict] = {}

        def composed(overrides):
            key = tuple(overrides)
            if key not in cache:
                cache[key] = compose_one(overrides).settings
            return cache[key]

        yield composed


@pytest.mark.slow
@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_algorithm_runs_by_its_name_alone(name, compose):
    overrides = [f"algorithm={name}"]
    settings, fitted = config.fit_defaults(compose(overrides), overrides, 1, compose)
    if name in EXPECTED:
        assert fitted == EXPECTED[name]
    config.check(settings, config.build(settings), 1)
    assert fitted.items() <= settings["choices"].items()
    assert config.fit_defaults(settings, overrides, 1, compose) == (settings, {})


@pytest.mark.parametrize(
    "overrides", [["algorithm=dsgd", "graph=random_directed"], ["graph=ring"], ["experiment=personalization_sgp"]]
)
def test_what_the_user_has_chosen_stays(overrides, compose):
    settings = compose(overrides)
    assert config.fit_defaults(settings, overrides, 1, compose) == (settings, {})


def test_open_groups_are_fitted_beside_chosen_ones(compose):
    overrides = ["algorithm=c2dfb", "problem=bilevel_quadratic", "num_nodes=6"]
    settings, fitted = config.fit_defaults(compose(overrides), overrides, 1, compose)
    assert fitted == {"graph": "ring"}
    assert settings["graph"]["num_nodes"] == 6


def test_the_choice_is_told_and_recorded(tmp_path, caplog):
    from simulator import run

    words = ("algorithm=dsgd", "problem=quadratic", "num_nodes=4", "num_steps=2", "figures=false", "device=cpu")
    finished = run(*words, folder=tmp_path)
    assert finished.config["choices"]["graph"] == "ring"
    line = "algorithm=dsgd: takes graph=ring, because the defaults do not fit"
    assert line in Path(tmp_path / "launch.log").read_text()
