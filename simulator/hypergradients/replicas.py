"""Several runs at once: every node appears K times in a row, in the problem and on the network.

The rows of all copies are computed and mixed together, which costs little more than one run does while rows are small.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from simulator.network.network import Network
from simulator.problems.base import Problem

ProblemT = TypeVar("ProblemT", bound=Problem)


@contextmanager
def replicated(
    problem: ProblemT,
    network: Network,
    *,
    streams: Sequence[int],
    first_rounds: Sequence[int],
    operations: Sequence[str],
) -> Iterator[tuple[ProblemT, Network]]:
    """The problem and the network of the copies; every process must enter it.

    Args:
        streams: of the copies' minibatches; see :meth:`simulator.problems.base.Problem.replicate`.
        first_rounds: of the copies in the graph schedule; see :meth:`simulator.network.network.Network.replicate`.
        operations: ``first_order`` and ``second_order``, whichever are used; rank 0 chooses how they are computed.
    """
    assert len(streams) == len(first_rounds)
    replicas = problem.replicate(streams)
    choices = network.share(replicas.choose_compute(operations) if network.placement.rank == 0 else None)
    assert isinstance(choices, dict)
    replicas.adopt_compute(choices)
    with network.replicate(first_rounds) as connected:
        yield replicas, connected
