"""Loss of messages in bursts: the model of Gilbert and Elliott.

Definition: every link j -> i is good or bad. From one round to the next a good link turns bad with probability p
(``good_to_bad``) and a bad one turns good with probability r (``bad_to_good``), whether or not it has a message. In
round t the message is lost with probability ``loss_good`` or ``loss_bad``. In round 0 links have the stationary
distribution, so that in every round
    loss rate = (r loss_good + p loss_bad) / (p + r),    mean number of rounds that a link stays bad = 1 / r,
and the correlation of a link's state over k rounds is (1 - p - r)^k. On a symmetric doubly stochastic schedule a pair
is one link, and its two messages are lost together. For the weights of lost messages, and the stochasticity of the
schedule, see :mod:`simulator.faults.lossy`.
Sends: the messages that are not lost; lost ones are not counted.
Source: Gilbert, "Capacity of a burst-noise channel", Bell System Technical Journal 1960, and Elliott, "Estimates of
error rates for codes on burst-noise channels", there 1963.
Departures: the sender knows of the loss and keeps its share. p + r is at most 1: beyond, losses would repel each other.
"""

import numpy as np

from simulator.arrays import BoolArray, IntArray
from simulator.checks import require_within
from simulator.faults.lossy import LossyLinks
from simulator.faults.two_state import is_in_state_1
from simulator.graphs.base import Graph
from simulator.randomness import uniforms


class BurstLoss(LossyLinks):
    """Loses messages in bursts.

    Args:
        good_to_bad: probability per round that a good link turns bad, in [0, 1).
        bad_to_good: probability per round that a bad link turns good, in (0, 1].
        loss_good, loss_bad: probabilities of losing a message on a good link, in [0, 1), and on a bad one, in [0, 1].
        graph, seed: see the base class.

    Raises:
        ValueError: when a probability is out of range, or good_to_bad + bad_to_good above 1.
    """

    def __init__(
        self,
        *,
        graph: Graph,
        good_to_bad: float,
        bad_to_good: float,
        loss_good: float = 0.0,
        loss_bad: float = 1.0,
        seed: int = 0,
    ) -> None:
        super().__init__(graph=graph, seed=seed)
        require_within("faults.good_to_bad", good_to_bad, "[0, 1)")
        require_within("faults.bad_to_good", bad_to_good, "(0, 1]")
        require_within("faults.loss_good", loss_good, "[0, 1)")
        require_within("faults.loss_bad", loss_bad, "[0, 1]")
        if good_to_bad + bad_to_good > 1:
            raise ValueError(
                f"faults.good_to_bad={good_to_bad}: expected at most 1 - faults.bad_to_good = {1 - bad_to_good:g}"
            )
        self.good_to_bad = good_to_bad
        self.bad_to_good = bad_to_good
        self.loss_good = loss_good
        self.loss_bad = loss_bad

    @property
    def loss_rate(self) -> float:
        """The share of messages that are lost, in every round."""
        change = self.good_to_bad + self.bad_to_good
        return (self.bad_to_good * self.loss_good + self.good_to_bad * self.loss_bad) / change

    def is_lost(self, links: IntArray, step: int) -> BoolArray:
        """The state of every link, and a fresh draw with the probability that belongs to it."""
        bad = is_in_state_1(
            self.seed,
            "fault/link_state",
            links,
            step,
            into=self.good_to_bad,
            out_of=self.bad_to_good,
            starts_stationary=True,
        )
        draws = uniforms(self.seed, "fault/burst", links, step, 1)[:, 0]
        lost: BoolArray = draws < np.where(bad, self.loss_bad, self.loss_good)
        return lost
