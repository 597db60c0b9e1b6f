"""The Base-(k + 1) graph: at most k neighbours per round, and an exact average of all nodes over a period.

Definition, simple version: M without a prime factor above k + 1 is a hyper-hypercube. Else M is written in base
k + 1; its non-zero digits a_1, ..., a_L, of powers p_1 > ... > p_L, cut the nodes into blocks V_l of a_l sub-blocks of
(k + 1)^p_l nodes.

1. Every block runs its hyper-hypercube, again and again, for as many rounds as V_1 needs: all blocks hold their means.
2. In round q = 1, ..., L - 1 after that, every node of the later blocks meets one node of each of V_q's sub-blocks,
   which meets nobody else, with weight alpha / a_q, alpha = |V_q| / (|V_q| + ... + |V_L|): then each sub-block of V_q
   has the mean of all nodes, and so have the later blocks together. V_q's other nodes average in groups of at most
   k + 1.
3. From the next round on, each sub-block of V_q runs its hyper-hypercube, again and again; V_L's sub-blocks, which
   hold the mean already, begin when nothing is left for them to meet. The schedule ends when V_1's are through.

Full version: with M = p q, p the largest divisor without a prime factor above k + 1, p groups of q nodes run the simple
version in parallel, and then hyper-hypercubes of p nodes, one of each group; or the simple version where it is shorter.

Undirected, doubly stochastic; the product over a period is J exactly, and a period has at most 2 log_{k+1} M + 2
rounds.
Sends: at most k messages per node and round.
Source: Takezawa, Sato, Bao, Niwa and Yamada, "Beyond exponential graph", NeurIPS 2023, Algorithms 2 and 3.
Departures: none.
"""

from functools import cached_property

import numpy as np

from simulator.arrays import IntArray
from simulator.graphs.base import Edges, PeriodicGraph
from simulator.graphs.hyper_hypercube import averaging_rounds, fewest_factors
from simulator.graphs.pairs import Pairs, edges_of_pairs, joined, renamed, within_groups


def base_digits(number: int, base: int) -> list[tuple[int, int]]:
    """The non-zero digits of ``number`` with the value of their place, the most significant first."""
    digits, place = [], 1
    while number:
        number, digit = divmod(number, base)
        if digit:
            digits.append((digit, place))
        place *= base
    return digits[::-1]


def smooth_part(number: int, largest: int) -> int:
    """The largest divisor without a prime factor above ``largest``."""
    part, rest = 1, number
    for factor in range(2, min(largest, number) + 1):
        while rest % factor == 0:
            part, rest = part * factor, rest // factor
    return part


def simple_rounds(num_nodes: int, max_degree: int) -> list[Pairs]:
    """The rounds of the simple version."""
    factors = fewest_factors(num_nodes, max_degree + 1)
    if factors is not None:
        return averaging_rounds(factors)
    digits = base_digits(num_nodes, max_degree + 1)
    sizes = [count * place for count, place in digits]
    starts = np.concatenate([[0], np.cumsum(sizes)])
    blocks = [np.arange(start, start + size) for start, size in zip(starts[:-1].tolist(), sizes, strict=True)]
    within = [_rounds_of([block], max_degree) for block in blocks]
    in_parts = [
        _rounds_of(list(block.reshape(count, place)), max_degree)
        for block, (count, place) in zip(blocks, digits, strict=True)
    ]
    last = len(blocks) - 1

    rounds = [joined([cycle[t % len(cycle)] for cycle in within if cycle]) for t in range(len(within[0]))]
    for t in range(1 + len(in_parts[0])):
        running = in_parts[: t if t < last else last + 1]
        parts = [cycle[t % len(cycle)] for cycle in running if cycle]
        if t < last:
            parts += _meetings(blocks[t].reshape(digits[t]), np.concatenate(blocks[t + 1 :]), max_degree)
        rounds.append(joined(parts))
    return rounds


def full_rounds(num_nodes: int, max_degree: int) -> list[Pairs]:
    """The rounds of the full version."""
    simple = simple_rounds(num_nodes, max_degree)
    num_groups = smooth_part(num_nodes, max_degree + 1)
    factors = fewest_factors(num_groups, max_degree + 1)
    assert factors is not None
    groups = np.arange(num_nodes).reshape(num_groups, -1)
    rounds = [
        joined([renamed(pairs, group) for group in groups]) for pairs in simple_rounds(groups.shape[1], max_degree)
    ]
    rounds += [joined([renamed(pairs, across) for across in groups.T]) for pairs in averaging_rounds(factors)]
    return rounds if len(rounds) <= len(simple) else simple


def _rounds_of(sets: list[IntArray], max_degree: int) -> list[Pairs]:
    """The hyper-hypercubes of several disjoint sets of equal size, in parallel."""
    factors = fewest_factors(len(sets[0]), max_degree + 1)
    assert factors is not None, "blocks and sub-blocks have no large prime factor"
    return [joined([renamed(pairs, nodes) for nodes in sets]) for pairs in averaging_rounds(factors)]


def _meetings(parts: IntArray, later: IntArray, max_degree: int) -> list[Pairs]:
    """One round of step 2: the sub-blocks [a, size] of V_q meet the nodes of later blocks, the rest average."""
    count = len(parts)
    alpha = parts.size / (parts.size + len(later))
    met, others = parts[:, : len(later)], parts[:, len(later) :].ravel()
    meetings = (met.ravel(), np.tile(later, count), np.full(met.size, alpha / count))
    whole = len(others) // (max_degree + 1) * (max_degree + 1)
    groups = [others[:whole].reshape(-1, max_degree + 1), others[whole:].reshape(1, -1)]
    return [meetings, *(within_groups(group) for group in groups if group.size)]


class BaseK(PeriodicGraph):
    """The Base-(k + 1) graph.

    Args:
        max_degree: k, the most nodes that a node meets in a round, at least 1.
        simple: whether to use the simple version even where the full one is shorter.

    Raises:
        ValueError: when ``max_degree`` is out of range.
    """

    directed = False
    stochasticity = "double"

    def __init__(self, *, num_nodes: int, max_degree: int, simple: bool = False, seed: int = 0) -> None:
        super().__init__(num_nodes=num_nodes, seed=seed)
        if max_degree < 1:
            raise ValueError(f"graph.max_degree={max_degree}: expected an integer of at least 1")
        self.max_degree = max_degree
        self.simple = simple

    @cached_property
    def _rounds(self) -> list[Pairs]:
        make = simple_rounds if self.simple else full_rounds
        return make(self.num_nodes, self.max_degree) or [joined([])]

    @property
    def period(self) -> int:
        """Rounds until all nodes hold the mean; 1 for a single node."""
        return len(self._rounds)

    def build(self, phase: int) -> Edges:
        """Makes the entries of one round."""
        return edges_of_pairs(self._rounds[phase], self.num_nodes)
