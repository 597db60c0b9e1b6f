"""SlowMo: gossip steps, and after every H of them an exact average and a step with slow momentum.

Update equations, with rate a_r of outer step r; inner steps and their optimizers are in outer_steps.py:
    after every inner step but the last of H:  x_i <- sum_j W_t[i, j] x_j
    after the last one:  c <- (1/M) sum_j x_j,    u_i <- outer_momentum u_i + (z_i - c) / a_r
                         z_i <- z_i - outer_lr a_r u_i,    x_i <- z_i
With sgd on any doubly stochastic graph the base is D-SGD, on graph=self_loop local SGD; with adamw it is their AdamW.
With outer_momentum 0, outer_lr 1 and buffers=keep it is the base over the same graph in graph=gossip_pga.
At an outer step the inner optimizer's moments are set to 0 (buffers=reset), left as they are (keep), or replaced by
their mean over the nodes (average).
State: ``params`` [N, D], ``outer_params`` [N, D], ``outer_momentum`` [N, D]; with sgd and momentum also ``momentum``
[N, D]; with adamw also ``mean`` [N, D], ``mean_square`` [N, D].
Needs: doubly stochastic W.
Sends: D numbers per edge and step. In every H-th step, instead, D numbers from every node to every other one, whatever
the graph of the run, or with exact_average=hub from every node to node 0 and back (``comm/bytes_exact_average``); with
buffers=average D more for each moment.
Source: Wang, Tantia, Ballas and Rabbat, ICLR 2020 (arXiv 1910.00643), algorithm 1. A re-implementation of the published
idea: the outer step is that of a public implementation, torchdistx; the inner steps and the defaults were not compared.
Departures: x is not mixed by W_t right before the exact average, which would not change the average. sgd has heavy-ball
momentum. The base is not push-sum. The paper's all-reduce is M (M - 1) messages over the complete graph, or 2 (M - 1)
over a hub, which is what a ring all-reduce sends in all. Faults of the graph do not touch the exact average.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from simulator.algorithms.base import State
from simulator.algorithms.exchange.mixers import average_at_server
from simulator.algorithms.outer.outer_steps import OuterSteps
from simulator.algorithms.weights import Weights
from simulator.checks import require_one_of
from simulator.graphs.fully_connected import FullyConnected
from simulator.network.network import Network
from simulator.problems.base import Problem


class Everybody:
    """The nodes of a network, joined by the complete graph.

    Args:
        network: connects the same nodes by the graph of the run.
    """

    def __init__(self, network: Network) -> None:
        self.network = network.over(FullyConnected(num_nodes=network.num_nodes))


@dataclass(frozen=True, kw_only=True)
class SlowMo(OuterSteps):
    """Slow momentum.

    Args:
        inner_optimizer, lr, lr_schedule, momentum, beta_1, beta_2, epsilon, weight_decay, inner_steps: of the inner
            steps, as :class:`OuterSteps`.
        outer_lr: slow learning rate (alpha in the paper).
        outer_momentum: slow momentum coefficient (beta in the paper), in [0, 1).
        buffers: what becomes of the inner optimizer's moments at an outer step: ``reset``, ``keep`` or ``average``.
        exact_average: how all nodes average: over the graph ``fully_connected``, or over a ``hub``, which is node 0.
    """

    weights: ClassVar[Weights] = Weights.DOUBLY_STOCHASTIC

    buffers: Literal["reset", "keep", "average"]
    exact_average: Literal["fully_connected", "hub"]

    def __post_init__(self) -> None:
        super().__post_init__()
        require_one_of("algorithm.buffers", self.buffers, ("reset", "keep", "average"))
        require_one_of("algorithm.exact_average", self.exact_average, ("fully_connected", "hub"))

    def between_(self, state: State, step: int, network: Network) -> None:
        (state["params"],) = network.mix((state["params"],), step)

    def outer_step_(self, state: State, outer_step: int, problem: Problem, network: Network) -> None:
        averaged = ("params", *(self.slots if self.buffers == "average" else ()))
        means = self._means([state[name] for name in averaged], outer_step, network)
        state |= dict(zip(averaged, means, strict=True))
        if self.buffers == "reset":
            for slot in self.slots:
                state[slot].zero_()
        z, u, rate = state["outer_params"], state["outer_momentum"], self.rate(outer_step)
        u.mul_(self.outer_momentum).add_(z - state["params"], alpha=1 / rate)
        z.sub_(u, alpha=self.outer_lr * rate)

    def _means(self, rows: Sequence[Tensor], outer_step: int, network: Network) -> Sequence[Tensor]:
        """The means over all nodes of each of ``rows`` [N, D], at every node, [N, D]."""
        if self.exact_average == "hub":
            with network.phase("exact_average"):
                return [average_at_server(x, outer_step, network) for x in rows]
        everybody = network.kept(Everybody, lambda: Everybody(network)).network
        with everybody.phase("exact_average"):
            return everybody.mix(rows, outer_step)

    def count(self, step: int) -> int:
        return step % self.inner_steps + 1 if self.buffers == "reset" else step + 1
