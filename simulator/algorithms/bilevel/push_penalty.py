"""The penalty method on directed and time-varying graphs, by push-sum gradient tracking.

Update equations: the step of penalty_method.py with the gossip of push_sum_gossip.py. With messages that are late
(faults=message_delay), a round takes in the shares of earlier rounds of the same variable that arrive in it, a delay
counting rounds of this variable; the trackers keep the means of their gradients over nodes and messages in flight.
Needs: column-stochastic P (doubly stochastic is a special case: all weights stay 1); any schedule; a bilevel problem.
Sends: 2 H + 1 numbers per edge and step and 4 D + 1 numbers per edge and inner step; K inner steps more before step 0.
State: ``hparams`` [N, H] for X, ``hparams_weight`` [N] for w, ``hparam_tracker`` [N, H], ``surrogate`` [N, H],
``vectors`` [N, 4, D] for Y and its trackers, ``solvers_weight`` [N] for p, ``gradients`` [N, 2, D]; with
delays of up to L rounds also
``in_flight/hparams`` [N, L, H], ``in_flight/hparams_weight`` [N, L], ``in_flight/hparam_tracker`` [N, L, H],
``in_flight/vectors`` [N, L, 4, D], ``in_flight/solvers_weight`` [N, L].
Source: gradient tracking by push-sum is Push-DIGing, Nedic, Olshevsky and Shi, SIAM Journal on Optimization 2017
(arXiv 1607.03218); its use in all three levels of a penalty method is this project's.
Departures: none.
"""

from dataclasses import dataclass
from typing import ClassVar

from simulator.algorithms.bilevel.penalty_method import PenaltyMethod
from simulator.algorithms.bilevel.push_sum_gossip import PushSumGossip
from simulator.algorithms.weights import Weights


@dataclass(frozen=True, kw_only=True)
class PushPenalty(PenaltyMethod):
    """The penalty method by push-sum; arguments as in :class:`PenaltyMethod`."""

    weights: ClassVar[Weights] = PushSumGossip.weights
    takes_late_messages: ClassVar[bool] = True

    @property
    def gossip(self) -> PushSumGossip:
        return PushSumGossip()
