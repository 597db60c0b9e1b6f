"""The part of a local step that the device computes: samples are gathered, and their gradient is added to rows.

The host decides before which samples these are; messages come after. All shapes are fixed, and nothing is read back, so
``torch.compile(fullgraph=True)`` makes one graph of it, and a CUDA graph can replay it, see
:mod:`simulator.compute.capture`.

Shapes: N nodes, D parameters of a row, H hyperparameters, S samples of all nodes, B batch.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from simulator.compute.executors import Batch, Executor
from simulator.padding import copy_as


@dataclass(frozen=True)
class Chosen:
    """What the host has decided about a minibatch.

    Attributes:
        index: position of each sample in its node's split, [N, B].
        weights: weight of each sample's loss, [N, B]; 0 for padding.
        sizes: number of samples of every node, without padding.
    """

    index: Tensor
    weights: Tensor
    sizes: Sequence[int]


@dataclass(frozen=True)
class Samples:
    """The samples of all nodes on the device.

    Attributes:
        inputs: [S, ...]; labels: [S].
        first_rows: where the samples of every node begin, [N, 1].
    """

    inputs: Tensor
    labels: Tensor
    first_rows: Tensor

    def gather(self, chosen: Chosen) -> Batch:
        """The minibatch, with inputs in the type of the weights."""
        rows = chosen.index + self.first_rows
        flat = rows.view(-1)
        inputs = self.inputs.index_select(0, flat).view(*rows.shape, *self.inputs.shape[1:])
        labels = self.labels.index_select(0, flat).view(rows.shape)
        return Batch(inputs.to(chosen.weights.dtype), labels, chosen.weights, chosen.index, chosen.sizes)


@dataclass(frozen=True)
class LocalStep:
    """x <- x + alpha (grad f(z) + c z) on a minibatch, where z may be x.

    Attributes:
        executor: of the data part of f.
        samples: that the minibatch is gathered from.
    """

    executor: Executor
    samples: Samples

    def __call__(
        self,
        out: Tensor,
        params: Tensor,
        hparams: Tensor,
        chosen: Chosen,
        coefficients: Tensor | float,
        alpha: float,
    ) -> None:
        """Adds to ``out`` [N, D], which may be ``params`` [N, D]; ``coefficients`` as in :func:`add_gradient_`."""
        add_gradient_(self.executor, out, params, hparams, [self.samples.gather(chosen)], coefficients, alpha)


def add_gradient_(
    executor: Executor,
    out: Tensor,
    params: Tensor,
    hparams: Tensor,
    batches: Sequence[Batch],
    coefficients: Tensor | float,
    alpha: float,
) -> None:
    """Adds ``alpha`` times the gradient of the batches' loss and of c ||z||^2 / 2 at z = ``params`` to ``out``, [N, D].

    Args:
        coefficients: c, or [N, 1] where nodes differ.
    """
    if out is params:
        if isinstance(coefficients, float) and len(batches) == 1 and alpha * coefficients > -1:
            # (1 + a c) (x + a / (1 + a c) g(x)) = x + a (g(x) + c x), without a copy of x.
            shrink = 1.0 + alpha * coefficients
            executor.add_gradient_(out, params, hparams, batches[0], alpha / shrink)
            if shrink != 1.0:
                out.mul_(shrink)
            return
        params = copy_as(params)
    for batch in batches:
        executor.add_gradient_(out, params, hparams, batch, alpha)
    if isinstance(coefficients, Tensor):
        out.addcmul_(params, coefficients, value=alpha)
    elif coefficients:
        out.add_(params, alpha=alpha * coefficients)


def compiled(step: LocalStep, backend: str = "inductor") -> Callable[..., None]:
    """``step`` as one compiled graph, with the same arguments.

    Executors that differentiate by autograd need a version of PyTorch that can compile ``torch.autograd.grad``. The
    first call raises ``torch._dynamo.exc.Unsupported`` when it would take several graphs.
    """
    import torch._dynamo  # takes more than a second, and only compiling needs it

    function = torch.compile(step.__call__, fullgraph=True, dynamic=False, backend=backend)
    options = {"trace_autograd_ops": True} if hasattr(torch._dynamo.config, "trace_autograd_ops") else {}

    def call(*arguments: Any) -> None:
        with torch._dynamo.config.patch(options):
            function(*arguments)

    return call
