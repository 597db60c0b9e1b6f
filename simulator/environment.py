"""``environment.json``: what a run was computed with."""

import importlib.metadata
import importlib.util
import os
import platform
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

FILE_NAME = "environment.json"
_GIT_TIMEOUT_S = 10.0
_OWN_FOLDER = Path(__file__).resolve().parent


def describe_environment(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Versions, commits and the machine.

    Returns:
        ``git_commit`` of the simulator; ``packages``: for every package that a ``_target_`` of the settings comes from
        the commit of the checkout that it lies in, or its version, or None; ``distributions``: the version of every
        installed distribution; Python, torch and the platform.
    """
    return {
        "git_commit": git_commit(_OWN_FOLDER),
        "packages": {package: _version_of(package) for package in sorted(set(_packages(settings)))},
        "python": platform.python_version(),
        "torch": torch.__version__,
        "platform": platform.platform(),
        "host": platform.node(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_initialized() else None,
        "distributions": installed_distributions(),
    }


def installed_distributions() -> dict[str, str]:
    """Name and version of everything that is installed for this interpreter."""
    versions = {str(each.metadata["Name"]): each.version for each in importlib.metadata.distributions()}
    return dict(sorted(versions.items(), key=lambda item: item[0].lower()))


def git_commit(folder: Path) -> str | None:
    """The commit of the checkout that ``folder`` lies in; None outside a checkout.

    ``+changes`` follows where tracked files of the checkout differ, or ``folder`` has files that are not tracked.
    """
    try:
        commit = _git(folder, "rev-parse", "HEAD")
        changed = _git(folder, "status", "--porcelain", "-uno") or _git(
            folder, "ls-files", "--others", "--exclude-standard"
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return commit + ("+changes" if changed else "")


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=folder, capture_output=True, text=True, timeout=_GIT_TIMEOUT_S, check=True
    )
    return done.stdout.strip()


def _packages(value: Any) -> Iterator[str]:
    """The top-level packages of all ``_target_`` in nested settings."""
    if isinstance(value, Mapping):
        if isinstance(value.get("_target_"), str):
            yield value["_target_"].partition(".")[0]
        for entry in value.values():
            yield from _packages(entry)
    elif isinstance(value, list):
        for entry in value:
            yield from _packages(entry)


def _version_of(package: str) -> str | None:
    folder = _folder_of(package)
    if folder is None:
        return None
    if {"site-packages", "dist-packages"} & set(folder.parts):
        names = importlib.metadata.packages_distributions().get(package, [])
        return importlib.metadata.version(names[0]) if names else None
    return git_commit(folder)


def _folder_of(package: str) -> Path | None:
    """Where a package or a module lies; None for what has no file, such as a notebook's own classes."""
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    if spec.submodule_search_locations:
        return Path(next(iter(spec.submodule_search_locations))).resolve()
    return Path(os.path.abspath(spec.origin)).parent if spec.origin and os.path.isfile(spec.origin) else None
