"""How a run is named, and what of its configuration is shown, in tools that compare many runs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

_HYDRA = ("_target_", "_partial_")
_NOT_SHOWN = ("choices", "logger", "launcher", "resume")


def shown_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration without class paths; every component says by ``name`` which choice it is.

    ``{"graph": {"_target_": ..., "k": 2}, "choices": {"graph": "k_hop_ring"}}`` becomes
    ``{"graph": {"name": "k_hop_ring", "k": 2}}``; the chosen experiment is a key of its own.
    """
    choices = config.get("choices", {})
    shown: dict[str, Any] = {"experiment": choices["experiment"]} if choices.get("experiment") else {}
    for key, value in config.items():
        if key not in _NOT_SHOWN:
            shown[key] = _section(value, key, choices)
    return shown


def _section(value: Any, place: str, choices: Mapping[str, Any]) -> Any:
    if value is None and place in choices:
        value = {}
    if not isinstance(value, Mapping):
        return value
    inner = {key: _section(each, f"{place}.{key}", choices) for key, each in value.items() if key not in _HYDRA}
    return {"name": choices[place], **inner} if place in choices else inner


def run_name(config: Mapping[str, Any], run_folder: Path) -> str:
    """``sgp-ring-s0``: algorithm, graph and seed, and in a sweep also what is swept beside them."""
    choices = config.get("choices", {})
    if not choices:
        return run_folder.name
    parts = [str(choices[group]) for group in ("algorithm", "graph") if choices.get(group)]
    parts.append(f"s{config.get('seed', 0)}")
    for override in swept_overrides(run_folder):
        key, _, value = override.lstrip("+").partition("=")
        if key not in ("algorithm", "graph", "seed"):
            parts.append(f"{key.rpartition('.')[2]}{value}" if "." in key else value)
    return "-".join(parts)


def sweep_folder(run_folder: Path) -> Path | None:
    """The folder of the multirun that a run belongs to; Hydra leaves a multirun.yaml there. None for a single run."""
    for folder in run_folder.absolute().parents[:2]:
        if (folder / "multirun.yaml").is_file():
            return folder
    return None


def swept_overrides(run_folder: Path) -> list[str]:
    """The overrides, such as ``graph=ring``, in which a run differs from the others of its multirun."""
    sweep, own = sweep_folder(run_folder), run_folder / ".hydra" / "overrides.yaml"
    if sweep is None or not own.is_file():
        return []
    typed = OmegaConf.select(OmegaConf.load(sweep / "multirun.yaml"), "hydra.overrides.task", default=[])
    return [str(override) for override in OmegaConf.load(own) if override not in typed]
