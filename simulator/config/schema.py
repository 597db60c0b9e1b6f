"""The closed root schema: all keys that a configuration has outside its components, and their types."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from omegaconf import MISSING

from simulator.config.hydra_versions import store

DTYPES = ("float32", "float64")
EVALUATE_TRAIN = ("always", "ends")


@dataclass
class CheckpointConfig:
    """Section ``checkpoint``."""

    every: int = MISSING


@dataclass
class BudgetConfig:
    """Section ``budget``: what a run may spend."""

    bytes: float | None = None
    oracle_calls: float | None = None


@dataclass
class LinkConfig:
    """Section ``link``: the model behind ``time/sim_s``."""

    latency_s: float = MISSING
    bandwidth_bytes_per_s: float = MISSING


@dataclass
class Root:
    """All keys of a configuration; a key that is not here is an error. Values are in ``conf/config.yaml``.

    ``choices`` holds the chosen name of every group. It is filled when a configuration is composed
    (:func:`simulator.config.composition.resolve`); users cannot set it.
    """

    choices: dict[str, str | None] = field(default_factory=dict)
    num_nodes: int = MISSING
    num_steps: int = MISSING
    seed: int = MISSING
    max_sim_s: float | None = None
    eval_every: int = MISSING
    eval_every_s: float | None = None
    evaluate_train: str = MISSING
    evaluate_samples: int | None = None
    dtype: str = MISSING
    device: str = MISSING
    compute: str = MISSING
    compute_capture: bool = MISSING
    num_threads: int | None = None
    timeout_s: float = MISSING
    data_root: str = MISSING
    resume: str | None = None
    objective: Any = None
    figures: Any = MISSING
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    budget: BudgetConfig = field(default_factory=BudgetConfig)
    link: LinkConfig = field(default_factory=LinkConfig)
    algorithm: Any = MISSING
    graph: Any = MISSING
    problem: Any = MISSING
    dataset: Any = MISSING
    partition: Any = MISSING
    model: Any = MISSING
    compressor: Any = MISSING
    faults: Any = MISSING
    timing: Any = MISSING
    logger: Any = MISSING
    launcher: Any = MISSING


def register_schema() -> None:
    """Registers the schema with Hydra as ``schema``."""
    store("schema", Root)


def check_keys(config: Mapping[str, Any]) -> None:
    """Checks that no unknown key was appended (``+key=value``); components check their own settings.

    Raises:
        ValueError: naming the key.
    """
    levels = (
        ("", config, [entry.name for entry in fields(Root)]),
        ("checkpoint.", config["checkpoint"], [entry.name for entry in fields(CheckpointConfig)]),
        ("budget.", config["budget"], [entry.name for entry in fields(BudgetConfig)]),
        ("link.", config["link"], [entry.name for entry in fields(LinkConfig)]),
        ("launcher.", config["launcher"], ["num_processes"]),
    )
    for prefix, section, allowed in levels:
        for key in section:
            if key not in allowed:
                raise ValueError(
                    f"{prefix}{key}: there is no such key; {prefix or 'the root.'}* has: {', '.join(allowed)}"
                )
