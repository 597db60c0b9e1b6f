"""The contract of an algorithm: frozen hyperparameters, a state of rows, and a step from one state to the next.

The state is a dictionary of tensors whose first axis is the local node, so that it can be saved by node and resumed on
another number of processes. What only a hub holds has names that begin with ``hub/``: one row on the process that hosts
node 0, none elsewhere. Messages in flight have names that begin with ``mail/``, see :mod:`simulator.network.mailboxes`.

Ownership: a step consumes the state that it is given. It may overwrite these tensors, return them, or neither; whoever
calls it must not use the old state afterwards. No tensor of a state is shared with the problem or with the algorithm.

The module or class docstring of an algorithm lists what is in its state on a line such as
    State: ``params`` [N, D], ``push_sum_weight`` [N]; with momentum also ``momentum`` [N, D].
After a semicolon stand keys that only some settings have. N, M, D and H are those of simulator/problems/base.py: local
nodes, all nodes, parameters and hyperparameters; the module explains other letters.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from inspect import isabstract
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy.typing as npt
import torch
from torch import Tensor

from simulator.algorithms.weights import Weights
from simulator.arrays import IntArray
from simulator.graphs.base import Graph
from simulator.network.network import Network
from simulator.problems.base import Problem

State = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Report:
    """The results of an algorithm after its last step.

    Attributes:
        numbers: for ``summary.json``; plain values, lists and dictionaries of them.
        arrays: for ``report.npz``.
        figures: by file name without suffix; each is called with the path to draw to, and returns it or None.
    """

    numbers: Mapping[str, Any] = field(default_factory=dict)
    arrays: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)
    figures: Mapping[str, Callable[[Path], Path | None]] = field(default_factory=dict)


class Algorithm(ABC):
    """A decentralized algorithm.

    Attributes:
        weights: what W_t must be; every concrete class has it, see :mod:`simulator.algorithms.weights`.
        push_sum_alternative: which algorithm of the configuration does the same work with column-stochastic weights,
            for the message that refuses them; empty for none.
        uses_compressor: whether the configuration's compressor is used.
        needs_bilevel: whether the problem must have an outer objective and hyperparameters.
        personalizes: whether the nodes' parameters or predictions differ on purpose.
        selection: the metric at whose best value ``best/...`` of the summary is taken.
        shares_hparams: whether all nodes agree on the hyperparameters in the limit.
        keeps_agreement: whether nodes that agree keep their values while all gradients are 0. Where False, messages are
            inexact even then, and only the mean over nodes is kept.
        keeps_models_apart: whether models of different nodes are never mixed, so that they may differ in architecture.
        takes_late_messages: whether its rounds are push-sum by :meth:`Network.push`, so that messages may be late.
        survives_churn: whether nodes may leave for some steps: each step takes the round of its own number, and the
            state is ``params``, with push-sum ``push_sum_weight``, and entries that are a node's own.
        admits_attackers: whether some nodes may send other rows than they should: all it sends are rows of numbers, by
            :meth:`Network.mix` or :meth:`Network.exchange`.
        asynchronous: whether nodes have local steps of their own instead of common ones, see
            :mod:`simulator.algorithms.asynchronous.base`.
        averages_by_hub: whether it is meant for a hub, although it runs on other graphs too.
        studies_graph: whether a run studies the graph alone, so that made-up labels may stand in for those of data.
    """

    weights: ClassVar[Weights]
    push_sum_alternative: ClassVar[str] = ""
    uses_compressor: ClassVar[bool] = False
    needs_bilevel: ClassVar[bool] = False
    personalizes: ClassVar[bool] = False
    selection: ClassVar[str] = "valid/accuracy"
    shares_hparams: ClassVar[bool] = False
    keeps_agreement: ClassVar[bool] = True
    keeps_models_apart: ClassVar[bool] = False
    takes_late_messages: ClassVar[bool] = False
    survives_churn: ClassVar[bool] = False
    admits_attackers: ClassVar[bool] = False
    asynchronous: ClassVar[bool] = False
    averages_by_hub: ClassVar[bool] = False
    studies_graph: ClassVar[bool] = False

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if not isabstract(cls) and not hasattr(cls, "weights"):
            raise TypeError(
                f"{cls.__name__} must say what it needs of the mixing matrix, for example "
                "weights: ClassVar[Weights] = Weights.DOUBLY_STOCHASTIC; see simulator/algorithms/weights.py"
            )

    @property
    def name(self) -> str:
        """What messages call the algorithm: its name in the configuration, or else that of its module."""
        name: str = getattr(self, "_name", type(self).__module__.rpartition(".")[-1])
        return name

    def named(self, name: str) -> Self:
        """This algorithm, with the name by which the configuration has chosen it."""
        object.__setattr__(self, "_name", name)  # algorithms are frozen dataclasses
        return self

    def check_graph(self, graph: Graph) -> None:
        """Raises ValueError when this algorithm cannot run on ``graph`` for another reason than its weights.

        The weights are checked before; see :func:`simulator.algorithms.weights.check_weights`.
        """

    def check_problem(self, problem: Problem) -> None:
        """Raises ValueError when this algorithm cannot solve ``problem``, which is not set up yet."""

    def remark(self, num_steps: int) -> str:
        """What is seldom meant about a run of so many steps, as one line; empty for nothing."""
        return ""

    @abstractmethod
    def init(self, problem: Problem, network: Network) -> State:
        """The state before step 0, in new tensors; sends nothing."""

    @abstractmethod
    def step(self, state: State, step: int, problem: Problem, network: Network) -> State:
        """The state after ``step``, which counts from 0; ``state`` must not be used afterwards."""

    def step_until(self, state: State, step: int, problem: Problem, network: Network, until_s: float | None) -> State:
        """As :meth:`step`, but asynchronous algorithms stop at simulated time ``until_s`` if the step is not over then.

        The same step is given again to go on.
        """
        return self.step(state, step, problem, network)

    def resume(self, state: State, step: int, problem: Problem, network: Network) -> None:
        """Called once after a checkpoint of ``step`` completed steps was read, before anything else."""

    def prepare_evaluation(self, state: State, problem: Problem, network: Network) -> State:
        """The state that :meth:`estimate`, :meth:`hparams` and :meth:`diagnose` get in an evaluation, on every process.

        The only way to evaluate other models than those of the state: models that nodes adapt or receive before they
        are evaluated. It must not change ``state`` or the ledger, so it sends by the collectives for metrics alone.
        """
        return state

    @abstractmethod
    def estimate(self, state: State) -> Tensor:
        """The parameters [N, D] that the nodes would use now."""

    def hparams(self, state: State, problem: Problem) -> Tensor:
        """The hyperparameters [N, H] that go with :meth:`estimate`."""
        return problem.init_hparams()

    def evaluated_nodes(self, problem: Problem) -> IntArray | None:
        """The nodes whose models are evaluated, ascending, None for all; the metrics of the others are NaN."""
        return None

    def evaluates_after(self, step: int) -> bool:
        """Whether something is complete after ``step`` that must be reported, whatever ``eval_every`` says."""
        return False

    def diagnose(
        self, state: State, step: int, problem: Problem, network: Network, *, is_last: bool
    ) -> Mapping[str, float | Tensor]:
        """Further metrics after ``step``: numbers, or one value per local node [N].

        Does not change the state. The names must not be those of the problem's metrics.
        """
        return {}

    def finish(self, state: State, step: int, problem: Problem, network: Network) -> State:
        """Called once after the last step, before the last evaluation; what it returns is reported, not saved."""
        return state

    def report(self, state: State, step: int, problem: Problem, network: Network) -> Report:
        """Called once after :meth:`finish`, on every process: studies of the final state. What it sends counts."""
        return Report()


@torch.no_grad()
def consensus_distance(params: Tensor, network: Network) -> float:
    """Root of the mean over honest nodes of ||x_i - mean x||^2."""
    mean = network.mean(params)
    squares = (params - mean).square().sum(dim=1)
    return float(network.mean(squares).sqrt())
