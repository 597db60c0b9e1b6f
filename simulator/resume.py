"""The configuration of a resumed run: that of the run it continues, with the overrides that are allowed."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

MAY_CHANGE = (
    "num_steps",
    "max_sim_s",
    "budget",
    "eval_every",
    "eval_every_s",
    "evaluate_samples",
    "evaluate_train",
    "device",
    "compute",
    "compute_capture",
    "num_threads",
    "timeout_s",
    "data_root",
    "resume",
    "objective",
    "figures",
    "checkpoint",
    "logger",
    "launcher",
)
"""Root keys that do not affect the trajectory."""


def implied_overrides(overrides: Sequence[str]) -> list[str]:
    """The overrides that a command with ``resume=`` leaves out because the run that it continues has them.

    A command that continues a run with a logger may set it, as in ``resume=... logger.mode=offline``.
    """
    given = dict(override.split("=", 1) for override in overrides if "=" in override)
    path = Path(given.get("resume", "null").strip("'\"")) / "config.yaml"
    if "logger" in given or not path.is_file():
        return []
    logger = OmegaConf.select(OmegaConf.load(path), "choices.logger", default="none")
    return [] if logger == "none" else [f"logger={logger}"]


def continued_config(composed: dict[str, Any], run_folder: Path, overrides: Sequence[str]) -> dict[str, Any]:
    """Returns the saved configuration of ``run_folder`` with the overrides of this command line.

    Args:
        composed: what Hydra composed from this command line.
        run_folder: the run to continue.
        overrides: the command line's ``key=value`` pairs.

    Raises:
        ValueError: when there is no such run, or when an override would change the trajectory.
    """
    path = run_folder / "config.yaml"
    if not path.is_file():
        raise ValueError(f"resume={run_folder}: expected a run folder, and there is no config.yaml in it")
    loaded = OmegaConf.to_container(OmegaConf.load(path))
    assert isinstance(loaded, dict)
    saved = {str(key): value for key, value in loaded.items()}
    for name, value in composed.items():
        saved.setdefault(name, value)  # a key that is newer than the run has its default
    choices = dict(saved.get("choices", {}))
    for override in overrides:
        key = override.partition("=")[0].lstrip("+~").partition("@")[0]
        root = key.partition(".")[0]
        if root in MAY_CHANGE:
            if key == root and root in choices and choices[root] == composed["choices"].get(root):
                continue  # the same component keeps its settings
            _set(saved, key if _component(saved.get(root)) == _component(composed[root]) else root, composed)
            choices |= {name: choice for name, choice in composed["choices"].items() if name.partition(".")[0] == root}
            continue
        if root == "experiment":
            # The saved run may override some settings of the experiment, but its components must be the experiment's.
            kept = [name for name in composed if name not in (*MAY_CHANGE, "choices")]
            pairs = [(name, _component(composed[name]), _component(saved.get(name))) for name in kept]
        else:
            pairs = [(key, _get(composed, key), _get(saved, key))]
        for name, new, old in pairs:
            changed = _first_difference(name, new, old)
            if changed:
                raise ValueError(f"{override}: a resumed run keeps {changed}; only {', '.join(MAY_CHANGE)} may change")
    return saved | {"resume": str(run_folder), "choices": choices}


def _get(config: Any, key: str) -> Any:
    value: Any = config
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _set(config: dict[str, Any], key: str, source: Any) -> None:
    """Takes the value of ``key`` from ``source``."""
    *sections, last = key.split(".")
    for section in sections:
        config = config[section]
    config[last] = _get(source, key)


def _component(section: Any) -> Any:
    """The class of a section, such as ``algorithm``; None for other root keys."""
    return {"_target_": section["_target_"]} if isinstance(section, dict) and "_target_" in section else None


def _first_difference(key: str, new: Any, old: Any) -> str | None:
    """``key=value`` of the first setting in which ``new`` differs from ``old``, with its old value."""
    if isinstance(new, dict) and isinstance(old, dict):
        for part in dict.fromkeys([*new, *old]):
            difference = _first_difference(f"{key}.{part}", new.get(part), old.get(part))
            if difference:
                return difference
        return None
    return None if new == old else f"{key}={old}"
