"""A random directed graph that is drawn anew in every round.

Definition: a rate R[i, j] ~ U(rate_low, rate_high) is drawn once for every ordered pair of the base graph G(M, p);
in every round j sends to i if u <= R[i, j] with a fresh u ~ U[0, 1), independently; every node keeps its self-loop.
W_t[i, j] = 1 / (number of nodes that hear j, itself included). Column-stochastic (push-sum), directed.
Sends: mean rate * M messages per node and round on average (60 of 99 for 100 nodes at rates 0.4 to 0.8).
Source: the random directed network of Terashita and Hara, arXiv 2210.02129, and its published code
(github.com/hitachi-rd-cv/pdbo-hgp).
Departures: draws are keyed by (seed, step) instead of taken from a global generator; rates are float64, there float32.
"""

from simulator.graphs.base import Stochasticity
from simulator.graphs.random_rates import RandomRates
from simulator.graphs.weights import WeightRule, out_degree


class RandomDirected(RandomRates):
    """Every ordered pair is up or down on its own; see the base class for the arguments."""

    stochasticity: Stochasticity = "column"

    @property
    def directed(self) -> bool:
        """False for a single node, which has no edge."""
        return self.num_nodes > 1

    @property
    def weight_rule(self) -> WeightRule:
        """1/out-degree."""
        return out_degree

    @property
    def draw_of(self) -> None:
        """Every ordered pair has a draw of its own."""
        return None

    @property
    def num_draws(self) -> int:
        """One per ordered pair."""
        return len(self.base[0])
