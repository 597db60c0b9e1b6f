"""The configuration: its schema, its composition from YAML, the components built from it, and the checks across them.

User errors are reported here as one line, before the first step.
"""

from simulator.config.checks import check, check_choices, check_graph, check_hyperparameters, finish_graph
from simulator.config.components import Components, build
from simulator.config.composition import Composed, compose, composer, resolve
from simulator.config.fitting import fit_defaults
from simulator.config.schema import check_keys, register_schema

__all__ = [
    "Components",
    "Composed",
    "build",
    "check",
    "check_choices",
    "check_graph",
    "check_hyperparameters",
    "check_keys",
    "compose",
    "composer",
    "finish_graph",
    "fit_defaults",
    "register_schema",
    "resolve",
]
