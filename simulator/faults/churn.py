"""Nodes that leave and come back.

Definition: round t is at simulated time t round_s. A node leaves at rate ``leaves_per_hour`` while it is there, and
comes back after an exponential time of mean ``mean_away_s``. Looked at once a round, presence is a Markov chain of two
states, which is drawn exactly. All nodes are there in round 0. Or ``path`` is a CSV file ``node,leave_s,return_s``. A
node that is away neither sends nor receives nor computes, and its row of the state stays as it is. For the weights of
its messages, and the stochasticity of the schedule, see :mod:`simulator.faults.lossy`.
What becomes of x_i and w_i (w_i = 1 without push-sum), in the round in which a node leaves or is back:
    mass=keeps        it takes its share along. Sums over all nodes, absent ones too, change by gradients only. Those
                      who stay work with the mean of their own shares.
    mass=hands_over   it sends (x_i, w_i) to a present out-neighbour, which adds them. The sums over the nodes that are
                      there change by gradients only. Push-sum only.
    returns_with=own  its row counts again as it was. After mass=keeps no mean is moved. After mass=hands_over the share
                      is there twice, and the mean is pulled towards the old x_i / w_i.
    returns_with=neighbour   a present in-neighbour j sends its (x_j, w_j). After mass=keeps, x_i <- w_i x_j / w_j: the
                      weight is kept, and the mean moves by what i had not shared. After mass=hands_over j gives half of
                      its share away (1 / (m + 1) each where m nodes ask it), and the sums do not change.
Where there is no such neighbour in that round, a node keeps its share, or returns with its own row. With hands_over and
neighbour, the sums over the nodes that are there then change by its share.
Sends: the messages between nodes that are there; one row for each hand-over and each return with a neighbour's state.
Source: standard; on-off processes of this kind are the usual model of churn in peer-to-peer systems.
Departures: rounds have one length here, also where nodes have clocks (``timing``): clocks depend on who is there, so
they cannot say who is. The clock of a node that is away stands still and nobody waits for it; a node that is back goes
on when the first of the others begins the round.
"""

import math
from functools import cached_property

import numpy as np

from simulator.arrays import BoolArray, FloatArray, IntArray
from simulator.checks import require_at_least, require_positive
from simulator.faults.absences import read_absences
from simulator.faults.lossy import LossyGraph
from simulator.faults.two_state import is_in_state_1
from simulator.graphs.base import Edges, Graph
from simulator.randomness import uniforms

_SECONDS = 3600.0


class Churn(LossyGraph):
    """Takes nodes away for some rounds.

    Args:
        round_s: simulated seconds of a round, positive.
        leaves_per_hour: rate at which a node that is there leaves, at least 0.
        mean_away_s: mean seconds until it is back, positive.
        path: CSV file of absences instead of random ones, or None.
        mass: ``keeps`` or ``hands_over``.
        returns_with: ``own`` or ``neighbour``.
        graph, seed: see the base class.

    Raises:
        ValueError: when a setting is not allowed.
    """

    def __init__(
        self,
        *,
        graph: Graph,
        round_s: float,
        leaves_per_hour: float,
        mean_away_s: float,
        path: str | None = None,
        mass: str = "keeps",
        returns_with: str = "own",
        seed: int = 0,
    ) -> None:
        super().__init__(graph=graph, seed=seed)
        require_positive("faults.round_s", round_s)
        require_at_least("faults.leaves_per_hour", leaves_per_hour, 0)
        require_positive("faults.mean_away_s", mean_away_s)
        for name, value, allowed in (
            ("mass", mass, ("keeps", "hands_over")),
            ("returns_with", returns_with, ("own", "neighbour")),
        ):
            if value not in allowed:
                raise ValueError(f"faults.{name}={value!r}: expected {' or '.join(allowed)}")
        self.round_s = round_s
        self.leaves_per_hour = leaves_per_hour
        self.mean_away_s = mean_away_s
        self.path = path
        self.mass = mass
        self.returns_with = returns_with

    def check(self) -> None:
        """Reads the file now instead of at the first use.

        Raises:
            ValueError: when it is missing or wrong.
        """
        _ = self._absences

    @cached_property
    def _absences(self) -> FloatArray | None:
        return None if self.path is None else read_absences(self.path, self.num_nodes)

    def is_away(self, step: int) -> BoolArray:
        """Which nodes are away in round ``step``, shape [M]; nobody is before round 0."""
        away = np.zeros(self.num_nodes, dtype=np.bool_)
        if step < 0:
            return away
        if self._absences is not None:
            node, leave_s, return_s = self._absences.T
            now = step * self.round_s
            away[node[(leave_s <= now) & (now < return_s)].astype(np.int64)] = True
            return away
        leaves, returns = self.leaves_per_hour / _SECONDS, 1.0 / self.mean_away_s
        change = -math.expm1(-(leaves + returns) * self.round_s)
        return is_in_state_1(
            self.seed,
            "fault/churn",
            np.arange(self.num_nodes),
            step,
            into=change * leaves / (leaves + returns),
            out_of=change * returns / (leaves + returns),
            starts_stationary=False,
        )

    def is_down(self, edges: Edges, step: int) -> BoolArray:
        """An edge needs both of its ends."""
        away = self.is_away(step)
        either: BoolArray = away[edges.source] | away[edges.target]
        return either

    def heirs(self, step: int) -> tuple[IntArray, IntArray]:
        """The nodes that have left in ``step`` and a present out-neighbour of each; without those that have none."""
        away, before = self.is_away(step), self.is_away(step - 1)
        edges = self.graph.edges(step)
        return self._pick(edges.source, edges.target, away & ~before, ~away, step)

    def donors(self, step: int) -> tuple[IntArray, IntArray]:
        """The nodes that are back in ``step`` and a present in-neighbour of each that was not away before."""
        away, before = self.is_away(step), self.is_away(step - 1)
        edges = self.graph.edges(step)
        return self._pick(edges.target, edges.source, before & ~away, ~away & ~before, step)

    def _pick(
        self, node: IntArray, other: IntArray, asks: BoolArray, helps: BoolArray, step: int
    ) -> tuple[IntArray, IntArray]:
        """For every node that asks, one of its edges to a node that helps, drawn evenly."""
        fits = asks[node] & helps[other] & (node != other)
        node, other = node[fits], other[fits]
        draws = uniforms(self.seed, "fault/churn_neighbour", node * self.num_nodes + other, step, 1)[:, 0]
        order = np.lexsort((draws, node))
        nodes, first = np.unique(node[order], return_index=True)
        return nodes, other[order][first]
