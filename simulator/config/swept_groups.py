"""Words of a multirun that sweeps over components: ``-m algorithm=dsgd,led algorithm.local_steps=10``.

Before the first job Hydra composes the configuration without what is swept. ``algorithm.local_steps`` would then belong
to the default algorithm, which may not have it. As a choice of one value it waits for the jobs, too.
"""

from collections.abc import Sequence

ANYTHING = "experiment"
"""The group whose choices change components of every other group."""


def settings_as_choices(words: Sequence[str]) -> list[str]:
    """The words of a command line; in a multirun, settings of a component that is swept become choices of one value."""
    if not {"-m", "--multirun"} & set(words):
        return list(words)
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    parser = OverridesParser.create()

    def is_sweep(word: str) -> bool:
        try:
            return "=" in word and not word.startswith(("-", "~")) and parser.parse_override(word).is_sweep_override()
        except HydraException:
            return False

    swept = {word.partition("=")[0].lstrip("+") for word in words if is_sweep(word)}

    def as_choice(word: str) -> str:
        key, _, value = word.partition("=")
        group, dot, _ = key.lstrip("+").partition(".")
        choice = f"{key}=choice({value})"
        waits = dot and (group in swept or ANYTHING in swept) and group != "hydra"
        return choice if waits and not is_sweep(word) and is_sweep(choice) else word

    return [as_choice(word) for word in words]
