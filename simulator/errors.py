"""Errors as the one line with which a launch ends."""

import os
import re

SHOWS_TRACEBACKS = os.environ.get("HYDRA_FULL_ERROR") == "1"
"""Whether the user asked for tracebacks when the command started."""


class RunError(RuntimeError):
    """A run that failed on some process, as one line for the user."""


def describe_error(error: BaseException) -> str:
    """One line for an error: as it is where it was written for users, with its type where nobody expected it."""
    module = type(error).__module__.partition(".")[0]
    text = str(error)
    if module in ("hydra", "omegaconf"):
        return _describe_composition(text, str(error.__cause__ or ""))
    text = " ".join(text.split())
    written_for_users = isinstance(error, ValueError | FloatingPointError | RunError | TimeoutError | ConnectionError)
    if written_for_users or hasattr(error, "peer"):
        return text
    return f"{type(error).__name__}: {text} (HYDRA_FULL_ERROR=1 shows where)"


def _describe_composition(text: str, reason: str) -> str:
    """Shortens what Hydra and OmegaConf say, over many lines, about a command line."""
    unknown = re.search(
        r"Could not find '([^']+)'\s*(?:Available options in '[^']+':\s*(.*?))?\s*(?:Config search|\Z)", text, re.S
    )
    if unknown:
        group, _, choice = unknown[1].rpartition("/")
        options = ", ".join((unknown[2] or "").split())
        listed = f"; choose one of: {options}" if options else ""
        return f"{group}={choice}: there is no such file in conf/{group}/{listed}" if group else f"no config {choice}"
    key = re.search(r"Could not override '([^']+)'", text)
    if key and "No match in the defaults list" not in text:
        return f"{key[1]}: there is no such key in this configuration (python launch.py --cfg job lists all)"
    added = re.search(
        r"Could not append value to config.*?Key '([^']+)'|Key '([^']+)' (?:not in|is not in)", text, re.S
    )
    if added:
        name = added[1] or added[2]
        return f"{name}: there is no such key in this configuration (python launch.py --cfg job lists all)"
    value = re.search(r"Error merging override (\S+)", text)
    if value:
        return f"{value[1]}: {' '.join(reason.splitlines()[:1])}"
    return " ".join(
        re.sub(r"\s*(full_key|object_type|reference_type)[:=].*|See https://hydra.cc\S+.*", "", text).split()
    )
