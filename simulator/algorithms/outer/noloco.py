"""NoLoCo: as DiLoCo, but an outer step meets one random node and pulls the two together, without an average of all.

Update equations of outer step r, after H inner steps without a message (see outer_steps.py):
    u_i <- outer_momentum u_i + outer_lr sum_j W_r[i, j] (x_j - z_j) + consensus_weight (sum_j W_r[i, j] z_j - z_i)
    z_i <- z_i + u_i,    x_i <- z_i
With graph=random_matching, W_r is that of disjoint random pairs: both sums are means over a pair. A node that is left
alone takes its own difference. The mean over nodes of z_i moves as if all were averaged, because that of the consensus
term is 0. With sgd, outer_momentum 0 and outer_lr = consensus_weight = 1 it is D-SGD with H local steps.
State: ``params`` [N, D], ``outer_params`` [N, D], ``outer_momentum`` [N, D]; with sgd and momentum also ``momentum``
[N, D]; with adamw also ``mean`` [N, D], ``mean_square`` [N, D].
Needs: doubly stochastic W; graph=random_matching is that of the paper.
Sends: in every H-th step 2 D numbers per edge, x_j - z_j and z_j.
Source: Kolehmainen, Blagoev, Donaghy, Ersoy and Nies, NoLoCo, arXiv 2506.10911; the equations and the defaults are
those of the authors' released code for groups of two, whose weight of the consensus term is the outer learning rate.
Departures: a re-implementation of the published idea, without the random routes of pipelines. Any doubly stochastic
schedule may take the place of the pairs. W_r is the schedule's round r.
"""

from dataclasses import dataclass
from typing import ClassVar

from simulator.algorithms.base import State
from simulator.algorithms.outer.outer_steps import OuterSteps
from simulator.algorithms.weights import Weights
from simulator.checks import require_positive
from simulator.network.network import Network
from simulator.problems.base import Problem


@dataclass(frozen=True, kw_only=True)
class NoLoCo(OuterSteps):
    """Low-communication training without an all-reduce.

    Args:
        inner_optimizer, lr, lr_schedule, momentum, beta_1, beta_2, epsilon, weight_decay, inner_steps: of the inner
            steps, as :class:`OuterSteps`.
        outer_lr, outer_momentum: of the outer step.
        consensus_weight: of the pull towards the nodes that are met, positive.
    """

    weights: ClassVar[Weights] = Weights.DOUBLY_STOCHASTIC

    consensus_weight: float

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive("algorithm.consensus_weight", self.consensus_weight)

    def outer_step_(self, state: State, outer_step: int, problem: Problem, network: Network) -> None:
        z, u = state["outer_params"], state["outer_momentum"]
        difference, mean = network.mix((state["params"] - z, z), outer_step)
        u.mul_(self.outer_momentum).add_(difference, alpha=self.outer_lr)
        u.add_(mean.sub_(z), alpha=self.consensus_weight)
        z.add_(u)
