"""What algorithms share that train locally for an epoch and then average: local SGD, and one average over the graph.

Update equations: a local epoch of node i is one pass of SGD over its own minibatches,
    m_i <- momentum m_i + grad f_i(x_i; batch),    x_i <- x_i - lr m_i.
A node with fewer batches than others is done earlier and rests. m_i stays at its node from round to round; it is
neither sent nor changed when x_i is replaced by an average, as in the code of Marfoq et al., arXiv 2108.10252.
An average over the hub (see graphs/hub.py) is sum_j n_j x_j / sum_j n_j at every node, with n_j the number of training
samples of node j, which everybody knows; on any other graph it is W_t @ X.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from simulator.algorithms.base import Algorithm, State
from simulator.algorithms.weights import Weights
from simulator.arrays import FloatArray, IntArray
from simulator.checks import require_positive, require_within
from simulator.faults.base import FaultyGraph
from simulator.graphs.base import Graph
from simulator.graphs.hub import Hub
from simulator.network.network import Network
from simulator.padding import zeros_as
from simulator.problems.base import Problem
from simulator.schedules import Schedule
from simulator.uploads import upload, upload_like

HUB = 0
"""The node in the middle of a hub schedule."""

Gradient = Callable[[Tensor, IntArray], Tensor]
"""From parameters [N, D] and the minibatch of every node [N] to gradients [N, D]."""


@dataclass(frozen=True, kw_only=True)
class LocalTraining(Algorithm):
    """An algorithm whose step is one round: local SGD, then communication.

    Args:
        lr: learning rate; lr_schedule: its factor in each round.
        local_steps: minibatches per round; None for one epoch of each node's own length.
    """

    weights: ClassVar[Weights] = Weights.ANY
    averages_by_hub: ClassVar[bool] = True

    lr: float
    lr_schedule: Schedule
    local_steps: int | None

    def __post_init__(self) -> None:
        require_positive("algorithm.lr", self.lr)
        require_local_steps(self.local_steps)

    def check_graph(self, graph: Graph) -> None:
        require_averaging(self.name, graph)

    def rate(self, step: int) -> float:
        """The learning rate of round ``step``."""
        return self.lr * self.lr_schedule.factor(step)

    def batches(self, problem: Problem, round_index: int) -> Iterator[IntArray]:
        """The local steps of a round; see :func:`local_batches`."""
        return local_batches(problem, round_index, self.local_steps)


@dataclass(frozen=True, kw_only=True)
class MomentumTraining(LocalTraining):
    """Local training with momentum; the state holds ``params`` [N, D] and, where there is momentum, m as ``momentum``.

    Args:
        momentum: heavy-ball coefficient in [0, 1).
    """

    momentum: float

    def __post_init__(self) -> None:
        super().__post_init__()
        require_momentum(self.momentum)

    def init(self, problem: Problem, network: Network) -> State:
        params = problem.init_params()
        return {"params": params, "momentum": zeros_as(params)} if self.momentum else {"params": params}

    def train_(self, state: State, gradient: Gradient, step: int, problem: Problem) -> None:
        """Runs the local steps of round ``step`` along ``gradient``, in place."""
        train_locally_(
            state["params"],
            gradient,
            self.batches(problem, step),
            lr=self.rate(step),
            momentum=self.momentum,
            velocity=state.get("momentum"),
        )

    def estimate(self, state: State) -> Tensor:
        return state["params"]


def require_local_steps(local_steps: int | None) -> None:
    """Raises ValueError unless there is at least one local step."""
    if local_steps is not None and local_steps < 1:
        raise ValueError(f"algorithm.local_steps={local_steps}: expected at least 1, or null for one local epoch")


def require_momentum(momentum: float) -> None:
    """Raises ValueError unless ``momentum`` lies in [0, 1)."""
    require_within("algorithm.momentum", momentum, "[0, 1)")


def require_averaging(algorithm: str, graph: Graph) -> None:
    """Raises ValueError unless the graph has a hub or is doubly stochastic."""
    if not has_hub(graph) and graph.stochasticity != "double":
        raise ValueError(
            f"algorithm={algorithm} needs graph=hub or doubly stochastic weights, and graph {graph.description} is "
            f"{graph.stochasticity}-stochastic"
        )


def has_hub(graph: Graph) -> bool:
    """Whether the schedule, or the one beneath its faults, is that of a hub."""
    return isinstance(graph, Hub) or (isinstance(graph, FaultyGraph) and has_hub(graph.graph))


def local_batches(problem: Problem, round_index: int, local_steps: int | None) -> Iterator[IntArray]:
    """Yields for each local step of a round which minibatch every node uses, [N]; -1 for nodes that are done."""
    lengths = problem.epoch_lengths()
    if local_steps is not None:
        for position in range(local_steps):
            yield np.full(len(lengths), round_index * local_steps + position)
        return
    for position in range(int(lengths.max(initial=0))):
        yield np.where(position < lengths, round_index * lengths + position, -1)


def gradient_of(problem: Problem, hparams: Tensor) -> Gradient:
    """The gradients of f_i at fixed hyperparameters [N, H], as :func:`train_locally_` takes them."""

    def gradient(params: Tensor, steps: IntArray) -> Tensor:
        return problem.grad_at(params, hparams, steps)

    return gradient


def train_locally_(
    params: Tensor,
    gradient: Gradient,
    batches: Iterator[IntArray],
    *,
    lr: float,
    momentum: float = 0.0,
    velocity: Tensor | None = None,
) -> None:
    """Runs SGD at every node, in place.

    Args:
        params: [N, D].
        gradient: the direction of a step, such as :func:`gradient_of`.
        batches: as from :func:`local_batches`.
        momentum: heavy-ball coefficient; velocity: its state [N, D], None without momentum.
    """
    for steps in batches:
        found = gradient(params, steps)
        trains = upload(steps >= 0, params.device)[:, None]
        everybody = bool((steps >= 0).all())
        if velocity is not None:
            found = found.add_(velocity, alpha=momentum)
            velocity.copy_(found if everybody else torch.where(trains, found, velocity))
        params.sub_(found if everybody else found.mul_(trains), alpha=lr)


def average(rows: Sequence[Tensor], step: int, problem: Problem, network: Network) -> tuple[Tensor, ...]:
    """Averages over the hub, weighted with the nodes' numbers of samples, or returns W_step @ X on other graphs.

    The hub averages over itself and those it hears; a node that does not hear the hub keeps its row.
    """
    if not has_hub(network.graph):
        return network.mix(rows, step)
    inbox = network.exchange(rows, 2 * step)
    to_hub = inbox.target == HUB
    at_hub = [x.clone() for x in rows]
    if to_hub.any():
        weights = sample_weights(problem, inbox.source[to_hub])
        for x, arrived in zip(at_hub, inbox.rows, strict=True):
            x[HUB] = weighted_sum(arrived, inbox.row[to_hub], weights)
    return from_hub(at_hub, step, network)


def sample_weights(problem: Problem, nodes: IntArray) -> FloatArray:
    """The shares of ``nodes`` in their training samples; equal shares where they have none."""
    counts = problem.sample_counts()
    sizes = np.ones(len(nodes)) if counts is None else counts[nodes].astype(np.float64)
    if sizes.sum() == 0:
        sizes += 1.0
    shares: FloatArray = sizes / sizes.sum()
    return shares


def weighted_sum(rows: Tensor, index: IntArray, weights: FloatArray) -> Tensor:
    """The sum of ``weights`` times ``rows[index]``, without a copy of the rows."""
    coefficients = np.zeros(len(rows))
    coefficients[index] = weights
    flat = rows.reshape(len(rows), -1)
    return (upload_like(coefficients, rows) @ flat).reshape(rows.shape[1:])


def from_hub(rows: Sequence[Tensor], step: int, network: Network) -> tuple[Tensor, ...]:
    """Sends the hub's row of every tensor to all nodes; a node that does not hear it keeps its own."""
    inbox = network.exchange(rows, 2 * step + 1)
    heard = inbox.source == HUB
    local = upload(inbox.target[heard] - network.nodes.start, network.device)
    positions = upload(inbox.row[heard], network.device)
    out = []
    for x, arrived in zip(rows, inbox.rows, strict=True):
        new = x.clone()
        new[local] = arrived[positions]
        out.append(new)
    return tuple(out)
