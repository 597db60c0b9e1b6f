"""The comparison of losses with n_W and gaps: a gamma that losses were made from is found again, ranks are SciPy's."""

import math

import networkx as nx
import numpy as np
import pytest
from scipy.stats import spearmanr

from simulator.topology.correlation import Measured, correlate
from simulator.topology.walk import SymmetricWalk
from tests.topology.schedules import metropolis

NUM_NODES, GAMMA = 16, 0.93
MATRICES = {
    "alone": np.eye(NUM_NODES),
    "star": metropolis(nx.star_graph(NUM_NODES - 1)),
    "ring": metropolis(nx.cycle_graph(NUM_NODES)),
    "barbell": metropolis(nx.barbell_graph(NUM_NODES // 2, 0)),
    "hypercube": metropolis(nx.convert_node_labels_to_integers(nx.hypercube_graph(4))),
    "complete": np.full((NUM_NODES, NUM_NODES), 1 / NUM_NODES),
}


def variances(matrix, gamma):
    """Of the walk at every node, from its covariance W W' + gamma W W W' W' + ..."""
    squared = matrix @ matrix.T
    return np.linalg.solve(np.eye(len(matrix)) - gamma * squared, squared).diagonal()


def neighbors(matrix, gamma, worst=False):
    found = variances(matrix, gamma)
    return 1 / ((1 - gamma) * (found.max() if worst else found.mean()))


def gap(matrix):
    return 1 - np.sort(np.abs(np.linalg.eigvalsh(matrix)))[-2]


def measured(label, matrix, loss):
    return Measured(label=label, loss=loss, walks=[SymmetricWalk(matrix)], gaps={"spectral_gap": gap(matrix)})


def curve(num_neighbors):
    """Loss of exact averages: 1, 0.6, 0.4, 0.3, 0.25 at 1, 2, 4, 8, 16, linear in log2 between them."""
    return float(np.interp(np.log2(num_neighbors), np.arange(5), [1, 0.6, 0.4, 0.3, 0.25]))


def schedules(**changes):
    found = {
        label: measured(label, matrix, changes.get(label, curve(neighbors(matrix, GAMMA))))
        for label, matrix in MATRICES.items()
    }
    for size in (2, 4, 8):
        found[f"complete {size}"] = measured(f"complete {size}", np.full((size, size), 1 / size), curve(size))
    return list(found.values())


def test_the_decay_that_losses_were_made_from_is_found():
    found = correlate(schedules(), 0.951)
    assert found.compared == list(range(6))
    assert found.reference == pytest.approx({1: 1.0, 2: 0.6, 4: 0.4, 8: 0.3, 16: 0.25}, rel=1e-12)
    assert found.fit.gamma == pytest.approx(GAMMA, abs=1e-5)
    np.testing.assert_allclose(found.fit.num_neighbors, [neighbors(m, GAMMA) for m in MATRICES.values()], rtol=1e-3)
    assert found.fit.error < 1e-5
    assert found.ranks["effective_num_neighbors@gamma=fitted"] == pytest.approx(-1.0)


def test_ranks_are_those_of_spearman():
    losses = {"star": 0.28, "ring": 0.5, "barbell": 0.5, "hypercube": 0.9}
    found = correlate(schedules(**losses), 0.9)
    wanted = [losses.get(label, curve(neighbors(matrix, GAMMA))) for label, matrix in MATRICES.items()]
    for name, quantity in (
        ("effective_num_neighbors@gamma=0.9", lambda m: neighbors(m, 0.9)),
        ("effective_num_neighbors_worst@gamma=0.9", lambda m: neighbors(m, 0.9, worst=True)),
        ("spectral_gap", gap),
    ):
        # Rounding must not order what is equal: all nodes of a schedule on its own have n_W = 1.
        values = [round(quantity(matrix), 9) for matrix in MATRICES.values()]
        assert found.ranks[name] == pytest.approx(spearmanr(wanted, values).statistic), name
    assert -0.9 < found.ranks["spectral_gap"] < 0.9


def test_draws_of_a_random_graph_are_averaged():
    first, second = MATRICES["ring"], MATRICES["hypercube"]
    both = Measured(label="both", loss=0.0, walks=[SymmetricWalk(first), SymmetricWalk(second)], gaps={})
    assert both.num_neighbors(0.9) == pytest.approx((neighbors(first, 0.9) + neighbors(second, 0.9)) / 2)
    worst = (neighbors(first, 0.9, worst=True) + neighbors(second, 0.9, worst=True)) / 2
    assert both.num_neighbors_worst(0.9) == pytest.approx(worst)


def test_without_two_exact_averages_nothing_is_fitted():
    found = correlate([each for each in schedules() if "complete" not in each.label], 0.951)
    assert found.fit is None
    assert found.reference == {1: 1.0}
    assert set(found.ranks) == {
        "effective_num_neighbors@gamma=0.951",
        "effective_num_neighbors_worst@gamma=0.951",
        "spectral_gap",
    }


def test_many_nodes_on_their_own_are_a_better_reference_than_one():
    single = Measured(label="single", loss=5.0, walks=[SymmetricWalk(np.ones((1, 1)))], gaps={"spectral_gap": 1.0})
    for some in ([*schedules(), single], [single, *schedules()]):
        assert correlate(some, 0.951).reference[1] == 1.0
    others = [each for each in schedules() if each.label != "alone"]
    assert correlate([*others, single], 0.951).reference[1] == 5.0


def test_an_unknown_gap_is_left_out():
    some = schedules()[:4]
    some[1].gaps["spectral_gap"] = math.nan
    rest = [each for index, each in enumerate(some) if index != 1]
    expected = spearmanr([each.loss for each in rest], [each.gaps["spectral_gap"] for each in rest]).statistic
    assert correlate(some, 0.951).ranks["spectral_gap"] == pytest.approx(expected)


def test_what_cannot_be_compared_is_refused():
    some = schedules()
    with pytest.raises(ValueError, match="1 schedules of 16 nodes: expected two or more"):
        correlate([some[0], some[6]], 0.951)
    twin = measured("twin", MATRICES["complete"], 0.1)
    with pytest.raises(ValueError, match="complete and twin both average 16 nodes exactly"):
        correlate([*some, twin], 0.951)
    with pytest.raises(ValueError, match=r"gamma=1"):
        correlate(some, 1.0)
