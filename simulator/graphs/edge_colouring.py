"""Colouring the edges of a graph, so that edges of one colour never meet: a decomposition into matchings.

With D the largest degree, D + 1 colours always suffice (Vizing), and D are needed at least. Misra and Gries, "A
constructive proof of Vizing's theorem", Information Processing Letters 1992, colour one edge after the other:

A colour is free at a node when none of its edges has it. To colour the edge (u, v), a fan of u is grown: neighbours v
= f_0, f_1, ..., f_k of u such that the colour of (u, f_{i+1}) is free at f_i. With c free at u and d free at f_k, the
path of edges coloured d, c, d, ... that starts at u has its two colours exchanged: now d is free at u. Some f_i in
the part of the fan that is still a fan has d free as well; every edge (u, f_j), j < i, takes the colour of the next,
and (u, f_i) takes d.
"""

from itertools import pairwise

import numpy as np

from simulator.arrays import IntArray


def matchings(low: IntArray, high: IntArray, num_nodes: int) -> list[tuple[IntArray, IntArray]]:
    """Decomposes the edges low - high, given once each, into at most D + 1 matchings, the largest first."""
    colouring = _Colouring(num_nodes, 1 + int(np.bincount(np.concatenate([low, high]), minlength=1).max()))
    for u, v in zip(low.tolist(), high.tolist(), strict=True):
        colouring.add(u, v)
    colour = np.array(
        [colouring.colour[u][v] for u, v in zip(low.tolist(), high.tolist(), strict=True)], dtype=np.int64
    )
    sizes = np.bincount(colour, minlength=1)
    order = np.argsort(-sizes, kind="stable")
    return [(low[colour == each], high[colour == each]) for each in order.tolist() if sizes[each]]


class _Colouring:
    """Edges with colours, seen from both of their nodes."""

    def __init__(self, num_nodes: int, num_colours: int) -> None:
        self.num_colours = num_colours
        self._taken = [0] * num_nodes  # the colours of a node's edges, as bits
        self.colour: list[dict[int, int]] = [{} for _ in range(num_nodes)]  # by neighbour
        self.neighbour: list[dict[int, int]] = [{} for _ in range(num_nodes)]  # by colour

    def add(self, u: int, v: int) -> None:
        """Colours the edge u - v; others may change their colours."""
        fan = self._fan(u, v)
        c, d = self._free(u), self._free(fan[-1])
        self._exchange(u, d, c)
        # The first node of the part that is still a fan at which d is free.
        last = 0
        while d in self.neighbour[fan[last]]:
            last += 1
            assert self.colour[u][fan[last]] not in self.neighbour[fan[last - 1]]
        taken = [self.colour[u][node] for node in fan[1 : last + 1]] + [d]
        for node in fan[1 : last + 1]:
            self._clear(u, node)
        for node, colour in zip(fan, taken, strict=False):
            self._set(u, node, colour)

    def _free(self, node: int) -> int:
        taken = self._taken[node]
        return (~taken & (taken + 1)).bit_length() - 1

    def _fan(self, u: int, v: int) -> list[int]:
        fan = [v]
        left = dict(self.colour[u])
        while True:
            taken = self.neighbour[fan[-1]]
            for node, colour in left.items():
                if colour not in taken:
                    fan.append(node)
                    del left[node]
                    break
            else:
                return fan

    def _exchange(self, start: int, first: int, second: int) -> None:
        """Exchanges the two colours on the path from ``start`` that begins with ``first``."""
        path = [start]
        colour = first
        while colour in self.neighbour[path[-1]]:
            path.append(self.neighbour[path[-1]][colour])
            colour = second if colour == first else first
        edges = list(pairwise(path))
        old = [self.colour[a][b] for a, b in edges]
        for a, b in edges:
            self._clear(a, b)
        for (a, b), colour in zip(edges, old, strict=True):
            self._set(a, b, second if colour == first else first)

    def _set(self, a: int, b: int, colour: int) -> None:
        for one, other in ((a, b), (b, a)):
            self.colour[one][other] = colour
            self.neighbour[one][colour] = other
            self._taken[one] |= 1 << colour

    def _clear(self, a: int, b: int) -> None:
        for one, other in ((a, b), (b, a)):
            colour = self.colour[one].pop(other)
            del self.neighbour[one][colour]
            self._taken[one] &= ~(1 << colour)
