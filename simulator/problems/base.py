"""The interface of problems. Shapes: N local nodes, M all nodes, D parameters, H hyperparameters of a node.

Every node i has an inner objective f_i(params, hparams_i), and for bilevel problems an outer objective
F_i(params, hparams_i) + r_i(hparams_i). Problems compute; they do not communicate. Whatever is asked of a problem is
counted, see :mod:`simulator.problems.oracle`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn

from simulator.arrays import IntArray
from simulator.data.base import Dataset, Partition
from simulator.problems.oracle import OracleCalls, count_calls


@dataclass(frozen=True)
class Setting:
    """The arguments of :meth:`Problem.setup` that the run chooses.

    Attributes:
        nodes: the nodes of this process; num_nodes: the number of all nodes.
        seed: the run's seed.
        dtype, device: the dtype and device of parameters and data.
        dataset, partition: set when the problem uses data.
        build_model: called with ``input_shape`` and ``num_classes``; set when the problem uses a model.
        compute: ``auto``, ``loop``, ``vmap``, ``chunked`` or ``batched``.
        capture: whether local steps are replayed as CUDA graphs; needs CUDA.
    """

    nodes: range
    num_nodes: int
    seed: int
    dtype: torch.dtype
    device: torch.device
    dataset: Dataset | None = None
    partition: Partition | None = None
    build_model: Callable[..., nn.Module] | None = None
    compute: str = "auto"
    capture: bool = False


@dataclass(frozen=True)
class Reading:
    """What :meth:`Problem.evaluate` reads.

    Attributes:
        train: whether the training set is reported too, if that costs a pass over samples.
        num_samples: samples of a node's split at most, the same ones at every evaluation; None for all.
    """

    train: bool = True
    num_samples: int | None = None


@dataclass(frozen=True)
class Facts:
    """Facts about a problem for reports and figures."""

    label_counts: IntArray | None = None
    numbers: Mapping[str, float] = field(default_factory=dict)


class Problem(ABC):
    """A problem over the nodes of one process.

    ``step`` selects the minibatch of stochastic problems; ``None`` means the full batch.

    Attributes:
        uses_data: whether dataset and partition of the configuration are used.
        uses_model: whether a problem that uses data uses the model of the configuration, too.
        mixes_architectures: whether nodes have models of different architectures, which cannot be averaged.
        reports_iterates: whether the parameters and hyperparameters are few enough to be reported by node.
        reads_samples: whether :meth:`evaluate` passes over samples and can read fewer of them.
        reading: what :meth:`evaluate` reads, see :meth:`evaluating`.
        steps_apart: whether there are :meth:`part` and :meth:`add_grad_at_`, which asynchronous algorithms need.
        num_params: D; num_hparams: H, 0 when there are none. Known after :meth:`setup`.
        calls: what has been asked so far; parts and replicas share it.
    """

    uses_data: ClassVar[bool]
    uses_model: ClassVar[bool] = True
    mixes_architectures: ClassVar[bool] = False
    reports_iterates: ClassVar[bool] = False
    steps_apart: ClassVar[bool] = False
    reads_samples: ClassVar[bool] = False
    reading: Reading = Reading()
    num_params: int
    num_hparams: int = 0
    calls: OracleCalls

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        count_calls(cls)

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        problem = super().__new__(cls)
        problem.calls = OracleCalls()
        return problem

    @abstractmethod
    def setup(self, setting: Setting) -> None:
        """Reads data and builds the model; no data are read or allocated earlier."""

    @abstractmethod
    def init_params(self) -> Tensor:
        """Starting parameters [N, D]; the same row at every node."""

    def init_hparams(self) -> Tensor:
        """Starting hyperparameters [N, H]."""
        return self.init_params().new_zeros(len(self.init_params()), 0)

    @abstractmethod
    def add_grad_(self, out: Tensor, params: Tensor, hparams: Tensor, step: int | None, alpha: float) -> None:
        """Adds ``alpha`` times the gradient of f at ``params`` [N, D] to ``out`` [N, D]; they may be one tensor."""

    def grad(self, params: Tensor, hparams: Tensor, step: int | None) -> Tensor:
        """Gradient of f_i with respect to the parameters, [N, D]."""
        out = torch.zeros_like(params)
        self.add_grad_(out, params, hparams, step, 1.0)
        return out

    def grad_at(self, params: Tensor, hparams: Tensor, steps: IntArray) -> Tensor:
        """As :meth:`grad`, with the minibatch of a step of each node's own.

        Args:
            params, hparams: [N, D] and [N, H].
            steps: [N]; -1 for a node whose gradient is not needed, whose row of the result is then undefined.
        """
        assert (steps == steps[0]).all(), "nodes whose epochs differ need a problem that overrides this"
        return self.grad(params, hparams, int(steps[0]))

    def add_grad_at_(self, out: Tensor, params: Tensor, hparams: Tensor, steps: IntArray, alpha: float) -> None:
        """As :meth:`add_grad_`, with the minibatch of a step of each node's own, [N]."""
        raise ValueError(f"problem: {type(self).__name__} computes one step for all nodes at once only")

    def batch(self, step: int | IntArray, *, outer: bool = False) -> list[IntArray]:
        """The samples that every local node uses at ``step``, as positions in its training set.

        Args:
            step: one for all nodes, or one for each [N].
            outer: the samples of the outer objective at ``step`` instead, as positions in its own set.

        Raises:
            ValueError: when the problem has no samples.
        """
        raise ValueError(f"problem: {type(self).__name__} has no samples")

    def batch_sizes(self, step: int | IntArray | None, *, outer: bool = False) -> IntArray | None:
        """How many samples every local node uses at ``step``, [N]; None when a gradient has no samples.

        Args:
            step: one for all nodes, or one for each [N] with -1 for a node that uses none; None for the full batch.
            outer: of the outer objective.
        """
        return None

    def epoch_lengths(self) -> IntArray:
        """Minibatches in an epoch of every local node, at least 1, [N]."""
        return np.ones(len(self.init_params()), dtype=np.int64)

    def sample_counts(self) -> IntArray | None:
        """Training samples of every node, known on all processes, [M]; None when all nodes have equal weight."""
        return None

    def split_sizes(self) -> Mapping[str, IntArray]:
        """Samples of every node, known on all processes, [M], in ``train``, ``valid`` and ``test``; may be empty."""
        return {}

    @abstractmethod
    def evaluate(self, params: Tensor, hparams: Tensor) -> dict[str, Tensor]:
        """Metrics by name, each with one value per local node, [N]."""

    @contextmanager
    def evaluating(self, reading: Reading) -> Iterator[None]:
        """Inside the block :meth:`evaluate` reads what ``reading`` says."""
        before, self.reading = self.reading, reading
        try:
            yield
        finally:
            self.reading = before

    @contextmanager
    def uncounted(self) -> Iterator[None]:
        """Does not count what is asked inside the block: what serves metrics and references."""
        with self.calls.paused():
            yield

    def replicate(self, streams: Sequence[int]) -> Self:
        """This problem with every local node K times in a row: K runs at once that share their data.

        Args:
            streams: copy k draws its minibatches from stream ``streams[k]``; 0 is that of the node itself.

        Raises:
            ValueError: when the problem cannot.
        """
        raise ValueError(f"problem: {type(self).__name__} cannot be computed for several runs at once")

    def part(self, positions: IntArray) -> Self:
        """This problem for only the local nodes at ``positions`` [n]; it shares the data.

        Raises:
            ValueError: when the problem cannot.
        """
        raise ValueError(f"problem: {type(self).__name__} cannot be computed for some of its nodes")

    def choose_compute(self, operations: Sequence[str]) -> dict[str, str]:
        """Chooses the executors of ``first_order`` and ``second_order`` operations; empty if there is no choice."""
        return {}

    def adopt_compute(self, choices: Mapping[str, str]) -> None:
        """Adopts the executors that another process has chosen."""

    def facts(self) -> Facts:
        """The facts for reports and figures."""
        return Facts()


class BilevelProblem(Problem):
    """A problem whose nodes also have an outer objective."""

    @abstractmethod
    def inner_grads(self, params: Tensor, hparams: Tensor, step: int | None) -> tuple[Tensor, Tensor]:
        """Gradients of f_i with respect to params [N, D] and hparams [N, H]; the first is that of :meth:`grad`."""

    @abstractmethod
    def outer_grads(self, params: Tensor, hparams: Tensor, step: int | None = None) -> tuple[Tensor, Tensor]:
        """Gradients of F_i + r_i with respect to params [N, D] and hparams [N, H].

        The minibatch of a step is drawn independently of that of the inner objective.
        """

    def outer_grad(self, params: Tensor, hparams: Tensor, step: int | None = None) -> Tensor:
        """The first gradient of :meth:`outer_grads`, [N, D]; overridden where it is cheaper alone."""
        return self.outer_grads(params, hparams, step)[0]

    @abstractmethod
    def second_order(self, params: Tensor, hparams: Tensor, vector: Tensor, step: int | None) -> tuple[Tensor, Tensor]:
        """(d2 f_i/dparams2) v_i [N, D] and (d2 f_i/dhparams dparams) v_i [N, H] for ``vector`` v [N, D]."""

    def hvp(self, params: Tensor, hparams: Tensor, vector: Tensor, step: int | None) -> Tensor:
        """Hessian-vector product (d2 f_i/dparams2) v_i, [N, D]."""
        return self.second_order(params, hparams, vector, step)[0]

    def cross_jvp(self, params: Tensor, hparams: Tensor, vector: Tensor, step: int | None) -> Tensor:
        """Mixed product (d2 f_i/dhparams dparams) v_i, [N, H]."""
        return self.second_order(params, hparams, vector, step)[1]
