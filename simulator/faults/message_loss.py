"""Random loss of single messages, independent from round to round.

Definition: in round t the message j -> i is lost if u < probability with a fresh u ~ U[0, 1) for (j, i, t). On a
symmetric doubly stochastic schedule a pair draws one u, and its two messages are lost together. For the weights of
lost messages, and the stochasticity of the schedule, see :mod:`simulator.faults.lossy`.
Sends: the messages that are not lost; lost ones are not counted.
Source: symmetric link failures of Kar and Moura, "Distributed consensus algorithms in sensor networks with imperfect
communication", IEEE TSP 2009, and packet drops of Hadjicostis, Vaidya and Dominguez-Garcia, "Robust distributed average
consensus via exchange of running sums", IEEE TAC 2016.
Departures: the sender knows of the loss and keeps its share; in the latter, running sums make up for losses that
neither end notices.
"""

from simulator.arrays import BoolArray, IntArray
from simulator.faults.lossy import LossesAtRandom, LossyLinks
from simulator.randomness import uniforms


class MessageLoss(LossesAtRandom, LossyLinks):
    """Loses messages; see the base class for the arguments."""

    def is_lost(self, links: IntArray, step: int) -> BoolArray:
        """A fresh draw for every link and round."""
        lost: BoolArray = uniforms(self.seed, "fault/message", links, step, 1)[:, 0] < self.probability
        return lost
