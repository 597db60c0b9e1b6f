"""What random undirected graphs share: drawn until connected, once or anew in every round."""

from abc import abstractmethod
from typing import ClassVar

import numpy as np

from simulator.graphs.base import Edges
from simulator.graphs.support import Support, draw_until_connected
from simulator.graphs.undirected import UndirectedGraph


class RandomGraph(UndirectedGraph):
    """A connected draw of a random graph.

    Draw number k of round t has a generator of its own, keyed by (seed, stream, t, k); a static graph is that of
    round 0.

    Args:
        redraw: false: one graph for all rounds; true: an independent one in every round.
        weights, gamma: as in the base class.

    Raises:
        ValueError: when an argument is out of range; from ``edges``, when none of 1000 draws is connected.
    """

    stream: ClassVar[str]

    def __init__(
        self,
        *,
        num_nodes: int,
        redraw: bool = False,
        weights: str = "metropolis",
        gamma: float = 0.95,
        seed: int = 0,
    ) -> None:
        super().__init__(num_nodes=num_nodes, weights=weights, gamma=gamma, seed=seed)
        self.redraw = redraw

    @property
    def period(self) -> int | None:
        """1, or None where every round is drawn anew."""
        return None if self.redraw else 1

    @property
    @abstractmethod
    def advice(self) -> str:
        """The end of the error message when no draw is connected."""

    @abstractmethod
    def draw(self, rng: np.random.Generator) -> Support:
        """Draws a graph, connected or not."""

    def support(self) -> Support:
        """The draw of round 0."""
        return self._draw_round(0)

    def edges(self, step: int) -> Edges:
        """The entries of W_step."""
        return self.weigh(self._draw_round(step)) if self.redraw else super().edges(step)

    def _draw_round(self, step: int) -> Support:
        return draw_until_connected(
            self.draw, self.num_nodes, seed=self.seed, stream=self.stream, step=step, advice=self.advice
        )
