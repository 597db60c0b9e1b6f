"""Decentralized and decentralized bilevel learning with real messages; ``docs/python.md`` describes this interface.

``run``, ``load_run`` and ``load_runs`` are imported at their first use: the command line needs none of them.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simulator.interface import run
    from simulator.results import Run, Runs, load_run, load_runs

__all__ = ["Run", "Runs", "load_run", "load_runs", "run"]


def __getattr__(name: str) -> Any:
    if name == "run":
        from simulator.interface import run

        return run
    if name in __all__:
        from simulator import results

        return getattr(results, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
