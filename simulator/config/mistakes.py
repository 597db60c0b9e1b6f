"""What is wrong with the words of a command line, and what was probably meant."""

import difflib
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

_NO_SUCH_KEY = re.compile(r"([\w.@/]+): there is no such key in this configuration")


def overrides_among(words: Sequence[str]) -> list[str]:
    """The words of a command line that are overrides and not options of Hydra."""
    return [word for word in words if "=" in word and not word.startswith("-")]


def check_words(overrides: Sequence[str]) -> None:
    """Checks that Hydra can read every override.

    Raises:
        ValueError: naming the first that it cannot read, with the form that it can.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    parser = OverridesParser.create()
    for word in overrides:
        try:
            parser.parse_override(word)
        except HydraException as error:
            raise ValueError(_unreadable(word)) from error


def _unreadable(word: str) -> str:
    key, _, value = word.partition("=")
    if "=" not in word or not re.fullmatch(r"[+~]*[\w.@/-]+", key):
        return f"{word}: expected key=value"
    if re.search(r"\s[+~]*[\w.@/]+=", value):
        return f"{word}: several settings in one word; write them as words of their own, without quotes around them"
    quote = "'" if '"' in value else '"'
    if value[:1] in "[{'\"":
        return f"{word}: Hydra cannot read the value; a bracket, brace or quote in it has no partner"
    return (
        f"{word}: Hydra cannot read the value, which has a character with a meaning in its grammar; quote it, for the "
        f"shell as well: {shlex.quote(f'{key}={quote}{value}{quote}')}"
    )


def with_similar_keys(
    line: str, overrides: Sequence[str], compose: Callable[[Sequence[str]], Mapping[str, Any]]
) -> str:
    """The line about an unknown key with the keys that are similar to it; any other line as it is.

    Args:
        compose: composes the configuration without the unknown key, to look the others up.
    """
    unknown = _NO_SUCH_KEY.match(line)
    if unknown is None:
        return line
    try:
        known = list(_keys(compose([each for each in overrides if each.lstrip("+~").split("=")[0] != unknown[1]])))
    except Exception:  # another mistake; the first one is told
        return line
    alike = difflib.get_close_matches(unknown[1], known, n=2, cutoff=0.7)
    return line.replace(unknown[0], f"{unknown[0]}; did you mean {' or '.join(alike)}?") if alike else line


def _keys(settings: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in settings.items():
        if key == "choices" or key.startswith("_"):
            continue
        yield f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _keys(value, f"{prefix}{key}.")
