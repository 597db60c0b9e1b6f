"""What the battery runs on a device: configurations, some of them with data that are made here."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scripts.compare_commits import BILEVEL, CASES, LAYERS, LINEAR, PEERS, SHARED, STATIC
from simulator import config
from simulator.config import Components
from simulator.config.composition import CONF
from simulator.data.base import Dataset, Samples
from simulator.simulation import Simulation
from simulator.testing.dealt_data import Dealt, Fixed

ALGORITHMS = sorted(path.stem for path in (CONF / "algorithm").glob("*.yaml"))
SIZES = ((7, 5, 4), (12, 4, 2), (3, 4, 3), (20, 6, 3), (5, 3, 3))
FEW = {"inner_steps": 2, "adjoint_steps": 2, "neumann_terms": 3}
QUICK = "algorithm.outer_lr=0.05"
# Every problem, with an algorithm that uses most of it.
ON_PROBLEMS = {
    "bilevel_quadratic": f"algorithm=madsbo {STATIC} {QUICK}",
    "coefficient_toy": f"algorithm=f2sa {STATIC} {QUICK}",
    "coefficient_tuning": f"algorithm=c2dfb {STATIC} {QUICK} compressor=top_k",
    "hyper_cleaning": f"algorithm=madsbo {STATIC} {QUICK} model=logistic_regression",
    "hyper_representation": f"algorithm=madsbo {STATIC} {QUICK} model=mlp model.hidden=[4]",
    "logit_scaling": f"algorithm=hgp {PEERS} algorithm.depth=3 {QUICK} model=logistic_regression",
    "sample_masks": f"algorithm=hgp {PEERS} algorithm.depth=3 {QUICK} model=logistic_regression",
    "noisy_regression": f"algorithm=sgp {PEERS}",
    "quadratic": f"algorithm=hgp {PEERS} algorithm.depth=3 {QUICK}",
}
"""Problems that no case of :data:`CASES` has, by name."""


@dataclass(frozen=True)
class Case:
    """A configuration, and data that replace its own if there are any.

    ``change`` is called with every simulation before it starts, to break it.
    """

    settings: dict[str, Any]
    data: Callable[[], tuple[Dataset, Dealt]] | None = None
    evaluates: bool = True
    change: Callable[[Simulation], object] = field(default=lambda simulation: None)

    @classmethod
    def of(cls, words: str, data: Callable[[], tuple[Dataset, Dealt]] | None = None) -> "Case":
        """A configuration by its overrides; minibatches have three samples."""
        settings = config.compose([*SHARED.split(), *words.split()])
        if "batch_size" in settings["problem"]:
            settings["problem"]["batch_size"] = 3  # of six, so that orders are drawn anew within the steps
        settings["algorithm"] |= {key: steps for key, steps in FEW.items() if key in settings["algorithm"]}
        return cls(settings, data)

    def components(self) -> Components:
        """New components of the configuration."""
        built = config.build(self.settings)
        if self.data is None:
            return built
        dataset, partition = self.data()
        return replace(built, dataset=dataset, partition=partition)


class Images(Dataset):
    """Random images of 1x20x20 pixels that are shifted and mirrored in training."""

    def load(self) -> Samples:
        rng = np.random.default_rng(0)
        count = sum(map(sum, SIZES))
        images, labels = rng.integers(0, 256, (count, 1, 20, 20), dtype=np.uint8), rng.integers(0, 3, count)
        given = (torch.from_numpy(images), torch.from_numpy(labels))
        return Samples(*given, num_classes=3, num_train=count, mean=(0.4,), std=(0.3,), crop_padding=2)


def images() -> tuple[Dataset, Dealt]:
    return Images(), Dealt(SIZES)


def sparse_features() -> tuple[Dataset, Dealt]:
    return Fixed(sum(map(sum, SIZES)), sparse=True), Dealt(SIZES)


Cases = Iterator[tuple[str, Callable[[], Case]]]
"""Names, and what makes the case of each."""


def algorithm_cases() -> Cases:
    """Every algorithm, and variants of some after a dot."""
    for name in sorted({*ALGORITHMS, *CASES}):
        words = f"algorithm={name.partition('.')[0]} {CASES.get(name, f'{LINEAR} {PEERS}')}"
        yield name, partial(Case.of, words)


def further_cases() -> Cases:
    """Problems, executors and kinds of data that the algorithms' own cases leave out."""
    for problem, words in ON_PROBLEMS.items():
        few = f"problem={problem} dataset=synthetic_mixture dataset.num_train=30 partition=as_given {words}"
        # Every evaluation of the toy problem solves its inner problem, which takes long.
        yield problem, partial(_evaluated, few, evaluates=problem != "coefficient_toy")
    for compute in ("loop", "chunked", "batched"):
        yield f"sgp by {compute}", partial(Case.of, f"algorithm=sgp {LAYERS} {PEERS} compute={compute}")
    for compute in ("loop", "chunked"):
        words = f"algorithm=hgp {BILEVEL} {PEERS} algorithm.depth=3 {QUICK} compute={compute}"
        yield f"hgp by {compute}", partial(Case.of, words)
    for model in ("cnn_mnist3", "cnn_dropout"):
        words = f"algorithm=sgp problem=classification {PEERS} model={model}"
        yield f"{model} on images", partial(Case.of, words, images)
    for name in ("c2dfb", "madsbo"):
        words = f"algorithm={name} {STATIC} {QUICK} problem=coefficient_tuning"
        words += " compressor=top_k" * (name == "c2dfb")
        yield f"{name} on sparse features", partial(Case.of, words, sparse_features)


def _evaluated(words: str, *, evaluates: bool) -> Case:
    return replace(Case.of(words), evaluates=evaluates)


def broken_cases() -> Cases:
    """Faults that must be found."""
    words = f"algorithm=sgp {LINEAR} {PEERS}"
    for name, change in BREAKING.items():
        yield name, partial(_broken, words, change)


def _broken(words: str, change: Callable[[Simulation], object]) -> Case:
    return replace(Case.of(words), change=change)


def misplace(simulation: Simulation) -> None:
    """The first parameters are multiplied with ones that are on the CPU."""
    init = simulation.problem.init_params
    setattr(simulation.problem, "init_params", lambda: init() * torch.ones(5, 1, dtype=torch.float64))  # noqa: B010


def read_in_step(simulation: Simulation) -> None:
    """Every mixing looks at a norm."""
    mix = simulation.network.mix

    def look_and_mix(rows: tuple[Tensor, ...], step: int) -> Any:
        float(rows[0].norm())
        return mix(rows, step)

    setattr(simulation.network, "mix", look_and_mix)  # noqa: B010


def add_in_any_order(simulation: Simulation) -> None:
    """Every mixing adds two rows to the first one."""
    mix = simulation.network.mix

    def add_and_mix(rows: tuple[Tensor, ...], step: int) -> Any:
        twice = torch.zeros(2, dtype=torch.int64, device=rows[0].device)
        return mix((rows[0].index_add(0, twice, rows[0][1:3]), *rows[1:]), step)

    setattr(simulation.network, "mix", add_and_mix)  # noqa: B010


BREAKING: dict[str, Callable[[Simulation], object]] = {
    "a tensor on the CPU": misplace,
    "a number read in a step": read_in_step,
    "rows added in any order": add_in_any_order,
}
"""Faults by name. On a GPU the last one shows only by chance."""
