"""Classification with models of different architectures: node i's model is the one of its size.

Update equations: f_i(x) = mean_j loss(model_k(x_k; a_ij), b_ij) + weight_decay / 2 ||x_k||^2, with k = s(i) the size of
node i and x_k those of the columns of a row x that hold its parameters. The rows of all nodes are as long as the models
of all sizes together, one after the other; a node's other columns are 0, have gradient 0 and never change.
Sizes are assigned in turn: s(i) is the number of nodes before i that have training samples, modulo the number of sizes.
The numbers of these nodes of any two sizes differ by at most one.
Needs: dataset, partition; models of its own instead of model=...
Sends: nothing; problems compute.
Source: the study of clients of different sizes in A. Shamsian et al., "Personalized Federated Learning using
Hypernetworks", ICML 2021 (arXiv 2103.04628), with a third of the nodes of each of three sizes.
Departures: no code of that study is published, and it does not say which node has which size.

Shapes: N local nodes, M all nodes, D parameters of the models of all sizes together.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate, pairwise
from typing import ClassVar, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from simulator.arrays import IntArray
from simulator.problems.base import Facts, Problem, Setting
from simulator.problems.classification import Classification


class Group(NamedTuple):
    """The local nodes of one size.

    Attributes:
        positions: positions of the nodes among the local ones, ascending.
        columns: the columns of a row that hold their model.
        problem: the problem of these nodes, on rows of these columns.
    """

    positions: IntArray
    columns: slice
    problem: Classification


class ModelSizes(Problem):
    """Classification by models of several sizes.

    Args:
        models: by the name of the size, in order; each is called with ``input_shape`` and ``num_classes``.
        batch_size, drop_last, weight_decay, sampling: as :class:`simulator.problems.classification.Classification`.

    Attributes:
        sizes: the names of the sizes.
        columns: the columns of a row that hold the model of each size.
        architectures: for each size, the problem that all local nodes would have with its model.
        size_of_node: the number of every node's size, [M].
    """

    uses_data: ClassVar[bool] = True
    reads_samples: ClassVar[bool] = True
    uses_model: ClassVar[bool] = False
    mixes_architectures: ClassVar[bool] = True

    def __init__(
        self,
        *,
        models: Mapping[str, Callable[..., nn.Module]],
        batch_size: int | None,
        drop_last: bool,
        weight_decay: float,
        sampling: Literal["epochs", "uniform"] = "epochs",
    ) -> None:
        if not models:
            raise ValueError("problem.models: expected at least one size and its model")
        self.models = dict(models)
        self._plain = Classification(
            batch_size=batch_size,
            drop_last=drop_last,
            weight_decay=weight_decay,
            outer_split="train",
            sampling=sampling,
        )

    def setup(self, setting: Setting) -> None:
        self.sizes = tuple(self.models)
        first, *others = self.models.values()
        self._plain.calls = self.calls
        self._plain.setup(replace(setting, build_model=first))
        self.architectures = (self._plain, *(self._plain.with_model(model) for model in others))
        bounds = accumulate((problem.num_params for problem in self.architectures), initial=0)
        self.columns = tuple(slice(start, stop) for start, stop in pairwise(bounds))
        self.num_params = self.columns[-1].stop
        has_samples = (self._plain.sample_counts() > 0).astype(np.int64)
        self.size_of_node = (np.cumsum(has_samples) - has_samples) % len(self.sizes)
        self._group(np.asarray(setting.nodes, dtype=np.int64))

    def _group(self, nodes: IntArray) -> None:
        """Sets the attributes that depend on which nodes are local."""
        self._nodes = nodes
        self._groups = []
        for size, (columns, problem) in enumerate(zip(self.columns, self.architectures, strict=True)):
            positions = np.flatnonzero(self.size_of_node[nodes] == size)
            self._groups.append(Group(positions, columns, problem.part(positions)))

    def choose_compute(self, operations: Sequence[str]) -> dict[str, str]:
        choices: dict[str, str] = {}
        for size, group in zip(self.sizes, self._groups, strict=True):
            chosen = group.problem.choose_compute(operations)
            choices |= {f"{size}/{operation}": choice for operation, choice in chosen.items()}
        return choices

    def adopt_compute(self, choices: Mapping[str, str]) -> None:
        for size, group in zip(self.sizes, self._groups, strict=True):
            named = [(key.rpartition("/"), choice) for key, choice in choices.items()]
            group.problem.adopt_compute({operation: choice for (name, _, operation), choice in named if name == size})

    def init_params(self) -> Tensor:
        """Starting parameters [N, D]; the same at all nodes of a size."""
        rows = [group.problem.init_params() for group in self._groups]
        params = rows[0].new_zeros(len(self._nodes), self.num_params)
        for group, own in zip(self._groups, rows, strict=True):
            params[torch.from_numpy(group.positions), group.columns] = own
        return params

    def add_grad_(
        self, out: Tensor, params: Tensor, hparams: Tensor, step: int | IntArray | None, alpha: float
    ) -> None:
        for positions, columns, problem in self._groups:
            if not len(positions):
                continue
            nodes = torch.from_numpy(positions)
            own = params[nodes, columns]
            gradient = torch.zeros_like(own)
            own_step = step[positions] if isinstance(step, np.ndarray) else step
            problem.add_grad_(gradient, own, hparams[nodes], own_step, alpha)
            out[nodes, columns] += gradient

    def grad_at(self, params: Tensor, hparams: Tensor, steps: IntArray) -> Tensor:
        out = torch.zeros_like(params)
        self.add_grad_(out, params, hparams, steps, 1.0)
        return out

    def batch_sizes(self, step: int | IntArray | None, *, outer: bool = False) -> IntArray:
        return self._plain.batch_sizes(step, outer=outer)

    def epoch_lengths(self) -> IntArray:
        return self._plain.epoch_lengths()

    def sample_counts(self) -> IntArray:
        return self._plain.sample_counts()

    def split_sizes(self) -> Mapping[str, IntArray]:
        return self._plain.split_sizes()

    def evaluate(self, params: Tensor, hparams: Tensor) -> dict[str, Tensor]:
        """As classification, and ``<split>/accuracy/<size>`` of the nodes of each size, NaN at the others."""
        metrics: dict[str, Tensor] = {}
        for positions, columns, problem in self._groups:
            nodes = torch.from_numpy(positions)
            problem.reading = self.reading
            for name, values in problem.evaluate(params[nodes, columns], hparams[nodes]).items():
                metrics.setdefault(name, params.new_full((len(params),), float("nan")))[nodes] = values
        size_of_local = torch.from_numpy(self.size_of_node[self._nodes]).to(params.device)
        for split, counts in self.split_sizes().items():
            for number, size in enumerate(self.sizes):
                accuracy = metrics.get(f"{split}/accuracy")
                if accuracy is not None and counts[self.size_of_node == number].any():
                    metrics[f"{split}/accuracy/{size}"] = accuracy.where(size_of_local == number, torch.nan)
        return metrics

    def facts(self) -> Facts:
        numbers: dict[str, float] = {}
        has_samples = self.sample_counts() > 0
        for number, (size, problem) in enumerate(zip(self.sizes, self.architectures, strict=True)):
            numbers[f"{size}/num_params"] = problem.num_params
            numbers[f"{size}/num_nodes"] = int((has_samples & (self.size_of_node == number)).sum())
        return replace(self._plain.facts(), numbers=numbers)
