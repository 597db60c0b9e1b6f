"""From overrides, as on the command line, to a resolved configuration."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simulator.config.hydra_versions import version_base
from simulator.config.mistakes import check_words, with_similar_keys
from simulator.config.schema import check_keys, register_schema
from simulator.errors import describe_error

if TYPE_CHECKING:
    from omegaconf import DictConfig

CONF = Path(__file__).resolve().parents[2] / "conf"
NO_GROUP = "study"  # files of scripts/study.py, which a configuration does not choose from

# Hydra's state is global to the interpreter.
_ONE_AT_A_TIME = threading.RLock()


def group_folders() -> list[Path]:
    """The folders of the groups of which a configuration chooses, by name."""
    return sorted(folder for folder in CONF.iterdir() if folder.is_dir() and folder.name != NO_GROUP)


@dataclass(frozen=True)
class Composed:
    """A resolved configuration and the folder that Hydra would give the run.

    Attributes:
        settings: plain dictionaries, lists and scalars.
        run_folder: ``hydra.run.dir``, as it was configured.
    """

    settings: dict[str, Any]
    run_folder: str


def compose(overrides: Sequence[str]) -> dict[str, Any]:
    """The resolved configuration of a command line with these overrides.

    Raises:
        ValueError: one line that says which override is wrong.
    """
    with composer() as compose_one:
        return compose_one(overrides).settings


@contextmanager
def composer() -> Iterator[Callable[[Sequence[str]], Composed]]:
    """Yields a function that composes configurations; every YAML file is read only once inside the block.

    Hydra's global state is restored afterwards. Other threads wait until the block is left.

    Raises:
        ValueError: from the yielded function, as one line that says which override is wrong.
    """
    import hydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    def settings_of(overrides: Sequence[str]) -> dict[str, Any]:
        composed = hydra.compose("config", overrides=list(overrides), return_hydra_config=True)
        return resolve(composed, composed.hydra.runtime.choices)

    def compose_one(overrides: Sequence[str]) -> Composed:
        check_words(overrides)
        try:
            composed = hydra.compose("config", overrides=list(overrides), return_hydra_config=True)
            run_folder = str(composed.hydra.run.dir)
            choices = composed.hydra.runtime.choices
            return Composed(resolve(composed, choices), run_folder)
        except (HydraException, OmegaConfBaseException) as error:
            raise ValueError(with_similar_keys(describe_error(error), overrides, settings_of)) from error

    with _ONE_AT_A_TIME, _unchanged_hydra():
        register_schema()
        with hydra.initialize_config_dir(str(CONF), **version_base()):
            yield compose_one


@contextmanager
def _unchanged_hydra() -> Iterator[None]:
    """Saves Hydra's global objects before the block and restores them after it.

    These are the running application, if there is one, the version base, and the entry ``schema`` of the store.
    """
    from hydra.core.config_store import ConfigStore
    from hydra.core.global_hydra import GlobalHydra
    from hydra.version import VersionBase

    instance, version, entries = GlobalHydra.instance(), VersionBase.instance(), ConfigStore.instance().repo
    running, base, schema = instance.hydra, version.version_base, entries.get("schema.yaml")
    instance.hydra = None
    try:
        yield
    finally:
        # Hydra replaces the instance by a copy when its context ends.
        GlobalHydra.set_instance(instance)
        instance.hydra = running
        version.version_base = base
        entries.pop("schema.yaml", None)
        if schema is not None:
            entries["schema.yaml"] = schema


def resolve(composed: "DictConfig", choices: Mapping[str, str | None]) -> dict[str, Any]:
    """Resolves and checks a composed configuration, and records the chosen name of every group as ``choices``.

    A group nested in a component has the key of its place: ``graph.base`` for ``graph@graph.base``.

    Args:
        composed: a composed configuration, with or without its section ``hydra``.
        choices: Hydra's own, by group.

    Raises:
        ValueError: naming an unknown key, or ``choices`` when the user has set it.
    """
    from omegaconf import OmegaConf

    own = OmegaConf.masked_copy(composed, [str(key) for key in composed if key != "hydra"])
    container = OmegaConf.to_container(own, resolve=True, throw_on_missing=True)
    assert isinstance(container, dict)
    settings = {str(key): value for key, value in container.items()}
    if settings.pop("choices", None):
        raise ValueError(
            "choices: it records what was chosen and cannot be set; choose with group=name, for example graph=ring"
        )
    check_keys(settings)
    chosen = {group.rpartition("@")[2]: name for group, name in choices.items() if not group.startswith("hydra/")}
    return {"choices": dict(sorted(chosen.items())), **settings}
