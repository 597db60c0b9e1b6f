"""The configuration of a resumed run: that of the run it continues, with what may change changed."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

MAY_CHANGE = (
    "num_steps",
    "eval_every",
    "device",
    "compute",
    "num_threads",
    "timeout_s",
    "data_root",
    "resume",
    "figures",
    "checkpoint",
    "logger",
    "launcher",
)
"""Root keys that do not enter the trajectory."""


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
    saved = OmegaConf.to_container(OmegaConf.load(path))
    assert isinstance(saved, dict)
    for override in overrides:
        key = override.split("=")[0].lstrip("+")
        root = key.split(".")[0].split("@")[0]
        if root == "experiment":
            continue
        if root not in MAY_CHANGE and _get(composed, key) != _get(saved, key):
            raise ValueError(
                f"{override}: a resumed run keeps {key}={_get(saved, key)}; only {', '.join(MAY_CHANGE)} may change"
            )
        if root in MAY_CHANGE:
            saved[root] = composed[root]
    saved["resume"] = str(run_folder)
    return {str(key): value for key, value in saved.items()}


def _get(config: dict[str, Any], key: str) -> Any:
    value: Any = config
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value
