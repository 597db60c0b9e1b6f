"""DiLoCo: many local steps, an average of what they did, and an outer step with Nesterov momentum.

Update equations of outer step r, after H inner steps without a message (see outer_steps.py):
    d_i <- z_i - the average of all x_j
    u_i <- outer_momentum u_i + d_i,    z_i <- z_i - outer_lr (d_i + outer_momentum u_i),    x_i <- z_i
The average over the hub is sum_j n_j x_j / sum_j n_j with n_j the number of training samples of node j, and
sum_j W_r[i, j] x_j elsewhere. Where it is exact, as on graph=hub or fully_connected, all z_i are one z, and d is the
average of the nodes' differences z - x_j. Elsewhere the mean over nodes of z_i moves as on the complete graph.
With sgd, outer_momentum 0 and outer_lr 1 it is D-SGD with H local steps.
State: ``params`` [N, D], ``outer_params`` [N, D], ``outer_momentum`` [N, D]; with sgd and momentum also ``momentum``
[N, D]; with adamw also ``mean`` [N, D], ``mean_square`` [N, D].
Needs: graph=hub or doubly stochastic W; graph=fully_connected is that of the paper.
Sends: in every H-th step D numbers per edge; over the hub D numbers up and D down for every node but the hub.
Source: Douillard et al., DiLoCo, arXiv 2311.08105, algorithm 1. A re-implementation of the published idea: the order of
steps, Nesterov momentum and the defaults of lr, inner_steps, outer_lr and outer_momentum are those of public
replications; the other defaults were not compared.
Departures: over the hub nodes count by their samples. What crosses is x_j, not z - x_j, and the graph may be
sparse. All nodes start at the same parameters, which are not trained beforehand. W_r is the schedule's round r.
"""

from dataclasses import dataclass
from typing import ClassVar

from simulator.algorithms.base import State
from simulator.algorithms.federated.local_training import average, require_averaging
from simulator.algorithms.outer.outer_steps import OuterSteps
from simulator.algorithms.weights import Weights
from simulator.graphs.base import Graph
from simulator.network.network import Network
from simulator.problems.base import Problem


@dataclass(frozen=True, kw_only=True)
class DiLoCo(OuterSteps):
    """Distributed low-communication training.

    Args:
        inner_optimizer, lr, lr_schedule, momentum, beta_1, beta_2, epsilon, weight_decay, inner_steps: of the inner
            steps, as :class:`OuterSteps`.
        outer_lr, outer_momentum: of the outer step, with Nesterov momentum.
    """

    weights: ClassVar[Weights] = Weights.ANY
    averages_by_hub: ClassVar[bool] = True

    def check_graph(self, graph: Graph) -> None:
        require_averaging(self.name, graph)

    def outer_step_(self, state: State, outer_step: int, problem: Problem, network: Network) -> None:
        (averaged,) = average((state["params"],), outer_step, problem, network)
        z, u = state["outer_params"], state["outer_momentum"]
        difference = z - averaged
        u.mul_(self.outer_momentum).add_(difference)
        z.sub_(difference.add_(u, alpha=self.outer_momentum), alpha=self.outer_lr)
