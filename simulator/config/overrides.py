"""Overrides of the command line: Python values as such (``model.hidden=[20,30]``, ``resume=null``), and their keys."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_KEY = re.compile(r"[A-Za-z_][\w]*")
_EXPECTED = "expected a string, a number, true or false, None, a list or a dictionary of these"


def as_override(key: str, value: Any) -> str:
    """The override that gives ``key`` this value.

    Args:
        key: a key of the root (``num_steps``), a dotted key (``algorithm.lr``) or a group (``graph``).
        value: a string stays a string, also ``"10"``; numbers and arrays of NumPy are allowed.

    Raises:
        ValueError: for a value of another type.
    """
    try:
        return f"{key}={_quoted(value)}"
    except TypeError as error:
        raise ValueError(f"{key}={value!r}: {_EXPECTED}") from error


def root_of(override: str) -> str:
    """The key of the root that an override belongs to: ``algorithm`` for ``algorithm.lr=0.1``."""
    return override.partition("=")[0].lstrip("+~").partition(".")[0].partition("@")[0]


def _quoted(value: Any) -> str:
    """A value in Hydra's grammar."""
    if hasattr(value, "tolist"):  # NumPy and torch
        value = value.tolist()
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str | Path):
        # A backslash is special only before a quote, and at the end of the string, where one follows.
        text = re.sub(r"(\\*)('|$)", lambda match: match[1] * 2 + ("\\'" if match[2] else ""), str(value))
        return f"'{text}'"
    if isinstance(value, list | tuple):
        return f"[{','.join(map(_quoted, value))}]"
    if isinstance(value, Mapping):
        if not all(isinstance(name, str) and _KEY.fullmatch(name) for name in value):
            raise TypeError
        return f"{{{','.join(f'{name}:{_quoted(entry)}' for name, entry in value.items())}}}"
    raise TypeError
