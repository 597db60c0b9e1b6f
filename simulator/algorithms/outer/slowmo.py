"""SlowMo: gossip steps, and after every H of them an exact average and a step with slow momentum.

Update equations, with rate a_r of outer step r; inner steps and their optimizers are in outer_steps.py:
    after every inner step but the last of H:  x_i <- sum_j W_t[i, j] x_j
    after the last one:  c <- (1/M) sum_j x_j,    u_i <- outer_momentum u_i + (z_i - c) / a_r
                         z_i <- z_i - outer_lr a_r u_i,    x_i <- z_i
With sgd on any doubly stochastic graph the base is D-SGD, on graph=self_loop local SGD; with adamw it is their AdamW.
With outer_momentum 0 and outer_lr 1 it is the base over the same graph in graph=gossip_pga.
At an outer step the inner optimizer's moments are set to 0 (buffers=reset), left as they are (keep), or replaced by
their mean over the nodes (average).
State: ``params`` [N, D], ``outer_params`` [N, D], ``outer_momentum`` [N, D]; with sgd and momentum also ``momentum``
[N, D]; with adamw also ``mean`` [N, D], ``mean_square`` [N, D].
Needs: doubly stochastic W.
Sends: D numbers per edge and step. In every H-th step, instead, D numbers from every node to every other one, over the
complete graph, whatever that of the run (``comm/bytes_exact_average``); with buffers=average D more for each moment.
Source: Wang, Tantia, Ballas and Rabbat, ICLR 2020 (arXiv 1910.00643), algorithm 1.
Departures: x is not mixed by W_t right before the exact average, which would not change the average. sgd has heavy-ball
momentum. The base is not push-sum. The complete graph sends (M - 1) D numbers per node, where a ring all-reduce would
send 2 (M - 1) D / M. Faults of the graph do not touch the exact average.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

from simulator.algorithms.base import State
from simulator.algorithms.outer.outer_steps import OuterSteps
from simulator.algorithms.weights import Weights
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
    """

    weights: ClassVar[Weights] = Weights.DOUBLY_STOCHASTIC

    buffers: Literal["reset", "keep", "average"]

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.buffers not in ("reset", "keep", "average"):
            raise ValueError(f"algorithm.buffers={self.buffers!r}: expected reset, keep or average")

    def between_(self, state: State, step: int, network: Network) -> None:
        (state["params"],) = network.mix((state["params"],), step)

    def outer_step_(self, state: State, outer_step: int, problem: Problem, network: Network) -> None:
        everybody = network.kept(Everybody, lambda: Everybody(network)).network
        averaged = ("params", *(self.slots if self.buffers == "average" else ()))
        with everybody.phase("exact_average"):
            means = everybody.mix([state[name] for name in averaged], outer_step)
        state |= dict(zip(averaged, means, strict=True))
        if self.buffers == "reset":
            for slot in self.slots:
                state[slot].zero_()
        z, u, rate = state["outer_params"], state["outer_momentum"], self.rate(outer_step)
        u.mul_(self.outer_momentum).add_(z - state["params"], alpha=1 / rate)
        z.sub_(u, alpha=self.outer_lr * rate)

    def count(self, step: int) -> int:
        return step % self.inner_steps + 1 if self.buffers == "reset" else step + 1
