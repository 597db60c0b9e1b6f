"""Chooses the executor that computes the models: the configured one, or the fastest that supports the model.

Shapes: N nodes, D parameters of a row, H hyperparameters.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from simulator.compute.executors import Batch, BatchedExecutor, Executor, Head, LoopExecutor, VmapExecutor
from simulator.rows import ModelFunction
from simulator.tuning import remembered_choice

EXECUTORS: Mapping[str, Callable[[ModelFunction, Head], Executor]] = {
    "loop": LoopExecutor,
    "vmap": VmapExecutor,
    "chunked": partial(VmapExecutor, chunk=4),
    "batched": BatchedExecutor,
}
"""The values of ``compute`` besides ``auto``."""

Sample = Callable[[], tuple[Tensor, Tensor, Batch | None]]
"""Rows [N, D], hyperparameters [N, H] and a minibatch to time executors with; no minibatch where no node has data."""


class ExecutorChoice:
    """The executors of one model: one for ``first_order`` and one for ``second_order`` operations.

    Args:
        requested: ``auto`` or a name of :data:`EXECUTORS`.
        function, head: the model and the loss that are computed.

    Attributes:
        names: the executor of each operation that has been chosen.
    """

    def __init__(self, requested: str, function: ModelFunction, head: Head) -> None:
        self.requested = requested
        self.function = function
        self.head = head
        self.names: dict[str, str] = {}
        self._executors: dict[str, Executor] = {}

    def choose(self, operations: Sequence[str], sample: Sample) -> dict[str, str]:
        """Chooses an executor for each of ``operations`` and returns all choices.

        Raises:
            ValueError: when the requested executor does not exist or cannot compute the model.
        """
        for operation in operations:
            self.names[operation] = self._choose(operation, sample)
        return dict(self.names)

    def adopt(self, names: Mapping[str, str]) -> None:
        """Adopts the choices of another process."""
        self.names.update(names)

    def build(self, operation: str, function: ModelFunction, head: Head) -> Executor:
        """An executor of the kind chosen for ``operation``, for a part of the model."""
        return EXECUTORS[self.names[operation]](function, head)

    def executor(self, operation: str, head: Head | None = None) -> Executor:
        """The chosen executor of an operation, with another head if one is given."""
        key = operation if head is None else f"{operation}/{type(head).__name__}"
        if key not in self._executors:
            self._executors[key] = self.build(operation, self.function, head or self.head)
        return self._executors[key]

    def _candidates(self) -> dict[str, Executor]:
        """The executors that can compute the model."""
        kinds = dict(EXECUTORS)
        if not BatchedExecutor.applies_to(self.function):
            del kinds["batched"]
        if self.function.mixes_samples:
            # The others also compute the padding of smaller batches, which would enter the batch statistics.
            kinds = {"loop": LoopExecutor}
        return {name: kind(self.function, self.head) for name, kind in kinds.items()}

    def _choose(self, operation: str, sample: Sample) -> str:
        """The name of an executor: as requested, or by timing the candidates."""
        candidates = self._candidates()
        if self.requested != "auto":
            self._check_request(candidates)
            return self.requested
        if len(candidates) == 1:
            return next(iter(candidates))
        params, hparams, batch = sample()
        if batch is None:
            # A process that hosts only a hub without data has nothing to time; the others then have two nodes at most.
            return "batched" if "batched" in candidates else "loop"
        out = torch.zeros_like(params)

        def run(executor: Executor) -> None:
            if operation == "first_order":
                executor.add_gradient_(out, params, hparams, batch, 1.0)
            else:
                executor.second_order(params, hparams, batch, params)

        runs = {name: partial(run, executor) for name, executor in candidates.items()}
        if operation == "second_order":
            runs.pop("batched", None)
        return remembered_choice(self._key(operation, params, batch), runs, params.device)

    def _check_request(self, candidates: Mapping[str, Executor]) -> None:
        """Raises ValueError unless the requested executor is among the candidates."""
        if self.requested not in EXECUTORS:
            raise ValueError(f"compute={self.requested!r}: expected auto, {', '.join(EXECUTORS)}")
        if self.requested not in candidates:
            reason = "only models that chain Flatten, Linear and ReLU can be written out"
            if self.function.mixes_samples:
                reason = "models with batch normalisation are computed node by node; use compute=loop or auto"
            raise ValueError(f"compute={self.requested}: {reason}")

    def _key(self, operation: str, params: Tensor, batch: Batch) -> str:
        """The key of a stored timing: everything that the timing depends on."""
        shapes = [list(shape) for shape in self.function.layout.shapes]
        device = (
            str(torch.cuda.get_device_name(params.device)) if params.is_cuda else f"{torch.get_num_threads()} threads"
        )
        return (
            f"{operation} {shapes} head={type(self.head).__name__} nodes={len(params)} "
            f"batch={list(batch.inputs.shape)} {params.dtype} {device} torch={torch.__version__}"
        )
