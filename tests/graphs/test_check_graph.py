"""The check of a schedule that users call: it finds what is wrong."""

import numpy as np
import pytest

from simulator.graphs.base import Edges
from simulator.graphs.ring import Ring
from simulator.testing import check_graph


def test_check_graph_runs_all_checks():
    check_graph(Ring(num_nodes=5, weights="metropolis"))


class Wrong(Ring):
    """A ring in which one thing is wrong."""

    def __init__(self, change, *, keeps):
        super().__init__(num_nodes=5, weights="metropolis")
        self.change, self.keeps, self.calls, self.kept = change, keeps, 0, None

    def edges(self, step):
        self.calls += 1
        if self.kept is None or not self.keeps:
            self.kept = self.change(super().edges(step), self.calls)
        return self.kept


SHIFT = np.roll(np.eye(5), 1, axis=0)


def of_matrix(matrix):
    return lambda *_: Edges.from_matrix(matrix)


@pytest.mark.parametrize(
    ("change", "keeps", "message"),
    [
        (lambda e, _: Edges.from_sorted(e.source, e.target, e.weight * 1.1), True, "the sums of rows are off by 0.1"),
        (lambda e, _: Edges(e.source, e.target, e.weight.copy()), True, "arrays can be written to"),
        (lambda e, _: Edges.from_sorted(e.source[::-1], e.target[::-1], e.weight[::-1]), True, "not sorted by"),
        (lambda e, _: Edges.from_sorted(e.source, e.target, e.weight), False, "built anew"),
        (
            lambda e, n: Edges.from_matrix(np.roll(np.eye(5), n, 0) / 2 + np.eye(5) / 2),
            False,
            "no counterpart|depends on",
        ),
        (of_matrix(np.eye(5)), True, "mixes=True, but connected: False"),
        (of_matrix(np.roll(np.eye(5), 1, axis=0)), True, "a node has no self-loop"),
        (of_matrix((np.roll(np.eye(5), 1, axis=0) + np.eye(5)) / 2), True, "an edge has no counterpart"),
        (of_matrix(np.eye(5) * 2 - 1 / 5), True, "a weight is negative"),
        (of_matrix(SHIFT / 2 + SHIFT.T / 4 + np.eye(5) / 4), True, "weights are not symmetric, and directed is False"),
    ],
)
def test_check_graph_finds_what_is_wrong(change, keeps, message):
    with pytest.raises((AssertionError, ValueError), match=message):
        check_graph(Wrong(change, keeps=keeps))
